"""Labels, classes and split of a training or an evaluation, from the folders a user names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detection.data.table import classes_of, labels_for
from detection.settings import ROOM, TrainSettings
from inspection.cli.commands import command_line
from inspection.data.boxes import ImageLabels, labels_hash
from inspection.data.images import image_size
from inspection.data.letterbox import FitMode, fit_for
from inspection.data.split import Split
from inspection.data.stored_split import Judge, stored_split
from inspection.errors import InputError
from inspection.files.writing import may_write

SPLIT_NAME = "split.csv"


@dataclass(frozen=True)
class Dataset:
    """Labelled images and which part each one belongs to.

    Args:
        labels: Every labelled image.
        classes: Class names, sorted.
        split: Its stored split.
        split_path: Where the split is stored.
    """

    labels: tuple[ImageLabels, ...]
    classes: tuple[str, ...]
    split: Split
    split_path: Path

    def part(self, name: str) -> list[ImageLabels]:
        """The labels of `train`, `val` or `test`."""
        return self.split.select(self.labels, name)

    @property
    def hash(self) -> str:
        """SHA-256 of all labels."""
        return labels_hash(self.labels)


def split_path(annotations: Path, snapshots: Path) -> Path:
    """Where the split of an annotations folder is stored, or will be.

    Beside the labels; where that folder is read-only, under the snapshots, by a name made
    from the folder's path. A split that is there counts, also when the mode has changed since.
    """
    inside, outside = annotations / SPLIT_NAME, _outside(annotations, snapshots)
    order = (inside, outside) if may_write(annotations) else (outside, inside)
    return next((path for path in order if path.is_file()), order[0])


def _outside(annotations: Path, snapshots: Path) -> Path:
    digest = hashlib.sha256(str(annotations.resolve()).encode()).hexdigest()[:8]
    return snapshots / "splits" / f"{annotations.resolve().parent.name}-{digest}.csv"


def open_dataset(
    annotations: Path,
    images: Path,
    snapshots: Path,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_by: str | None = None,
    one_based: bool = False,
    unlabelled: str = "skip",
    to_train: bool = False,
    own: Path | None = None,
    say: Callable[[str], None] = print,
) -> Dataset:
    """Reads labels, converting XML where it is newer, and makes or extends the stored split.

    Args:
        annotations: Folder of labelImg XML or a CSV.
        images: Folder of the images.
        snapshots: Where a split goes whose labels' folder is read-only.
        fractions: Shares of train, val and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the images of one part together.
        one_based: See `detection.data.table.labels_for`.
        unlabelled: See `detection.data.table.labels_for`.
        to_train: Refuse a split that nothing can be trained with, before it is stored.
        own: The split of a run to go on with, taken and extended in place of the stored one.
        say: Receives a line when the split is made or extended, and what was fixed in the labels.

    Raises:
        InputError: Labels or split cannot be read.
    """
    labels = read_labels(annotations, images, one_based, unlabelled, say)
    path = own or split_path(annotations, snapshots)
    split, path = stored_split(
        labels,
        path,
        fractions=fractions,
        seed=seed,
        group_by=group_by,
        elsewhere=_outside(annotations, snapshots),
        judge=Judge(lambda split: _problem(annotations, labels, split)) if to_train else None,
        of_run=own is not None,
        say=say,
    )
    dataset = Dataset(tuple(labels), classes_of(labels), split, path)
    for line in _gaps(dataset):
        say(line)
    return dataset


def dataset_of(
    settings: TrainSettings,
    *,
    to_train: bool = False,
    own: Path | None = None,
    say: Callable[[str], None] = print,
) -> Dataset:
    """The labels and the split that the settings name; see `open_dataset`."""
    return open_dataset(
        settings.annotations,
        settings.images,
        settings.snapshots,
        fractions=settings.fractions,
        seed=settings.seed,
        group_by=settings.group_by,
        one_based=settings.one_based,
        unlabelled=settings.unlabelled,
        to_train=to_train,
        own=own,
        say=say,
    )


def read_labels(
    annotations: Path,
    images: Path,
    one_based: bool = False,
    unlabelled: str = "skip",
    say: Callable[[str], None] = print,
) -> list[ImageLabels]:
    """Labels of a folder; at most a handful of notes are said, the rest is counted."""
    if not Path(images).is_dir():
        raise InputError(f"{images}: there is no such folder; --images names where the images are.")
    if unlabelled not in ("skip", "normal"):
        raise InputError(f"--unlabelled {unlabelled}: must be skip or normal.")
    notes: list[str] = []
    labels = labels_for(annotations, images, one_based, unlabelled, warnings=notes)
    notes += similar_classes(labels)
    for note in notes[:5]:
        say(note)
    if len(notes) > 5:
        check = command_line(ROOM, "check")
        say(f"... and {len(notes) - 5} more such notes; `{check}` lists all.")
    return labels


def similar_classes(labels: Sequence[ImageLabels]) -> list[str]:
    """One sentence for each class name that is written in several ways."""
    spellings: dict[str, list[str]] = {}
    for name in classes_of(labels):
        spellings.setdefault("".join(name.split()).casefold(), []).append(name)
    return [
        f"Warning: {', '.join(map(repr, names))} differ only in case or space and count as "
        f"{len(names)} classes; `{command_line(ROOM, 'check')}` names the files."
        for names in spellings.values()
        if len(names) > 1
    ]


def boxes_per_class(labels: Sequence[ImageLabels]) -> Counter[str]:
    """How many boxes each class has."""
    return Counter(name for item in labels for name in item.label)


def without_difficult(labels: ImageLabels) -> ImageLabels:
    """The labels that training learns from and an evaluation counts."""
    kept = ~labels.difficult
    names = tuple(name for name, keep in zip(labels.label, kept, strict=True) if keep)
    return replace(labels, xyxy=labels.xyxy[kept], label=names, difficult=None)


def fitted_boxes(
    labels: Sequence[ImageLabels], images: Path, size: int, fit: FitMode = "letterbox"
) -> np.ndarray:
    """(N, 4) float32 boxes of all images in pixels of the network's input.

    Args:
        labels: The images.
        images: Their folder; only headers are read.
        size: Side that images are fitted to.
        fit: How.

    Raises:
        InputError: An image cannot be read.
    """
    fitted = [np.zeros((0, 4), np.float32)]
    for item in labels:
        if len(item.xyxy):
            width, height = image_size(Path(images) / item.image)
            fitted.append(fit_for(width, height, size, fit).to_fitted(item.xyxy))
    return np.concatenate(fitted)


def _problem(annotations: Path, labels: Sequence[ImageLabels], split: Split) -> str:
    """Why nothing can be trained with a split, empty where it can."""
    there = {split.assignments.get(item.image) for item in labels if not item.difficult.all()}
    if there >= {"train", "val"}:
        return ""
    return (
        f"{annotations}: the train and val parts need at least one box each that is not marked "
        "difficult"
    )


def choose_stratified(labels: Sequence[ImageLabels], count: int, seed: int) -> list[ImageLabels]:
    """At most `count` of the images, of each kind about its share and at least one.

    An image is of the kind of its rarest class that is not marked difficult, or normal.

    Args:
        labels: The images.
        count: How many to choose, at least 1.
        seed: The same seed chooses the same images.

    Returns:
        The chosen ones, in the order of `labels`.
    """
    counted = [
        {name for name, hard in zip(item.label, item.difficult, strict=True) if not hard}
        for item in labels
    ]
    uses = Counter(name for names in counted for name in names)
    kinds = [min(names, key=lambda name: (uses[name], name), default="") for names in counted]
    sizes, seen = Counter(kinds), Counter[str]()
    places: list[tuple[float, bool, int, int]] = []
    for index in np.random.default_rng(seed).permutation(len(labels)).tolist():
        kind = kinds[index]
        # Dealt out in rounds in which each kind comes by its share; first one of each.
        places.append((seen[kind] / sizes[kind], not kind, sizes[kind], index))
        seen[kind] += 1
    return [labels[index] for index in sorted(place[-1] for place in sorted(places)[:count])]


def _gaps(dataset: Dataset) -> list[str]:
    """What a split cannot serve for, one sentence each."""
    missing = []
    for part, purpose in (("val", "choose the best snapshot"), ("test", "measure the result")):
        if not dataset.part(part):
            missing.append(f"Warning: the {part} part is empty; nothing is left to {purpose} on.")
    trained = boxes_per_class(dataset.part("train"))
    unseen = [name for name in dataset.classes if not trained[name]]
    if unseen:
        missing.append(
            f"Warning: the train part holds no box of {', '.join(unseen)}, which cannot be learnt; "
            "label more, or group less coarsely."
        )
    return missing
