"""A training that is killed, interrupted or runs out of disk goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from detection.models.detector import Detector
from detection.models.snapshots import run_folder
from detection.training.log import TrainingLog
from detection.training.loop import train
from inspection.data.images import write_image
from inspection.data.voc import write_voc
from inspection.errors import InputError
from inspection.training.loop import TrainingStopped
from tests.conftest import CLASSES, SmallSet
from tests.detection.small_runs import (
    EPOCHS,
    STEPS,
    Recorder,
    assert_complete,
    assert_goes_on_equally,
    hidden_files,
    log_rows,
    resumed,
    resumed_log,
    settings_for,
)
from tests.places import ROOT

CHILD = """
import sys
import pytest
from pathlib import Path
from tests.detection.small_runs import light_network, settings_for
from tests.conftest import SmallSet
from detection.training.loop import train
annotations, images, snapshots = map(Path, sys.argv[1:])
with light_network():
    train(settings_for(SmallSet(annotations, images, snapshots), snapshots))
"""


def test_run_killed_at_any_point_goes_on_equally(light, data, unbroken, tmp_path):
    """kill -9 at a moment of chance after the first epoch; then --resume."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, data.annotations, data.images, tmp_path],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    folder = tmp_path / "run"
    delay = random.SystemRandom().uniform(0, 3)
    try:
        while not (folder / "state.json").exists():
            if child.poll() is not None:
                pytest.fail(child.stderr.read().decode()[-3000:])
            time.sleep(0.05)
        time.sleep(delay)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    killed_at = run_folder(folder).load_state().step
    if killed_at < EPOCHS * STEPS:
        found = resumed(tmp_path)
        assert len(found) == EPOCHS * STEPS - killed_at, f"after {delay:.2f} s"
        assert_goes_on_equally(found, unbroken)
    assert_complete(folder)


@contextlib.contextmanager
def after_call(owner, name: str, number: int, action):
    """Does something right after the n-th call of a method since training began."""
    function, started = getattr(owner, name), []
    start = TrainingLog.start

    def counted_start(*arguments, **options):
        started.append(0)
        return start(*arguments, **options)

    def wrapped(*arguments, **options):
        result = function(*arguments, **options)
        if started:
            started[-1] += 1
            if started[-1] == number:
                action()
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLog, "start", counted_start)
        patch.setattr(owner, name, wrapped)
        yield


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def interrupted(data, snapshots: Path, owner, name: str, number: int) -> Recorder:
    """A run that Ctrl-C reaches at one point; it must say how to go on."""
    log = Recorder()
    # A shell ignores Ctrl-C for what it runs in the background, and so would the tests there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with after_call(owner, name, number, interrupt), pytest.raises(KeyboardInterrupt):
            train(settings_for(data, snapshots), log=log)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert any("--resume" in text and "run" in text for text in log.said)
    return log


