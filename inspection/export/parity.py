"""Whether an exported model says of real images what its original says, from file to decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspection.cli.console import counted
from inspection.errors import InputError
from inspection.progress import Progress, silent

SCORE_TOLERANCE = 1e-3
"""Relative difference of two scores that counts as equal."""
_LEAST = 1e-6  # scores under this are equal where they differ by less than the share of it
_NAMED = 5
REFUSED = (
    "Nothing was exported, since the exported model does not do the same; report this with the "
    "model."
)


@dataclass(frozen=True)
class Parity:
    """How near an exported model is to its original.

    Args:
        images: Images compared.
        score_difference: Largest relative difference of a score.
    """

    images: int
    score_difference: float

    def __str__(self) -> str:
        return (
            f"Parity on {counted(self.images, 'image')}: every decision is the same, scores within "
            f"{self.score_difference:.1e} (relative)."
        )


@dataclass(frozen=True)
class Verdict:
    """What a model says of an image.

    Args:
        scores: (N,) whatever numbers the decision rests on.
        decision: In words.
    """

    scores: Sequence[float]
    decision: str


def prove_parity(
    images: Sequence[Path],
    original: Callable[[Path], Verdict],
    exported: Callable[[Path], Verdict],
    on_progress: Progress = silent,
) -> Parity:
    """Compares two models on every image.

    Args:
        images: Files.
        original: What the model says of a file.
        exported: What the exported model says of it.
        on_progress: Called with images done and in all.

    Raises:
        InputError: A score is off by more than `SCORE_TOLERANCE`, or a decision is another one;
            or an image cannot be read.
    """
    worst, problems = 0.0, []
    for index, path in enumerate(images):
        wanted, found = original(path), exported(path)
        before, after = np.asarray(wanted.scores), np.asarray(found.scores)
        off = float((np.abs(after - before) / np.maximum(np.abs(before), _LEAST)).max())
        worst = max(worst, off)
        if not off <= SCORE_TOLERANCE or wanted.decision != found.decision:  # NaN, too
            place = int(np.abs(after - before).argmax())
            problems.append(
                f"{path}: scores {after[place]:.6g} and is {found.decision} when exported, "
                f"{before[place]:.6g} and {wanted.decision} before"
            )
        on_progress(index + 1, len(images))
    refuse_differences(problems)
    return Parity(len(images), worst)


def refuse_differences(problems: Sequence[str]) -> None:
    """Raises where models differ.

    Raises:
        InputError: With the first of the differences.
    """
    if problems:
        more = len(problems) - _NAMED
        rest = [f"and {more} more"] if more > 0 else []
        raise InputError([*problems[:_NAMED], *rest, REFUSED])
