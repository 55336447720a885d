"""Pictures with their stored split: the same sides for every method and every run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anomaly.data.images import NORMAL, Picture, Pictures, open_pictures
from anomaly.data.near_duplicates import near_duplicates
from inspection.cli.console import counted
from inspection.data.split import PARTS, Split, load_split
from inspection.data.stored_split import Judge, shared_split_path, split_path, stored_split
from inspection.errors import InputError
from inspection.files.writing import file_hash

_LEAST = 3  # normal pictures
_LEARNT = 2  # of them at least
_PURPOSE = "anomaly"
CALIBRATION = "val"
"""The part that thresholds and aggregations are chosen on."""


@dataclass(frozen=True)
class Data:
    """Pictures and which part each one belongs to.

    Args:
        pictures: All of them.
        split: Its parts are `train` (normal pictures only are learnt), `val` (calibration)
            and `test`.
        split_path: Where the split is stored.
    """

    pictures: Pictures
    split: Split
    split_path: Path

    def part(self, name: str) -> list[Picture]:
        """The pictures of a part; of `train` the normal ones, as nothing else is learnt."""
        items = self.split.select(self.pictures.items, name)
        return [item for item in items if not item.is_defect] if name == "train" else items

    @property
    def normals(self) -> list[Picture]:
        """What is learnt."""
        return self.part("train")

    @property
    def dropped(self) -> list[Picture]:
        """Defects of parts of which normal pictures are learnt: no test may see them either."""
        items = self.split.select(self.pictures.items, "train")
        return [item for item in items if item.is_defect]

    def near_duplicates(self) -> list[tuple[str, str]]:
        """Pairs of nearly equal pictures on two sides; see `anomaly.data.near_duplicates`."""
        paths = {item.image: self.pictures.path(item) for item in self.pictures.items}
        cache = self.split_path.with_suffix(".small.npz")
        return near_duplicates(paths, self.split.assignments, cache)

    @property
    def hash(self) -> str:
        """SHA-256 over names, kinds and contents."""
        digest = hashlib.sha256()
        for item in self.pictures.items:
            content = file_hash(self.pictures.path(item))
            mask = file_hash(self.pictures.root / item.mask) if item.mask else ""
            digest.update(f"{item.image}\0{item.kind}\0{content}\0{mask}\n".encode())
        return digest.hexdigest()


def open_data(
    source: Path,
    runs: Path,
    *,
    fractions: Sequence[float] = (0.6, 0.15, 0.25),
    seed: int = 0,
    group_by: str | None = None,
    say: Callable[[str], None] = print,
) -> Data:
    """Finds the pictures, and makes or extends their split.

    Normal pictures are divided by all three fractions, defects by the last two. A group with
    both goes where its normal pictures go; where these are learnt its defects are dropped.

    Args:
        source: See `anomaly.data.images.open_pictures`.
        runs: The split is stored below, by a name made from the source's path.
        fractions: Shares of train, calibration and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the pictures of one part together.
        say: Told what was made.

    Raises:
        InputError: Pictures or split cannot be used, or too few are left to learn from.
    """
    pictures = open_pictures(source)
    for note in pictures.notes:
        say(f"Note: {note}.")
    if pictures.kinds[NORMAL] < _LEAST:
        raise InputError(
            f"{source}: holds {counted(pictures.kinds[NORMAL], 'normal picture')}; it takes at "
            f"least {_LEAST}, one for each part of the split, and some hundred for a useful model"
        )
    split, path = stored_split(
        pictures.items,
        split_path(source, runs, _PURPOSE),
        fractions=fractions,
        seed=seed,
        group_by=group_by,
        allowed=lambda item: item.parts,
        before=_shared(shared_split_path(source, runs), pictures),
        judge=Judge(lambda split: _problem(source, Data(pictures, split, source)), "--runs"),
        called={"train": "train", CALIBRATION: "calibration", "test": "test"},
        say=say,
    )
    data = Data(pictures, split, path)
    for line in _gaps(data):
        say(line)
    return data


def _problem(source: Path, data: Data) -> str:
    """Why a split is useless, empty where it is not."""
    known = data.split.assignments
    there = replace(
        data.pictures, items=tuple(item for item in data.pictures.items if item.image in known)
    )
    placed = replace(data, pictures=there)
    if len(placed.normals) < _LEARNT:
        return (
            f"{source}: only {counted(len(placed.normals), 'normal image')} to learn from stand "
            "in the train part"
        )
    return ""


def _shared(path: Path, pictures: Pictures) -> Path | None:
    """The split that all purposes once shared, unless it was made to learn defects too."""
    try:
        split = load_split(path)
    except InputError:
        return None
    train = [i for i in pictures.items if split.assignments.get(i.image) == "train"]
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
            ("normal picture", not all(item.is_defect for item in items)),
            (
                "defect",
                any(item.is_defect for item in items),
            ),
        )
        lines += [f"Note: the {name} part holds no {kind}." for kind, there in kinds if not there]
    return lines


def describe(data: Data) -> list[str]:
    """One line for each part: pictures of each kind."""
    lines = []
    for part in PARTS:
        items = data.part(part)
        kinds = sorted({item.kind for item in items}, key=lambda kind: (kind != NORMAL, kind))
        text = ", ".join(f"{kind} {sum(item.kind == kind for item in items)}" for kind in kinds)
        lines.append(f"{part}: {counted(len(items), 'picture')}; {text or 'none'}")
    return lines
