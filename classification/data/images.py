"""Which pictures there are, of which class, with which masks: from folders or a CSV."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspection.cli.console import counted
from inspection.data.grouping import path_problem, read_csv_rows
from inspection.data.images import list_images
from inspection.data.masks import class_folders, find_masks, header_problems, mask_of, read_mask
from inspection.data.split import PARTS
from inspection.errors import MOST_ECHOED, InputError, shortened
from inspection.files.listing import name_problems
from inspection.files.writing import file_hash

NORMAL_NAMES = ("normal", "good", "ok", "정상", "양품")
_NORMAL_FOLDER, _DEFECT_FOLDER, _DEFECT_MASKS = "normal_images", "defect_images", "defect_masks"
_LEARNT = frozenset({"train", "val"})
_ANYWHERE = frozenset(PARTS)
_LEAST = 3  # pictures of a class: one for each part


@dataclass(frozen=True)
class Picture:
    """One picture and its class.

    Args:
        image: Its path from the data's root, with forward slashes.
        kind: Its class.
        mask: Path from the root of a picture that is not black where the defect is, or None.
        parts: The parts of a split that it may stand in.
    """

    image: str
    kind: str
    mask: str | None = None
    parts: frozenset[str] = _ANYWHERE

    @property
    def label(self) -> tuple[str, ...]:
        """Its class, as a split counts it."""
        return (self.kind,)


@dataclass(frozen=True)
class Pictures:
    """Pictures with a class each.

    Args:
        root: What the paths in `items` start from.
        items: The pictures, sorted by path.
        normal: The class of good parts, None where there is none.
        notes: What was left out, one sentence each.
    """

    root: Path
    items: tuple[Picture, ...]
    normal: str | None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names: the normal one first, the others sorted."""
        names = sorted({item.kind for item in self.items}, key=lambda n: (n != self.normal, n))
        return tuple(names)

    def path(self, item: Picture) -> Path:
        """The picture's file."""
        return self.root / item.image

    def mask(self, item: Picture) -> np.ndarray | None:
        """Where the defect is: (H, W) bool in the picture's own pixels, None where not known.

        Raises:
            InputError: The mask has another size than the picture, or is not binary.
        """
        return None if item.mask is None else read_mask(self.root / item.mask, self.path(item))

    @property
    def hash(self) -> str:
        """SHA-256 over names, classes and contents, masks included."""
        digest = hashlib.sha256()
        for item in self.items:
            mask = file_hash(self.root / item.mask) if item.mask else ""
            content = file_hash(self.path(item))
            digest.update(f"{item.image}\0{item.kind}\0{content}\0{mask}\n".encode())
        return digest.hexdigest()


def open_pictures(source: str | Path, normal: str | None = None) -> Pictures:
    """Finds pictures in any of four layouts.

    - A folder for each class, and if wanted `masks/` (or `ground_truth/`), where the mask of
      `crack/7.jpg` is `masks/crack/7.png`.
    - The same below `train/`, and below `val/` and `test/` where they are there: then no
      picture changes sides between learning and test.
    - `train/normal_images`, `train/defect_images` and `train/defect_masks`, whose files have
      the defect pictures' names; the classes are `normal` and `defect`.
    - A CSV file with the columns `image` and `label`, and if wanted `mask` and `part` (train,
      val or test); paths from the file's own folder.

    Args:
        source: The folder or the CSV file.
        normal: The class of good parts; where left out, one that is named so, see
            `NORMAL_NAMES`.

    Raises:
        InputError: There are fewer than two classes, a class is empty or too small, or
            pictures, masks or lines cannot be used; all of them are named.
    """
    source = Path(source)
    if source.is_dir():
        list_images(source)  # refuses names that are not UTF-8, those of all folders at once
    problems: list[str] = []
    notes: list[str] = []
    if source.suffix.lower() == ".csv":
        if names := name_problems([source]):
            raise InputError(names)
        root, items = source.parent, _from_csv(source)
    elif not source.is_dir():
        raise InputError(
            f"{source}: there is no such folder or CSV file; give the folder that holds one "
            "folder for each class"
        )
    elif (source / "train" / _NORMAL_FOLDER).is_dir():
        root, items = source, _from_defect_folders(source)
    elif (source / "train").is_dir():
        root, items = source, _from_parts(source, problems, notes)
    else:
        root, items = source, _from_folders(source, source, _ANYWHERE, problems, notes)
    items = sorted(items, key=lambda item: item.image)
    names = {item.kind for item in items}
    if normal is not None and normal not in names:
        problems.append(
            f"--normal {normal}: there is no such class; there are {', '.join(sorted(names))}"
        )
    if normal is None:
        normal = next((one for one in sorted(names) if one.casefold() in NORMAL_NAMES), None)
    found = Pictures(root, tuple(items), normal, tuple(notes))
    _check(found, source, problems)
    return found


