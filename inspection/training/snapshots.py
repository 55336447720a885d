"""Snapshots on disk: one model file per epoch, the best one, and what a resume needs.

A run's folder holds `epoch_007.keras` and so on, `best.keras`, the optimizer's state of the
newest epoch only, and `state.json`, which is written last: what it names is whole. What is made
after it, `best.keras` and the log's row, is made good by the next start.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from inspection.errors import InputError
from inspection.files.locks import locked
from inspection.files.records import Count, FileName, Finite, read_json
from inspection.files.writing import (
    atomic_path,
    copy_atomic,
    file_hash,
    sweep_temporary,
    write_json_atomic,
)
from inspection.report.evaluation import forget_evaluations
from inspection.training.contents import CONTENTS
from inspection.training.run import (
    BEST,
    CURVES,
    LOG,
    RECORD,
    RUN_SPLIT,
    SETTINGS,
    STATE,
    RunRecord,
)

if TYPE_CHECKING:
    from inspection.models.card import ModelCard

_TOP_LOCK = "best.lock"
# All that a training writes into its folder.
_WRITTEN = (
    *("epoch_*.keras", "epoch_*.npz", "interrupted_*.keras", "interrupted_*.npz"),
    *(BEST, STATE, LOG, CURVES, SETTINGS, RECORD, RUN_SPLIT, CONTENTS),
    *("augmentation.png", "samples.jpg"),
)


Plan = list[tuple[Count, Count]]
"""From which step on the learning rate falls to its end by which step; a piece for each change."""


def extend_plan(plan: Plan, done: int, total: int) -> Plan:
    """The plan of a run that goes on to another number of steps.

    Args:
        plan: As stored; empty for a new run.
        done: Finished steps.
        total: Steps of the whole run now.
    """
    if not plan or plan[-1][1] == total:
        return plan or [(0, total)]
    return [*(piece for piece in plan if piece[0] < done), (done, total)] if done else [(0, total)]


class RunState(BaseModel):
    """How far a run has come.

    Args:
        epoch: Finished epochs.
        step: Finished steps; inside an epoch after an interrupt.
        best_epoch: Epoch of the best result on the validation part, 0 while there is none.
        best_score: That result.
        best_loss: Mean training loss of that epoch; None while there is none.
        snapshot: File name of the model to go on from.
        optimizer: File name of its optimizer state.
        sums: Sums of the loss parts over the steps of an unfinished epoch.
        row: The log's row of the last finished epoch.
        plan: What the learning rate follows.
    """

    model_config = ConfigDict(extra="forbid")

    epoch: Count = 0
    step: Count = 0
    best_epoch: Count = 0
    # Runs before 2026-11-21 called it best_map.
    best_score: Finite = Field(-1.0, validation_alias=AliasChoices("best_score", "best_map"))
    best_loss: Finite | None = None
    snapshot: FileName | None = None
    optimizer: FileName | None = None
    sums: dict[str, Finite] = {}
    row: dict[str, str] = {}
    plan: Plan = []

    def take_best(self, score: float, loss: float) -> bool:
        """Whether the epoch just counted is the best so far, which it is from now on then.

        Of equal scores the lower loss is better: where nothing is found yet, every score is 0.
        """
        if self.best_epoch and (
            score < self.best_score
            or (score == self.best_score and (self.best_loss is None or loss >= self.best_loss))
        ):
            return False
        self.best_epoch, self.best_score, self.best_loss = self.epoch, score, loss
        return True

    def plan_rate(self, steps: int, epochs: int, record: RunRecord) -> bool:
        """Puts the run's length into the plan of its learning rate.

        Args:
            steps: Of one epoch.
            epochs: In all.
            record: Of the last start; it tells the length of runs that stored no plan.

        Returns:
            Whether the length was changed and there is something left to learn.
        """
        before = record.settings.get("epochs")
        if not self.plan and self.step and isinstance(before, int):
            self.plan = [(0, before * steps)]
        old, total = self.plan, steps * epochs
        self.plan = extend_plan(old, self.step, total)
        return len(self.plan) > 1 and self.plan != old and total > self.step


@dataclass(frozen=True)
class Standing:
    """What a model file says of itself, to be compared with those of other runs.

    Args:
        run: The name of its run.
        run_id: Of that run alone; None in files of runs before there was one.
        judged_on: Hash of the validation images and their labels; None where it is not told.
        score: On them.
    """

    run: str
    run_id: str | None
    judged_on: str | None
    score: float

    def is_same_run(self, other: Standing) -> bool:
        """Whether both are of one run."""
        return (self.run, self.run_id) == (other.run, other.run_id)

    def beats(self, other: Standing) -> bool:
        """Whether it is better on the same images."""
        same = self.judged_on is not None and self.judged_on == other.judged_on
        return same and self.score > other.score


@dataclass(frozen=True)
class Rival:
    """Another run whose model stood as the best of all runs.

    Args:
        standing: What that file says; None where it cannot be read.
        replaced: Whether this run's stands there now.
        same_images: Whether both were judged on the same validation images.
    """

    standing: Standing | None
    replaced: bool
    same_images: bool


class RunFolder:
    """Writes and reads the snapshots of one run; whoever uses it holds the run's lock.

    Args:
        path: `snapshots/<run>`.
        keep: How many epoch snapshots stay; None keeps all.
        standing: From a model file to what it says of itself, None where it cannot be read. With
            it the best one of all runs stands beside the run's folder: this run's where there is
            none, where it is this run's already, or where it beats the one there.
        card: Written into every model file, beside what Keras writes.
    """

    def __init__(
        self,
        path: Path,
        keep: int | None = None,
        standing: Callable[[Path], Standing | None] | None = None,
        card: ModelCard | None = None,
    ) -> None:
        self.path = path
        self.keep = keep
        self._standing = standing
        self.card = card

    def load_state(self) -> RunState:
        """The state of the last finished save.

        Raises:
            InputError: There is none, it is damaged, or its files are gone.
        """
        path = self.path / STATE
        try:
            state = read_json(path, RunState, "start the run anew.")
        except FileNotFoundError:
            raise InputError(
                f"{path}: this run has no finished epoch to resume from; start it without --resume."
            ) from None
        for name in (state.snapshot, state.optimizer):
            if name is None:
                raise InputError(f"{path}: is damaged (it names no file); start the run anew.")
            if not (self.path / name).is_file():
                raise InputError(f"{self.path / name}: is needed to resume and is missing.")
        return state

    def make_good(self, state: RunState) -> Rival | None:
        """Finishes what a kill cut off after the last save; called whenever a run starts.

        Temporary files go, superseded snapshots too, and `best.keras` is that of the state's best
        epoch. Where that is lost, the state has no best epoch any more and the next one is.

        Args:
            state: The last saved one, or a new one.

        Returns:
            As `promote`.
        """
        sweep_temporary(self.path, _WRITTEN)
        if self._standing is not None:
            with self._above():
                pass  # a killed run's copy goes also where this one never gets that far
        if not state.best_epoch:
            return None
        snapshot = self.path / f"epoch_{state.best_epoch:03d}.keras"
        if not snapshot.is_file():  # superseded, which it was only after it had been copied
            snapshot = self.path / BEST
        if not snapshot.is_file():
            state.best_epoch, state.best_score, state.best_loss = 0, -1.0, None
            return None
        rival = self.promote(snapshot)
        self._remove_superseded(state)
        return rival

    def save(self, model: Any, state: RunState, interrupted: bool = False) -> Path:
        """Saves model and optimizer state, then the state that names them.

        Args:
            model: Compiled model.
            state: Updated in place with the file names.
            interrupted: True inside an epoch: the files are named so and replaced next time.

        Returns:
            Path of the snapshot.

        Raises:
            OSError: No room or no permission; what stood before is untouched.
        """
        stem = f"interrupted_{state.step}" if interrupted else f"epoch_{state.epoch:03d}"
        snapshot, optimizer = f"{stem}.keras", f"{stem}.optimizer.npz"
        with atomic_path(self.path / optimizer) as temporary, temporary.open("wb") as file:
            values = [np.asarray(value) for value in model.optimizer.variables]
            named: dict[str, Any] = {f"v{index:04d}": value for index, value in enumerate(values)}
            np.savez(file, **named)
        with atomic_path(self.path / snapshot) as temporary:
            _save_without_optimizer(model, temporary)
            if self.card is not None:
                self.card.write_into(temporary)
        state.snapshot, state.optimizer = snapshot, optimizer
        write_json_atomic(self.path / STATE, state.model_dump())
        self._remove_superseded(state)
        return self.path / snapshot

    def promote(self, snapshot: Path) -> Rival | None:
        """Makes a snapshot the run's `best.keras`, and the best of all runs where it is that.

        Returns:
            The other run whose model stands, or stood, as the best of all runs, if any.
        """
        _replace_best(snapshot, self.path / BEST)
        return None if self._standing is None else self._promote_above()

    def promote_anyway(self) -> Rival | None:
        """Makes this run's best the best of all runs, whatever stands there."""
        return self._promote_above(anyway=True)

    def _promote_above(self, anyway: bool = False) -> Rival | None:
        mine, top = self.path / BEST, self.path.parent / BEST
        with self._above():
            if not top.is_file():
                copy_atomic(mine, top)
                return None
            assert self._standing is not None  # else there is nothing to compare
            own, other = self._standing(mine), self._standing(top)
            if own is not None and other is not None and own.is_same_run(other):
                _replace_best(mine, top)
                return None
            replaced = anyway or other is None or (own is not None and own.beats(other))
            if replaced:
                _replace_best(mine, top)
        same = (
            own is not None and other is not None and own.judged_on == other.judged_on is not None
        )
        return Rival(other, replaced, same)

    @contextlib.contextmanager
    def _above(self) -> Iterator[None]:
        """Alone with the best of all runs, and rid of what killed writes of it left."""
        # Between a look at what stands there and its replacement no other run may come.
        with locked(self.path.parent / _TOP_LOCK, "wait for it", wait=True):
            sweep_temporary(self.path.parent, [BEST])
            yield

    def restore_optimizer(self, model: Any, state: RunState) -> None:
        """Puts the stored optimizer state into a compiled model.

        Raises:
            InputError: It belongs to another model.
        """
        model.optimizer.build(model.trainable_variables)
        path = self.path / str(state.optimizer)
        try:
            with path.open("rb") as file, np.load(file) as stored:
                values = [stored[name] for name in sorted(stored.files)]
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: is damaged ({error}); start the run anew.") from error
        variables = model.optimizer.variables
        if [value.shape for value in values] != [tuple(item.shape) for item in variables]:
            raise InputError(f"{path}: does not fit the model beside it; start anew.")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _remove_superseded(self, state: RunState) -> None:
        for path in self.path.glob("*.optimizer.npz"):
            if path.name != state.optimizer:
                path.unlink()
        for path in self.path.glob("interrupted*.keras"):
            if path.name != state.snapshot:
                path.unlink()
        if self.keep is None:
            return
        epochs = [
            path
            for path in self.path.glob("epoch_*.keras")
            if re.fullmatch(r"epoch_\d+", path.stem)
        ]
        epochs.sort(key=lambda path: int(path.stem.removeprefix("epoch_")))
        for path in epochs[: -self.keep]:
            if path.name != state.snapshot:
                path.unlink()


def _replace_best(source: Path, target: Path) -> None:
    """Copies a model where it is another than the one there, whose evaluations are removed."""
    if source == target or (target.is_file() and file_hash(source) == file_hash(target)):
        return
    forget_evaluations(target)
    copy_atomic(source, target)


def _save_without_optimizer(model: Any, path: Path) -> None:
    """Keras would store Adam's two moments inside and triple every snapshot."""
    optimizer, model.optimizer = model.optimizer, None
    try:
        model.save(path)
    finally:
        model.optimizer = optimizer
