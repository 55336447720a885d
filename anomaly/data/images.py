"""Which pictures there are, of what kind, with which masks: from a folder or a CSV."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspection.data.grouping import path_problem, read_csv_rows
from inspection.data.images import IMAGE_SUFFIXES, image_size, list_images
from inspection.data.masks import (
    Masks,
    class_folders,
    find_masks,
    header_problems,
    mask_of,
    read_mask,
)
from inspection.data.split import PARTS
from inspection.errors import MOST_ECHOED, InputError, shortened
from inspection.files.listing import name_problems

NORMAL = "normal"
_NORMAL_FOLDERS = ("normal", "good")
_ANYWHERE = frozenset(PARTS)
_NOT_TRAINED = frozenset({"val", "test"})
_NOT_TESTED = frozenset({"train", "val"})


@dataclass(frozen=True)
class Picture:
    """One picture and what is known of it.

    Args:
        image: Its path from the data's root, with forward slashes.
        kind: `normal`, or the name of its defect.
        mask: Path from the root of a picture that is not black where the defect is, or None.
        parts: The parts of a split that it may stand in: a defect is never trained on.
    """

    image: str
    kind: str = NORMAL
    mask: str | None = None
    parts: frozenset[str] = _ANYWHERE

    @property
    def is_defect(self) -> bool:
        return self.kind != NORMAL

    @property
    def label(self) -> tuple[str, ...]:
        """Its classes, as a split counts them: none where it is normal."""
        return (self.kind,) if self.is_defect else ()


@dataclass(frozen=True)
class Pictures:
    """The pictures of one product.

    Args:
        root: What the paths in `items` start from.
        items: The pictures, sorted by path.
        notes: What was left out, one sentence each.
    """

    root: Path
    items: tuple[Picture, ...]
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> Counter[str]:
        """How many pictures of each kind there are."""
        return Counter(item.kind for item in self.items)

    def path(self, item: Picture) -> Path:
        """The picture's file."""
        return self.root / item.image

    def mask(self, item: Picture) -> np.ndarray | None:
        """Where the defect is: (H, W) bool in the picture's own pixels, None where not known.

        A normal picture's mask is empty.

        Raises:
            InputError: The mask has another size than the picture, or is not binary.
        """
        if not item.is_defect:
            width, height = image_size(self.path(item))
            return np.zeros((height, width), bool)
        if item.mask is None:
            return None
        return read_mask(self.root / item.mask, self.path(item))


def open_pictures(source: str | Path) -> Pictures:
    """Finds pictures in any of three layouts.

    - A folder with `normal/` (or `good/`), any number of folders named after defects, and
      `masks/`, where the mask of `crack/7.jpg` is `masks/crack/7.png`.
    - MVTec AD's layout: `train/good`, `test/good`, `test/<defect>`, `ground_truth/<defect>`,
      where masks may end in `_mask`. What stands in `train` is never tested on, what stands in
      `test` never trained on.
    - A CSV file with the columns `image`, `kind` (`normal` or a defect) and, if wanted, `mask`;
      paths from the file's own folder.

    Args:
        source: The folder or the CSV file.

    Returns:
        The pictures.

    Raises:
        InputError: There is no normal picture, or pictures, masks or lines cannot be used; all
            of them are named.
    """
    source = Path(source)
    if source.is_dir():
        list_images(source)  # refuses names that are not UTF-8, those of all folders at once
    notes: list[str] = []
    if source.suffix.lower() == ".csv":
        if names := name_problems([source]):
            raise InputError(names)
        found = Pictures(source.parent, _from_csv(source))
    elif not source.is_dir():
        raise InputError(
            f"{source}: there is no such folder or CSV file; give the folder that holds `normal/`"
        )
    elif any((source / "train" / name).is_dir() for name in _NORMAL_FOLDERS):
        found = Pictures(source, _from_mvtec(source, notes), tuple(notes))
    else:
        found = Pictures(source, _from_folders(source, notes), tuple(notes))
    _check(found, source)
    return found


