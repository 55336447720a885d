"""Pictures with their stored split, and what of them a network sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from classification.data.images import Picture, Pictures, open_pictures
from inspection.cli.console import counted
from inspection.data.split import PARTS, Split, leakage
from inspection.data.stored_split import Judge, shared_split_path, split_path, stored_split

_PURPOSE = "classification"
CALIBRATION = "val"
"""The part that the best epoch and the threshold are chosen on."""


@dataclass(frozen=True)
class Data:
    """Pictures and which part each one belongs to.

    Args:
        pictures: All of them.
        split: Its parts are `train`, `val` (calibration) and `test`.
        split_path: Where the split is stored.
    """

    pictures: Pictures
    split: Split
    split_path: Path

    def part(self, name: str) -> list[Picture]:
        """The pictures of `train`, `val` or `test`."""
        return self.split.select(self.pictures.items, name)


def open_data(
    source: Path,
    runs: Path,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_by: str | None = None,
    normal: str | None = None,
    before: Path | None = None,
    say: Callable[[str], None] = print,
) -> Data:
    """Finds the pictures, and makes or extends their split.

    Args:
        source: See `classification.data.images.open_pictures`.
        runs: The split is stored below, by a name made from the source's path.
        fractions: Shares of train, calibration and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the pictures of one part together.
        normal: The class of good parts, see `open_pictures`.
        before: A split that serves where the stored one is gone: that of a run to go on with.
        say: Told what was made, and what the split cannot serve for.

    Raises:
        InputError: Pictures or split cannot be used.
    """
    pictures = open_pictures(source, normal)
    for note in pictures.notes:
        say(f"Note: {note}.")
    fixed = any(len(item.parts) < len(PARTS) for item in pictures.items)
    split, path = stored_split(
        pictures.items,
        split_path(source, runs, _PURPOSE),
        fractions=fractions,
        seed=seed,
        group_by=group_by,
        allowed=(lambda item: item.parts) if fixed else None,
        before=before or shared_split_path(source, runs),
        judge=Judge(lambda split: _problem(source, pictures, split), "--runs"),
        say=say,
    )
    data = Data(pictures, split, path)
    for line in [*_gaps(data), *(f"Warning: {text}" for text in leakage(split, pictures.root))]:
        say(line)
    return data


def _problem(source: Path, pictures: Pictures, split: Split) -> str:
    """Why nothing can be trained with a split, empty where it can."""
    learnt = {i.kind for i in pictures.items if split.assignments.get(i.image) == "train"}
    missing = [name for name in pictures.classes if name not in learnt]
    if missing:
        return (
            f"{source}: the train part holds no picture of {', '.join(missing)}, which cannot be "
            "learnt"
        )
    if not any(split.assignments.get(item.image) == CALIBRATION for item in pictures.items):
        return (
            f"{source}: the val part is empty, on which the best epoch and the threshold are chosen"
        )
    return ""


def _gaps(data: Data) -> list[str]:
    lines = []
    for part, purpose in ((CALIBRATION, "the threshold is chosen"), ("test", "figures are told")):
        there = {item.kind for item in data.part(part)}
        missing = [name for name in data.pictures.classes if name not in there]
        if missing:
            lines.append(
                f"Warning: the {part} part, on which {purpose}, holds no picture of "
                f"{', '.join(missing)}."
            )
    return lines


def describe(data: Data) -> list[str]:
    """One line for each part: pictures of each class."""
    lines = []
    for part in PARTS:
        counts = Counter(item.kind for item in data.part(part))
        text = ", ".join(f"{name} {counts[name]}" for name in data.pictures.classes)
        lines.append(f"{part}: {counted(sum(counts.values()), 'picture')}; {text}")
    return lines
