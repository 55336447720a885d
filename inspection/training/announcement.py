"""What a training says before its first step: how much there is to do, and how long it takes."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspection.cli.console import counted
from inspection.files.writing import peak_memory_mb

# Of the time between two validations; from here on it is worth a sentence.
_LONG_VALIDATION = 0.3


def seconds_of(work: Callable[[], object]) -> float:
    """How long work takes that is done again and again; the first time also traces."""
    for _ in range(2):
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    return seconds


def seconds_per_step(model: Any, step: Callable[[], object]) -> float:
    """How long a step takes, which is taken back again.

    Args:
        model: Compiled.
        step: Takes one.
    """
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [np.asarray(variable) for variable in variables]
    seconds = seconds_of(step)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return seconds


@dataclass(frozen=True)
class Ahead:
    """What a training has before it.

    Args:
        folder: The run's.
        images: How many are learnt.
        steps: Of one epoch.
        batch_size: Images of one step.
        done: Finished epochs.
        epochs: In all.
        step_seconds: Seconds of one step.
        validated: Images of one validation.
        validation_seconds: Seconds of one.
        validate_every: Epochs from one validation to the next; the last epoch has one, too.
        snapshot_mb: Size of a snapshot, 10^6 bytes.
        keep: How many snapshots stay; None keeps all.
    """

    folder: Path
    images: int
    steps: int
    batch_size: int
    done: int
    epochs: int
    step_seconds: float
    validated: int
    validation_seconds: float
    snapshot_mb: float
    validate_every: int = 1
    keep: int | None = None

    @property
    def validates_long(self) -> bool:
        """Whether validation takes much of the time."""
        epoch = self.steps * self.step_seconds
        return self.validation_seconds > _LONG_VALIDATION * epoch * self.validate_every

    def lines(self) -> Iterator[str]:
        """What the user reads before the first step: length, speed, disk."""
        left = self.epochs - self.done
        epoch = self.steps * self.step_seconds
        validations = sum(
            number % self.validate_every == 0 or number == self.epochs
            for number in range(self.done + 1, self.epochs + 1)
        )
        whole = epoch * left + self.validation_seconds * validations
        yield (
            f"Run: {self.folder}, {counted(self.images, 'image')}, {counted(self.steps, 'step')} "
            f"of {counted(self.batch_size, 'image')} an epoch, about {duration(whole)}."
        )
        every = "every epoch"
        if self.validate_every > 1:
            every = f"every {self.validate_every} epochs"
        yield (
            f"A step takes about {self.step_seconds:.2f} s; an epoch takes about "
            f"{duration(epoch)}, its validation on {counted(self.validated, 'image')} "
            f"{duration(self.validation_seconds)} more, {every}."
        )
        kept = min(self.keep or self.epochs, self.epochs)
        # While one is written its predecessor and their copies stand beside it.
        gigabytes = self.snapshot_mb * (kept + 4) / 1e3
        yield (
            f"Disk: {counted(kept, 'snapshot')} of {self.snapshot_mb:.0f} MB, {gigabytes:.1f} GB "
            f"in all, {shutil.disk_usage(self.folder).free / 1e9:.0f} GB are free; {_memory()}."
        )


def all_done(epochs: int) -> str:
    """The line in place of `Ahead.lines` where all epochs are finished."""
    return f"All {epochs} epochs of this run are done; to go on, give a larger --epochs."


def _memory() -> str:
    peak = peak_memory_mb()
    return "memory is not known here" if math.isnan(peak) else f"memory in use now: {peak:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `12 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
