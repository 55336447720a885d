"""The loop of a training that can be interrupted at any point and gone on with."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from inspection.errors import InputError
from inspection.training.interrupt import Interrupted, InterruptGuard, uninterrupted
from inspection.training.log import TrainingLog
from inspection.training.prefetch import Batches, ahead
from inspection.training.snapshots import Rival, RunFolder, RunState


class TrainingStopped(InputError):
    """Training cannot go on; the message says what to do and what is kept."""


class NamedBatch(Protocol):
    """What a step learns from; `names` are its images, for messages."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Validated:
    """What the validation part says after an epoch.

    Args:
        score: From 0 to 1; of all epochs the one with the highest is the best, among equals the one
            of the lowest loss.
        details: Further figures for the log.
        rank: What the best epoch is chosen by, where the score alone does not decide.
    """

    score: float
    details: Mapping[str, float]
    rank: float | None = None


def take_up(
    model: Any, folder: RunFolder, state: RunState, log: TrainingLog, resume: bool
) -> Rival | None:
    """Puts a compiled model, its files and its log where the run stands.

    Returns:
        As `RunFolder.promote`.

    Raises:
        InputError: The stored optimizer or log is damaged.
    """
    if resume:
        folder.restore_optimizer(model, state)
    rival = folder.make_good(state)
    log.open(folder.path, resume_after=state.epoch if resume else None)
    return rival


@dataclass
class TrainingLoop:
    """Everything a running training holds.

    Args:
        model: Compiled.
        folder: Where snapshots go.
        state: How far the run has come.
        log: Where progress is shown.
        steps: Steps of one epoch.
        epochs: Epochs in all.
        batch_size: Images of one step.
        resume_command: What a user types to go on.
        learn: Takes one step on a batch; returns the parts of its loss.
        validate: Called after an epoch; checks the guard now and then.
        tell: Puts an epoch's number and score, None without one, into what is saved with the model.
        promoted: Told of another run whose model stands, or stood, as the best of all runs.
        validate_every: Epochs from one validation to the next; the last epoch has one, too. The
            best epoch is one of those.
    """

    model: Any
    folder: RunFolder
    state: RunState
    log: TrainingLog
    steps: int
    epochs: int
    batch_size: int
    resume_command: str
    learn: Callable[[Any], dict[str, float]]
    validate: Callable[[InterruptGuard], Validated]
    tell: Callable[[int, float | None], None]
    promoted: Callable[[Rival], None] = lambda rival: None
    validate_every: int = 1

    def run(self, batches: Batches[NamedBatch]) -> None:
        """Trains until all epochs are done.

        Raises:
            InputError: An image cannot be read; what was learnt so far is saved.
            TrainingStopped: The loss became NaN, or the disk is full.
            KeyboardInterrupt: At a first Ctrl-C or SIGTERM after everything was saved, at a second
                Ctrl-C at once.
        """
        state = self.state
        steps = ahead(batches, state.step, self.steps * self.epochs)
        row = state.row if state.row.get("epoch") == str(state.epoch) else None
        with self._reported():
            self.log.start(self.steps, self.epochs, self.batch_size, state.epoch, state.step, row)
        with InterruptGuard() as guard:
            try:
                while state.epoch < self.epochs:
                    if state.step < (state.epoch + 1) * self.steps:
                        self._step(steps)
                    else:
                        self._finish_epoch(guard)
                    guard.check()
            except Interrupted:
                self._save_interrupted()
                raise
            except TrainingStopped:
                raise
            except InputError:  # an image that cannot be read: what was learnt so far is good
                self._save_interrupted()
                raise
            except KeyboardInterrupt:
                self.log.say(
                    f"Stopped at once. Go on from the last save with: {self.resume_command}"
                )
                raise
            finally:
                steps.close()

    def _save_interrupted(self) -> None:
        state = self.state
        if state.step == 0:
            self.log.say("Interrupted before the first step; there is nothing to save.")
            return
        if state.step > state.epoch * self.steps:  # else the epoch's end has just been saved
            with uninterrupted():
                self._save(interrupted=True)
        self.log.say(f"Interrupted and saved. Go on with: {self.resume_command}")

    def _step(self, batches: Iterator[NamedBatch]) -> None:
        state = self.state
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        losses = self.learn(batch)
        # A finite loss of an epoch's last step may still have left weights that are not.
        last = (state.step + 1) % self.steps == 0
        finite = all(math.isfinite(value) for value in losses.values())
        if not finite or (last and not self._weights_are_finite()):
            kept = self.folder.path / state.snapshot if state.snapshot else "none yet"
            what = (
                "the weights are not finite after"
                if finite
                else f"the loss became {losses['loss']} in"
            )
            raise TrainingStopped(
                f"{what} step {state.step + 1}, on the images "
                f"{', '.join(sorted(set(batch.names)))}. Look at them, or lower --lr (now "
                f"{self._learning_rate():.2g}); the last good snapshot: {kept}."
            )
        state.step += 1
        for name, value in losses.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        self.log.step(losses, self._learning_rate(), waited, time.perf_counter() - began)

    def _weights_are_finite(self) -> bool:
        return all(np.isfinite(np.asarray(v)).all() for v in self.model.trainable_variables)

    def _learning_rate(self) -> float:
        return float(np.asarray(self.model.optimizer.learning_rate))

    def _finish_epoch(self, guard: InterruptGuard) -> None:
        state, log = self.state, self.log
        began = time.perf_counter()
        epoch = state.epoch + 1
        due = epoch % self.validate_every == 0 or epoch == self.epochs
        found = self.validate(guard) if due else None
        losses = {name: value / self.steps for name, value in state.sums.items()}
        state.epoch = epoch
        state.sums = {}
        is_best = False
        score: dict[str, float] = {}
        details: Mapping[str, float] = {}
        if found is not None:
            rank = found.score if found.rank is None else found.rank
            is_best = state.take_best(rank, losses.get("loss", 0.0))
            score, details = {log.score[0]: found.score}, found.details
        self.tell(epoch, None if found is None else found.score)
        values = losses | score | {"learning_rate": self._learning_rate()}
        # In the state, so that a kill before the log is written costs no row.
        state.row = log.row(epoch, values, details)
        path = self._save()
        with self._reported():
            rival = self.folder.promote(path) if is_best else None
            log.epoch(state.row, time.perf_counter() - began, is_best)
        if rival is not None:
            self.promoted(rival)

    def _save(self, interrupted: bool = False) -> Path:
        with self._reported():
            return self.folder.save(self.model, self.state, interrupted)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Turns a full disk into a sentence; what was there before is whole."""
        try:
            yield
        except OSError as error:
            raise TrainingStopped(
                f"{self.folder.path}: could not be written to ({error.strerror or error}). Earlier "
                f"snapshots are unharmed; make room, then go on with: {self.resume_command}"
            ) from error