def _from_folders(root: Path, notes: list[str]) -> tuple[Picture, ...]:
    normal = next((name for name in _NORMAL_FOLDERS if (root / name).is_dir()), None)
    if normal is None:
        here = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise InputError(
            f"{root}: has no folder `normal` (found: {', '.join(here[:5]) or 'no folders'}); put "
            "pictures of good parts into it, and those of each defect, if any, into a folder of "
            "the defect's name"
        )
    masks = find_masks(root)
    items = [Picture(_relative(root, path)) for path in list_images(root / normal)]
    for folder in class_folders(root, notes):
        if folder.name != normal:
            items += _defects(root, folder, masks)
    return tuple(sorted(items, key=lambda item: item.image))


def _from_mvtec(root: Path, notes: list[str]) -> tuple[Picture, ...]:
    masks = find_masks(root)
    items: list[Picture] = []
    for part, parts in (("train", _NOT_TESTED), ("test", _NOT_TRAINED)):
        if not (root / part).is_dir():
            continue
        for folder in class_folders(root / part, notes):
            if folder.name in _NORMAL_FOLDERS:
                items += [
                    Picture(_relative(root, path), parts=parts) for path in list_images(folder)
                ]
            elif part == "test":
                items += _defects(root, folder, masks)
            elif list_images(folder):
                raise InputError(
                    f"{folder}: defects in `train` would be learnt as normal; move the folder to "
                    "`test`"
                )
    return tuple(sorted(items, key=lambda item: item.image))


def _defects(root: Path, folder: Path, masks: Masks) -> list[Picture]:
    return [
        Picture(
            _relative(root, path),
            folder.name,
            mask_of(masks, folder.name, path.stem),
            _NOT_TRAINED,
        )
        for path in list_images(folder)
    ]


def _from_csv(path: Path) -> tuple[Picture, ...]:
    rows = read_csv_rows(path)
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if not {"image", "kind"} <= set(header):
        raise InputError(f"{path}, line 1: must name the columns image, kind and, if any, mask")
    items: list[Picture] = []
    problems: list[str] = []
    for line, cells in rows[1:]:
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        if len(cells) != len(header) or not row["image"] or not row["kind"]:
            problems.append(
                f"{path}, line {line}: must hold {shortened(', '.join(header))}; complete the line"
            )
            continue
        image, kind = row["image"].replace("\\", "/"), row["kind"]
        kind = NORMAL if kind.lower() in _NORMAL_FOLDERS else kind
        mask = row.get("mask", "").replace("\\", "/") or None
        parts = _ANYWHERE if kind == NORMAL else _NOT_TRAINED
        items.append(Picture(image, kind, mask, parts))
        for name in filter(None, (image, mask)):
            if problem := path_problem(name):
                problems.append(f"{path}, line {line}: {problem}")
            elif not (path.parent / name).is_file():
                problems.append(
                    f"{path}, line {line}: {shortened(name)} is not there; correct the path"
                )
        if len(kind) > MOST_ECHOED:
            problems.append(f"{path}, line {line}: the kind has {len(kind)} characters; shorten it")
    twice = [name for name, count in Counter(item.image for item in items).items() if count > 1]
    problems += [
        f"{path}: {shortened(name)} occurs twice; remove one of the lines" for name in sorted(twice)
    ]
    if problems:
        raise InputError(problems)
    return tuple(sorted(items, key=lambda item: item.image))


def _check(pictures: Pictures, source: Path) -> None:
    """Headers alone, so that ten thousand pictures take seconds."""
    problems = header_problems(
        (pictures.path(item), pictures.root / item.mask if item.mask else None)
        for item in pictures.items
    )
    if problems:
        raise InputError(problems)
    normals = pictures.kinds[NORMAL]
    if not normals:
        raise InputError(
            f"{source}: holds no normal picture ({', '.join(sorted(IMAGE_SUFFIXES))}); put "
            "pictures of good parts into `normal/`"
        )


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
