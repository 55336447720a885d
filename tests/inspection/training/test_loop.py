"""The end of an epoch cut off at every place: a resume ends as a run that nothing happened to."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from inspection.errors import InputError
from inspection.files.locks import locked
from inspection.files.writing import atomic_path
from inspection.training.interrupt import InterruptGuard
from inspection.training.log import TrainingLog
from inspection.training.loop import TrainingLoop, Validated
from inspection.training.run import RUN_LOCK
from inspection.training.snapshots import RunFolder, RunState, Standing

EPOCHS, STEPS = 3, 2
# The second epoch is the best one, so that with one snapshot kept only best.keras holds it.
SCORES = (0.2, 0.6, 0.4)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Nobody cuts the power here."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


class Killed(BaseException):
    """What a process sees of kill -9 is nothing; here it ends the code."""


class Death:
    """After the n-th change on disk nothing is changed any more, as by a process that is gone."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int) -> None:
        self.count, self.after = 0, after
        for name in ("replace", "unlink", "mkdir", "rmdir", "truncate"):
            patch.setattr(os, name, self.around(getattr(os, name)))
        patch.setattr(shutil, "copyfile", self.around(shutil.copyfile))

    def around(self, function):
        def dying(*arguments, **options):
            if self.count >= self.after:
                raise Killed
            self.count += 1
            return function(*arguments, **options)

        return dying


class Number:
    """A variable that holds one number."""

    shape = ()

    def __init__(self, value: float) -> None:
        self.value = value

    def assign(self, value) -> None:
        self.value = float(value)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.value, dtype)


class Optimizer:
    learning_rate = 0.5

    def __init__(self) -> None:
        self.variables = [Number(0)]

    def build(self, variables) -> None:
        pass


class Model:
    """Counts its steps; the file says so too, and which epoch it was told."""

    def __init__(self, weight: float = 0) -> None:
        self.trainable_variables = [Number(weight)]
        self.optimizer = Optimizer()
        self.told: dict[str, float] = {}

    def save(self, path: Path) -> None:
        values = {"weight": self.trainable_variables[0].value, **self.told}
        Path(path).write_text(json.dumps(values), encoding="utf-8")


@dataclass(frozen=True)
class Batch:
    names: tuple[str, ...] = ("a.png",)


class Batches:
    def __getitem__(self, step: int) -> Batch:
        return Batch()


class Log(TrainingLog):
    """Keeps what is said; draws nothing, which takes its time."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def _write_board(self, epoch, values) -> None:
        pass

    def _write_curves(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(",".join(row["epoch"] for row in self._rows))


def standing(path: Path) -> Standing | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Standing(values["run"], None, values["images"], values["score"])
    except (OSError, ValueError, KeyError):
        return None


def fit(
    path: Path,
    resume: bool = False,
    scores: tuple[float, ...] = SCORES,
    losses: tuple[float, ...] = (1.0,) * EPOCHS,
    keep: int | None = 1,
    after_step=lambda step: None,
) -> Log:
    """A training of a moment, as a room sets one up."""
    folder, log, model = RunFolder(path, keep, standing), Log(), Model()
    with locked(path / RUN_LOCK, "wait"):
        state = folder.load_state() if resume else RunState()
        if resume:
            stored = json.loads((path / state.snapshot).read_text(encoding="utf-8"))
            model = Model(stored["weight"])
            folder.restore_optimizer(model, state)
        folder.make_good(state)
        log.open(path, resume_after=state.epoch if resume else None)

        def learn(batch: Batch) -> dict[str, float]:
            for variable in (model.trainable_variables[0], model.optimizer.variables[0]):
                variable.assign(variable.value + 1)
            after_step(state.step + 1)
            return {"loss": losses[state.epoch]}

        def validate(guard: InterruptGuard) -> Validated:
            return Validated(scores[state.epoch], {"detail": 0.5})

        def tell(epoch: int, score: float) -> None:
            model.told = {"epoch": epoch, "score": score, "run": path.name, "images": "val"}

        loop = TrainingLoop(
            *(model, folder, state, log, STEPS, len(scores), 1, "again --resume"),
            learn=learn,
            validate=validate,
            tell=tell,
        )
        loop.run(Batches())
    return log


def rows_of(path: Path) -> list[dict[str, str]]:
    with (path / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_whole(path: Path, best: int = 2, epochs: int = EPOCHS) -> None:
    rows = rows_of(path)
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    assert [float(row["val_score"]) for row in rows] == list(SCORES[:epochs])
    assert (path / "curves.png").read_text() == ",".join(str(i + 1) for i in range(epochs))
    for place in (path, path.parent):
        stored = json.loads((place / "best.keras").read_text(encoding="utf-8"))
        assert (stored["epoch"], stored["score"]) == (best, SCORES[best - 1])
    assert {item.name for item in path.parent.iterdir()} == {path.name, "best.keras"}
    assert {item.name for item in path.iterdir()} == {
        *("best.keras", "curves.png", "log.csv", "state.json"),
        *(f"epoch_{epochs:03d}.keras", f"epoch_{epochs:03d}.optimizer.npz"),
    }


def test_a_run_killed_at_any_change_on_disk_ends_as_one_that_was_not(tmp_path):
    """Every write, rename and removal of three epochs' ends; one resume makes all of it good."""
    fit(tmp_path / "whole" / "run")
    assert_whole(tmp_path / "whole" / "run")
    resumed = 0
    for after in range(1, 400):
        path = tmp_path / str(after) / "run"
        path.mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            death = Death(patch, after)
            try:
                fit(path)
            except Killed:
                pass
            else:
                assert death.count <= after
                break
        resume = (path / "state.json").exists()
        resumed += resume
        fit(path, resume)
        assert_whole(path)
    assert resumed > 40


