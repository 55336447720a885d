"""A run that takes seconds, and what it told, for the tests of training in several files."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from detection.cli.arguments import resume_settings
from detection.models.snapshots import run_folder, snapshot_card
from detection.settings import TrainSettings
from detection.training.log import TrainingLog
from detection.training.loop import train
from inspection.models import backbones
from tests.conftest import SmallSet

EPOCHS, STEPS = 3, 2


class Recorder(TrainingLog):
    """Keeps what is said, and the loss of every step."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.said: list[str] = []
        self.losses: list[float] = []
        self.rates: list[float] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, losses, learning_rate, *arguments, **options) -> None:
        self.losses.append(losses["loss"])
        self.rates.append(learning_rate)
        super().step(losses, learning_rate, *arguments, **options)


def make_light(patch: pytest.MonkeyPatch) -> None:
    """One block a stage and no graph: heads and norms are what is shipped."""
    import tensorflow as tf

    patch.setitem(backbones._DEPTHS, "resnet18", ((1, 1, 1, 1), False))
    tf.config.run_functions_eagerly(True)


@contextlib.contextmanager
def light_network():
    import tensorflow as tf

    with pytest.MonkeyPatch.context() as patch:
        make_light(patch)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)


def settings_for(data: SmallSet, snapshots: Path, **options) -> TrainSettings:
    values = {
        "annotations": data.annotations,
        "images": data.images,
        "snapshots": snapshots,
        "run": "run",
        "backbone": "resnet18",
        "weights": "none",
        "channels": 32,
        "size": 96,
        "crop": 64,
        "augment": "heavy",
        "anchors": "default",
        "epochs": EPOCHS,
        "steps": STEPS,
        "batch_size": 2,
        "warmup": 0,
        "seed": 5,
    }
    return TrainSettings(**(values | options))


def resumed_log(snapshots: Path, **changes) -> Recorder:
    """Goes on with the newest run as `--resume` does."""
    settings = resume_settings(TrainSettings(snapshots=snapshots, **changes))
    log = Recorder()
    train(settings, resume=True, log=log)
    return log


def resumed(snapshots: Path, **changes) -> list[float]:
    """Goes on with the newest run, and returns the losses of its steps."""
    return resumed_log(snapshots, **changes).losses


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hidden_files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def assert_goes_on_equally(found: list[float], unbroken) -> None:
    """The last steps' losses, to the relative 1e-5 that is promised."""
    expected = unbroken[1].losses
    assert found
    np.testing.assert_allclose(found, expected[-len(found) :], rtol=1e-5)


def assert_complete(folder: Path) -> None:
    """What a run leaves behind, also after it was resumed."""
    assert [int(row["epoch"]) for row in log_rows(folder)] == list(range(1, EPOCHS + 1))
    assert all(row["val_map"] for row in log_rows(folder))
    minutes = [float(row["minutes"]) for row in log_rows(folder)]
    assert minutes == sorted(minutes)
    state = run_folder(folder).load_state()
    assert (state.epoch, state.step) == (EPOCHS, EPOCHS * STEPS)
    best = snapshot_card(folder / "best.keras").provenance
    assert (best.epoch, best.score) == (state.best_epoch, state.best_score)
    assert (folder.parent / "best.keras").read_bytes() == (folder / "best.keras").read_bytes()
    assert not list(folder.glob("interrupted*"))