def _from_folders(
    root: Path, folder: Path, parts: frozenset[str], problems: list[str], notes: list[str]
) -> list[Picture]:
    masks = find_masks(folder)
    items: list[Picture] = []
    for kind in class_folders(folder, notes):
        paths = list_images(kind)
        if not paths:
            problems.append(
                f"{kind}: the class is empty; put pictures into it, or remove the folder"
            )
        for path in paths:
            mask = mask_of(masks, kind.name, path.stem)
            mask = None if mask is None else (folder / mask).relative_to(root).as_posix()
            items.append(Picture(path.relative_to(root).as_posix(), kind.name, mask, parts))
    if not items and not problems:
        raise InputError(
            [f"{folder}: holds no folder with pictures; make one for each class", *notes]
        )
    return items


def _from_parts(root: Path, problems: list[str], notes: list[str]) -> list[Picture]:
    items = []
    separate = (root / "test").is_dir() and any(p.is_dir() for p in (root / "test").iterdir())
    own_val = (root / "val").is_dir()
    for part in PARTS:
        folder = root / part
        if not folder.is_dir() or (part == "test" and not separate):
            continue
        if part == "train":
            parts = frozenset({"train"}) if own_val else _LEARNT if separate else _ANYWHERE
        else:
            parts = frozenset({part})
        items += _from_folders(root, folder, parts, problems, notes)
    return items


def _from_defect_folders(root: Path) -> list[Picture]:
    train = root / "train"
    items = [
        Picture(path.relative_to(root).as_posix(), "normal")
        for path in list_images(train / _NORMAL_FOLDER)
    ]
    if not (train / _DEFECT_FOLDER).is_dir():
        raise InputError(f"{train}: has no folder `{_DEFECT_FOLDER}`; put the defects there")
    masks = {}
    if (train / _DEFECT_MASKS).is_dir():
        masks = {p.stem.removesuffix("_mask"): p for p in list_images(train / _DEFECT_MASKS)}
    defects = list_images(train / _DEFECT_FOLDER)
    for path in defects:
        mask = masks.pop(path.stem, None)
        mask = None if mask is None else mask.relative_to(root).as_posix()
        items.append(Picture(path.relative_to(root).as_posix(), "defect", mask))
    if masks:
        raise InputError(
            [
                f"{path}: no picture in {_DEFECT_FOLDER} has this mask's name; rename one of the "
                "two, or remove the mask"
                for path in masks.values()
            ]
        )
    for folder, count in ((_NORMAL_FOLDER, len(items) - len(defects)), (_DEFECT_FOLDER, None)):
        if not (len(defects) if count is None else count):
            raise InputError(f"{train / folder}: the class is empty; put pictures into it")
    return items


def _from_csv(path: Path) -> list[Picture]:
    rows = read_csv_rows(path)
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if not {"image", "label"} <= set(header):
        raise InputError(
            f"{path}, line 1: must name the columns image and label, and if any mask and part"
        )
    items: list[Picture] = []
    problems: list[str] = []
    for line, cells in rows[1:]:
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        where = f"{path}, line {line}"
        if len(cells) != len(header) or not row["image"] or not row["label"]:
            problems.append(f"{where}: must hold {shortened(', '.join(header))}; complete the line")
            continue
        part = row.get("part", "")
        if part and part not in PARTS:
            problems.append(f"{where}: the part is {part!r}; it must be {', '.join(PARTS)}")
        image = row["image"].replace("\\", "/")
        mask = row.get("mask", "").replace("\\", "/") or None
        parts = frozenset({part}) if part else _ANYWHERE
        items.append(Picture(image, row["label"], mask, parts))
        for name in filter(None, (image, mask)):
            if problem := path_problem(name):
                problems.append(f"{where}: {problem}")
            elif not (path.parent / name).is_file():
                problems.append(f"{where}: {shortened(name)} is not there; correct the path")
        if len(row["label"]) > MOST_ECHOED:
            problems.append(f"{where}: the class has {len(row['label'])} characters; shorten it")
    twice = [name for name, count in Counter(item.image for item in items).items() if count > 1]
    problems += [
        f"{path}: {shortened(name)} occurs twice; remove one of the lines" for name in sorted(twice)
    ]
    if problems:
        raise InputError(problems)
    return items


def _check(pictures: Pictures, source: Path, problems: list[str]) -> None:
    """Headers alone, so that ten thousand pictures take seconds."""
    problems += header_problems(
        (pictures.path(item), pictures.root / item.mask if item.mask else None)
        for item in pictures.items
    )
    if len(pictures.classes) < 2:
        problems.append(
            f"{source}: holds the pictures of {counted(len(pictures.classes), 'class')} only; "
            "telling classes apart takes two, and for normal pictures alone there is "
            "`python -m anomaly`"
        )
    counts = Counter(item.kind for item in pictures.items)
    problems += [
        f"{source}: the class {name!r} holds {counted(count, 'picture')}; it takes at least "
        f"{_LEAST}, one to learn from, one to calibrate and one to test on: add pictures, or "
        "join it to another class"
        for name, count in sorted(counts.items())
        if count < _LEAST
    ]
    if problems:
        raise InputError(problems)