def test_ctrl_c_inside_an_epoch_loses_no_step(light, data, unbroken, tmp_path):
    """The signal arrives while the third step computes; its weights are already changed."""
    first = interrupted(data, tmp_path, keras.Model, "train_on_batch", 3)
    assert len(first.losses) == 3
    rest = resumed(tmp_path)
    assert_goes_on_equally(rest, unbroken)
    assert len(first.losses) + len(rest) == EPOCHS * STEPS
    assert_complete(tmp_path / "run")
    # The epoch's mean covers the steps before and after the interrupt.
    for row, wanted in zip(log_rows(tmp_path / "run"), log_rows(unbroken[0]), strict=True):
        assert float(row["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-4)


@pytest.mark.slow
def test_ctrl_c_while_validating_loses_no_epoch(light, data, unbroken, tmp_path):
    interrupted(data, tmp_path, Detector, "forward", 3)  # two images an epoch: in the second
    rest = resumed(tmp_path)
    assert_goes_on_equally(rest, unbroken)
    assert_complete(tmp_path / "run")


def no_space(*_arguments, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


def stopped(data, snapshots: Path, owner, name: str, number: int) -> str:
    """A run whose disk is full from the n-th call on; what it stopped with."""
    function, calls = getattr(owner, name), []

    def filling_up(*arguments, **options):
        calls.append(name)
        return (no_space if len(calls) >= number else function)(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, filling_up)
        with pytest.raises(TrainingStopped) as caught:
            train(settings_for(data, snapshots, keep=1), log=Recorder())
    return str(caught.value)


def test_full_disk_while_saving_harms_no_earlier_snapshot(light, data, unbroken, tmp_path):
    message = stopped(data, tmp_path, keras.Model, "save", 2)
    assert "No space left" in message
    assert "--resume" in message
    folder = tmp_path / "run"
    assert not hidden_files(folder)
    assert run_folder(folder).load_state().epoch == 1
    Detector.load(folder / "epoch_001.keras")
    rest = resumed(tmp_path)
    assert len(rest) == (EPOCHS - 1) * STEPS
    assert_goes_on_equally(rest, unbroken)
    assert_complete(folder)
    # --keep 1 of the first start holds for the rest of the run.
    assert [path.name for path in folder.glob("epoch_*.keras")] == ["epoch_003.keras"]


@pytest.mark.slow
def test_full_disk_while_copying_the_best_is_reported_and_made_good(
    light, data, unbroken, tmp_path
):
    """The epoch counts as finished by then; its best.keras must not stay behind."""
    message = stopped(data, tmp_path, shutil, "copyfile", 2)  # the first copies the split
    assert "No space left" in message
    assert_goes_on_equally(resumed(tmp_path), unbroken)
    assert_complete(tmp_path / "run")


@pytest.mark.parametrize("name", ["log.csv", "curves.png"])
def test_full_disk_while_writing_the_log_is_reported(light, data, name, tmp_path):
    """A log that cannot be written must not look like a bug of the program."""
    replace = Path.replace

    def full(self, target):
        return no_space() if Path(target).name == name else replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(TrainingStopped, match="No space left"):
            train(settings_for(data, tmp_path, epochs=1, steps=1), log=Recorder())
    assert run_folder(tmp_path / "run").load_state().epoch == 1


def test_an_image_that_cannot_be_read_costs_no_step(light, data, tmp_path):
    copy = SmallSet(data.annotations, tmp_path / "i", tmp_path / "s")
    shutil.copytree(data.images, copy.images)
    settings = settings_for(copy, copy.snapshots, epochs=1)
    path = sorted(copy.images.glob("val_*"))[-1]  # the first is read before the first step
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    log = Recorder()
    with pytest.raises(InputError, match=path.name):
        train(settings, log=log)
    assert len(log.losses) == STEPS
    path.write_bytes(whole)
    assert resumed(copy.snapshots) == []
    assert run_folder(copy.snapshots / "run").load_state().epoch == 1


def test_resume_keeps_the_length_of_an_epoch_when_images_join(light, data, tmp_path):
    """Else the epochs of the rest begin and end at other steps than the count says."""
    copy = SmallSet(tmp_path / "a", tmp_path / "i", tmp_path / "s")
    shutil.copytree(data.annotations, copy.annotations)
    shutil.copytree(data.images, copy.images)
    settings = settings_for(copy, copy.snapshots, steps=None, batch_size=10, epochs=1)
    log = Recorder()
    train(settings, log=log)
    steps = len(log.losses)
    for number in range(4):
        name = f"joined_{number}.png"
        write_image(copy.images / name, np.full((96, 96, 3), 100, np.uint8))
        write_voc(
            copy.annotations / f"joined_{number}.xml",
            name,
            (96, 96, 3),
            np.array([[10, 10, 40, 40], [50, 50, 70, 90]], np.float32),
            CLASSES,
        )
    with (copy.annotations / "split.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"joined_{n}.png,joined_{n}.png,train\n" for n in range(4))
    rest = resumed_log(copy.snapshots, epochs=2)
    assert len(rest.losses) == steps
    # The rate does not jump up again where the run was to end.
    assert max(rest.rates) <= 1.001 * log.rates[-1]
    assert any("1 epochs were planned, now 2. It stays at" in text for text in rest.said)
    assert [int(row["epoch"]) for row in log_rows(copy.snapshots / "run")] == [1, 2]
    assert run_folder(copy.snapshots / "run").load_state().epoch == 2
