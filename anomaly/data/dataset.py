"""A product's images with their stored split: the same sides for every method and every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from anomaly.data.images import NORMAL, open_images
from anomaly.data.near_duplicates import near_duplicates
from inspection.cli.console import counted
from inspection.data import dataset
from inspection.data.dataset import CALIBRATION
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.data.split import load_split
from inspection.data.stored_split import shared_split_path
from inspection.errors import InputError

_LEAST = 3  # normal images
_LEARNT = 2  # of them at least
_PURPOSE = "anomaly"


class Data(dataset.Data):
    """Images and which part each one belongs to; of `train` only normal ones are learnt."""

    def part(self, name: str) -> list[LabelledImage]:
        """The images of a part; of `train` the normal ones, as nothing else is learnt."""
        items = super().part(name)
        return [item for item in items if item.is_normal] if name == "train" else items

    @property
    def normals(self) -> list[LabelledImage]:
        """What is learnt."""
        return self.part("train")

    @property
    def dropped(self) -> list[LabelledImage]:
        """Defects of parts of which normal images are learnt: no test may see them either."""
        items = self.split.select(self.images.items, "train")
        return [item for item in items if item.is_defect]

    def near_duplicates(self, cache: Path) -> list[tuple[str, str]]:
        """Pairs of nearly equal images on two sides; see `anomaly.data.near_duplicates`."""
        paths = {item.image: item.path for item in self.images.items}
        return near_duplicates(paths, self.split.assignments, cache)


def open_data(
    source: Path,
    runs: Path,
    *,
    fractions: Sequence[float] = (0.6, 0.15, 0.25),
    seed: int = 0,
    group_by: str | None = None,
    own: Path | None = None,
    say: Callable[[str], None] = print,
) -> Data:
    """Finds the images, and makes or extends their split.

    Normal images are divided by all three fractions, defects by the last two. A group with
    both goes where its normal images go; where these are learnt its defects are dropped.

    Args:
        source: See `anomaly.data.images.open_images`.
        runs: The split is stored below, by a name made from the source's path.
        fractions: Shares of train, calibration and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the images of one part together.
        own: The split of a run to go on with, taken and extended in place of the stored one.
        say: Receives lines about what was made.

    Raises:
        InputError: Images or split cannot be used, or too few are left to learn from.
    """
    images = open_images(source)
    if images.kinds[NORMAL] < _LEAST:
        raise InputError(
            f"{source}: holds {counted(images.kinds[NORMAL], 'normal image')}; it takes at "
            f"least {_LEAST}, one for each part of the split, and some hundred for a useful model"
        )
    split, path = dataset.open_split(
        images,
        source,
        runs,
        _PURPOSE,
        problem=lambda split: _problem(source, Data(images, split, source)),
        own=own,
        fractions=fractions,
        seed=seed,
        group_by=group_by,
        before=_shared(shared_split_path(source, runs), images),
        called={"train": "train", CALIBRATION: "calibration", "test": "test"},
        say=say,
    )
    data = Data(images, split, path)
    for line in _gaps(data):
        say(line)
    return data


def _problem(source: Path, data: Data) -> str:
    """Why a split is useless, empty where it is not."""
    known = data.split.assignments
    there = tuple(item for item in data.images.items if item.image in known)
    placed = replace(data, images=replace(data.images, items=there))
    if len(placed.normals) < _LEARNT:
        return (
            f"{source}: only {counted(len(placed.normals), 'normal image')} to learn from stand "
            "in the train part"
        )
    return ""


def _shared(path: Path, images: LabelledImages) -> Path | None:
    """The split that all purposes once shared, unless it was made to learn defects too."""
    try:
        split = load_split(path)
    except InputError:
        return None
    train = [i for i in images.items if split.assignments.get(i.image) == "train"]
    learnt = {split.groups[item.image] for item in train if not item.is_defect}
    alone = [item for item in train if split.groups[item.image] not in learnt]
    return None if alone else path


def _gaps(data: Data) -> list[str]:
    lines = []
    if data.dropped:
        lines.append(
            f"Note: {counted(len(data.dropped), 'defect')} of parts whose normal images are "
            "learnt are left out: neither learnt nor tested."
        )
    for part, name in ((CALIBRATION, "calibration"), ("test", "test")):
        items = data.part(part)
        kinds = (
            ("normal image", not all(item.is_defect for item in items)),
            (
                "defect",
                any(item.is_defect for item in items),
            ),
        )
        lines += [f"Note: the {name} part holds no {kind}." for kind, there in kinds if not there]
    return lines
