"""The learning rate of a training whose number of epochs was changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from inspection.training.snapshots import Plan

_CLOSE = 1.05


def extended(
    schedule: keras.optimizers.schedules.CosineDecay, plan: Sequence[tuple[int, int]]
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A schedule that is followed as far as the plan did, then falls from where it stands.

    Args:
        schedule: Of the plan's first piece.
        plan: As `inspection.training.snapshots.extend_plan` made it.
    """
    if len(plan) < 2:
        return schedule
    pieces: list[tuple[int, int, float]] = []
    whole = Pieces(schedule, pieces)
    for start, end in plan[1:]:
        # A rise goes on to its top first.
        begin = max(start, schedule.warmup_steps)
        pieces.append((begin, max(end, begin + 1), rate_at(whole, begin)))
        whole = Pieces(schedule, pieces)
    return whole


def rate_at(schedule: Any, step: int) -> float:
    """The learning rate of a step."""
    return float(np.asarray(schedule(step)))


def describe_change(schedule: Any, plan: Plan, steps: int) -> str:
    """What the rate does after a change of epochs, in one sentence.

    Args:
        schedule: As it is followed.
        plan: Its plan, of at least two pieces.
        steps: Of one epoch.
    """
    (_, before), (start, end) = plan[-2], plan[-1]
    now, last = rate_at(schedule, start), rate_at(schedule, end)
    planned, epochs, done = (round(value / steps, 1) for value in (before, end, start))
    changed = f"{planned:g} epochs were planned, now {epochs:g}."
    if now <= _CLOSE * last:
        return (
            f"Learning rate: {changed} It stays at {now:.1e}, where the plan had ended; for "
            "another rise start a new run from this one's best.keras by --weights."
        )
    return (
        f"Learning rate: {changed} It goes on from the {now:.1e} of epoch {done:g} without a jump "
        f"and falls to {last:.1e} by epoch {epochs:g}."
    )


@keras.saving.register_keras_serializable(package="inspection")
class Pieces(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine schedule, from some steps on replaced by a further fall.

    Args:
        first: The schedule.
        pieces: First step, last step and rate at the first, each.
    """

    def __init__(
        self,
        first: keras.optimizers.schedules.CosineDecay,
        pieces: list[tuple[int, int, float]],
    ) -> None:
        super().__init__()
        self.first, self.pieces = first, [tuple(piece) for piece in pieces]
        highest = first.warmup_target or first.initial_learning_rate
        self._end = highest * first.alpha

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step."""
        rate = self.first(step)
        step = keras.ops.cast(step, rate.dtype)
        for start, end, high in self.pieces:
            share = keras.ops.clip((step - start) / (end - start), 0.0, 1.0)
            falling = self._end + (high - self._end) * 0.5 * (1 + keras.ops.cos(np.pi * share))
            rate = keras.ops.where(step >= start, falling, rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        first = keras.saving.serialize_keras_object(self.first)
        return {"first": first, "pieces": [list(piece) for piece in self.pieces]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pieces:
        first = keras.saving.deserialize_keras_object(config["first"])
        return cls(first, config["pieces"])
