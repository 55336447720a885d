"""Images of all classes with their stored split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from classification.data.images import open_images
from inspection.data.dataset import CALIBRATION, Data, open_split
from inspection.data.labelled import LabelledImages
from inspection.data.split import Split, leakage
from inspection.data.stored_split import shared_split_path

_PURPOSE = "classification"


def open_data(
    source: Path,
    runs: Path,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_by: str | None = None,
    normal: str | None = None,
    own: Path | None = None,
    say: Callable[[str], None] = print,
) -> Data:
    """Finds the images, and makes or extends their split.

    Args:
        source: See `classification.data.images.open_images`.
        runs: The split is stored below, by a name made from the source's path.
        fractions: Shares of train, calibration and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the images of one part together.
        normal: The class of good parts, see `open_images`.
        own: The split of a run to go on with, taken and extended in place of the stored one.
        say: Receives lines about what was made, and what the split cannot serve for.

    Raises:
        InputError: Images or split cannot be used.
    """
    images = open_images(source, normal)
    split, path = open_split(
        images,
        source,
        runs,
        _PURPOSE,
        problem=lambda split: _problem(source, images, split),
        fractions=fractions,
        seed=seed,
        group_by=group_by,
        own=own,
        before=shared_split_path(source, runs),
        say=say,
    )
    data = Data(images, split, path)
    for line in [*_gaps(data), *(f"Warning: {text}" for text in leakage(split, images.root))]:
        say(line)
    return data


def _problem(source: Path, images: LabelledImages, split: Split) -> str:
    """Why nothing can be trained with a split, empty where it can."""
    learnt = {i.kind for i in images.items if split.assignments.get(i.image) == "train"}
    missing = [name for name in images.classes if name not in learnt]
    if missing:
        return (
            f"{source}: the train part holds no image of {', '.join(missing)}, which cannot be "
            "learnt"
        )
    if not any(split.assignments.get(item.image) == CALIBRATION for item in images.items):
        return (
            f"{source}: the val part is empty, on which the best epoch and the threshold are chosen"
        )
    return ""


def _gaps(data: Data) -> list[str]:
    lines = []
    for part, purpose in (
        (CALIBRATION, "the threshold is chosen"),
        ("test", "figures are reported"),
    ):
        there = {item.kind for item in data.part(part)}
        missing = [name for name in data.images.classes if name not in there]
        if missing:
            lines.append(
                f"Warning: the {part} part, on which {purpose}, holds no image of "
                f"{', '.join(missing)}."
            )
    return lines
