"""Labelled images with their stored split: the same sides for every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inspection.cli.console import counted
from inspection.data.images import image_size
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.data.preparation import Preparation
from inspection.data.split import PARTS, Split
from inspection.data.stored_split import Judge, split_path, stored_split
from inspection.errors import InputError

CALIBRATION = "val"
"""The part that thresholds, and whatever else is chosen, are chosen on."""


@dataclass(frozen=True)
class Data:
    """Images and which part each one belongs to.

    Args:
        images: All of them.
        split: Its parts are `train`, `val` (calibration) and `test`.
        split_path: Where the split is stored.
    """

    images: LabelledImages
    split: Split
    split_path: Path

    def part(self, name: str) -> list[LabelledImage]:
        """The images of `train`, `val` or `test`."""
        return self.split.select(self.images.items, name)


def open_split(
    images: LabelledImages,
    source: Path,
    runs: Path,
    purpose: str,
    *,
    problem: Callable[[Split], str],
    fractions: Sequence[float],
    seed: int = 0,
    group_by: str | None = None,
    own: Path | None = None,
    before: Path | None = None,
    called: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Split, Path]:
    """Makes or extends the split of a source for a purpose.

    Args:
        images: Those of the source.
        source: Where they are.
        runs: The split is stored below, by a name made from the source's path.
        purpose: What it is for, see `inspection.data.stored_split.split_path`.
        problem: Why a split is useless, as for `inspection.data.stored_split.Judge`.
        fractions: Shares of train, calibration and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the images of one part together.
        own: The split of a run to go on with, taken and extended in place of the stored one.
        before: A split that serves where the stored one is gone.
        called: As for `inspection.data.stored_split.stored_split`.
        say: Receives lines about what was left out of the images, and what was made.

    Returns:
        The split and where it is stored.

    Raises:
        InputError: The split cannot be made, read or extended, or is useless.
    """
    for note in images.notes:
        say(f"Note: {note}.")
    parts = {item.image: item.parts for item in images.items}
    fixed = any(len(allowed) < len(PARTS) for allowed in parts.values())
    return stored_split(
        images.items,
        own or split_path(source, runs, purpose),
        fractions=fractions,
        seed=seed,
        group_by=group_by,
        allowed=(lambda item: parts[item.image]) if fixed else None,
        before=before,
        judge=Judge(problem, "--runs"),
        called=called,
        of_run=own is not None,
        say=say,
    )


def check_sizes(images: LabelledImages, preparation: Preparation) -> None:
    """Refuses a region, a mask or tiles that do not fit some image, before any work.

    Raises:
        InputError: Names every image.
    """
    if preparation.roi is None and preparation.roi_mask is None and preparation.tile is None:
        return
    problems: list[str] = []
    for item in images.items:
        try:
            preparation.check_size(*image_size(item.path), str(item.path))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)


def describe(data: Data) -> list[str]:
    """One line for each part: images of each class."""
    lines = []
    for part in PARTS:
        counts = Counter(item.kind for item in data.part(part))
        text = ", ".join(f"{name} {counts[name]}" for name in data.images.classes)
        lines.append(f"{part}: {counted(sum(counts.values()), 'image')}; {text}")
    return lines