def test_a_resume_that_is_killed_too_can_be_resumed(tmp_path):
    """What makes a kill good must bear one itself."""
    with pytest.MonkeyPatch.context() as patch:
        death = Death(patch, 10**9)
        fit(tmp_path / "counted" / "run")
    late = death.count - 6  # within the end of the last epoch
    start = tmp_path / "start" / "run"
    start.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        Death(patch, late)
        fit(start)
    for after in range(1, 100):
        path = shutil.copytree(start.parent, tmp_path / str(after)) / "run"
        with pytest.MonkeyPatch.context() as patch:
            Death(patch, after)
            try:
                fit(path, resume=True)
            except Killed:
                pass
            else:
                break
        fit(path, resume=True)
        assert_whole(path)


def test_where_the_best_is_lost_the_next_one_is_it(tmp_path):
    path = tmp_path / "run"
    fit(path, scores=(0.6, 0.2))
    (path / "best.keras").unlink()  # the only copy, with one snapshot kept
    fit(path, resume=True, scores=(0.6, 0.2, 0.4))
    assert json.loads((path / "best.keras").read_text(encoding="utf-8"))["epoch"] == 3


def test_at_score_0_the_epoch_of_the_lowest_loss_is_the_best(tmp_path):
    fit(tmp_path / "run", scores=(0.0,) * 4, losses=(3.0, 1.0, 2.0, 1.5))
    assert json.loads((tmp_path / "run" / "best.keras").read_text())["epoch"] == 2


def test_sigterm_saves_as_ctrl_c_does_and_a_second_one_too(tmp_path):
    """`timeout` and service managers send it twice."""
    before = signal.getsignal(signal.SIGTERM)

    def end(step: int) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", after_step=end)
    assert signal.getsignal(signal.SIGTERM) is before
    state = RunFolder(tmp_path / "run").load_state()
    assert (state.epoch, state.step, state.snapshot) == (1, 3, "interrupted_3.keras")
    fit(tmp_path / "run", resume=True)
    assert_whole(tmp_path / "run")


# --- damaged files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("런") / "run"
    fit(path, scores=SCORES[:2])
    return path


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained.parent, tmp_path / "runs") / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_state_of_earlier_versions_is_gone_on_with(run):
    values = json.loads((run / "state.json").read_text(encoding="utf-8"))
    for new in ("row", "plan", "best_loss"):
        del values[new]
    values["best_map"] = values.pop("best_score")
    (run / "state.json").write_text(json.dumps(values), encoding="utf-8")
    fit(run, resume=True)
    assert_whole(run)


def test_what_a_killed_run_left_in_its_folder_goes_when_it_goes_on(run):
    (run / ".contents.a1b2c3d4.csv").write_bytes(b"half")
    fit(run, resume=True)
    assert not list(run.glob(".contents.*"))


def test_what_a_killed_run_left_beside_the_folders_goes_when_another_starts(run):
    (run.parent / ".best.a1b2c3d4.keras").write_bytes(b"half")
    with pytest.raises(ValueError):
        fit(run.parent / "other", after_step=lambda step: int("it never gets to an epoch's end"))
    assert {path.name for path in run.parent.iterdir()} == {"run", "other", "best.keras"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("snapshot", "../../victim"),
        ("snapshot", "/etc/passwd"),
        ("optimizer", "..\\victim.npz"),
        ("optimizer", ".."),
        ("epoch", -1),
        ("epoch", "one"),
        ("best_score", "NaN"),
        ("sums", {"loss": "Infinity"}),
    ],
)
def test_a_state_that_no_training_wrote_is_one_sentence(run, field, value):
    values = json.loads((run / "state.json").read_text(encoding="utf-8")) | {field: value}
    (run / "state.json").write_text(json.dumps(values), encoding="utf-8")
    before = contents(run.parent)
    with pytest.raises(InputError, match=rf"state\.json: is damaged \({field}") as caught:
        fit(run, resume=True)
    assert len(caught.value.problems) == 1
    assert contents(run.parent) == before


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("\n2,", "\nzwei,", 3),
        ("\n2,", "\n1,", 3),
        ("epoch,", "epochs,", 2),
        ("loss,", "lost,", 2),
        ("\n1,", '\n"1,', 2),
        ("\n2,", "\n2,1,1,1,1,1,1,1,1,1,1,", 3),
        ("\n2,", "\n" + 5000 * "2" + ",", 3),
    ],
)
def test_a_damaged_log_is_one_sentence(run, old, new, line):
    path = run / "log.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    before = contents(run.parent)
    with pytest.raises(InputError, match=rf"log\.csv, line {line}: is damaged") as caught:
        fit(run, resume=True)
    assert len(str(caught.value)) < 400
    assert contents(run.parent) == before
