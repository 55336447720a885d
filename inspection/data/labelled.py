"""Which images there are, of which class, with which masks: from folders or a CSV file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np

from inspection.data.images import image_size, list_images
from inspection.data.masks import MASK_FOLDERS, Masks, class_folders, find_masks, mask_of, read_mask
from inspection.data.split import PARTS
from inspection.errors import MOST_ECHOED, InputError, shortened
from inspection.files.listing import name_problems
from inspection.files.tables import Table, path_problem
from inspection.files.writing import file_hash

NORMAL_FOLDER, DEFECT_FOLDER, _DEFECT_MASKS = "normal_images", "defect_images", "defect_masks"
_ANYWHERE = frozenset(PARTS)


@dataclass(frozen=True)
class LabelledImage:
    """An image and what is known of it.

    Args:
        image: Its path from the data's root, with forward slashes.
        path: Its file.
        kind: Its class; None where nothing tells it.
        mask: A file that is not black where the defect is; None where there is none.
        parts: The parts of a split that it may stand in.
        is_normal: It shows a good part, which is no class of its own: to a split it has no
            label, and its mask is empty. A classifier learns good parts as a class like any
            other, and leaves this False.
    """

    image: str
    path: Path
    kind: str | None = None
    mask: Path | None = None
    parts: frozenset[str] = _ANYWHERE
    is_normal: bool = False

    @property
    def is_defect(self) -> bool:
        return not self.is_normal

    @property
    def label(self) -> tuple[str, ...]:
        """Its classes, as a split counts them: none where it is normal."""
        return () if self.is_normal or self.kind is None else (self.kind,)

    def read_mask(self) -> np.ndarray | None:
        """Where the defect is: (H, W) bool in the image's own pixels, None where not known.

        Raises:
            InputError: The mask has another size than the image, or is not binary.
        """
        if self.is_normal:
            width, height = image_size(self.path)
            return np.zeros((height, width), bool)
        return None if self.mask is None else read_mask(self.mask, self.path)


@dataclass(frozen=True)
class LabelledImages:
    """Images with a class each.

    Args:
        root: What the names of the items start from.
        items: The images, sorted by name.
        normal: The class of good parts, None where there is none.
        notes: What was left out, one sentence each.
    """

    root: Path
    items: tuple[LabelledImage, ...]
    normal: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> Counter[str]:
        """How many images of each class there are."""
        return Counter(item.kind for item in self.items if item.kind is not None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names: the normal one first, the others sorted."""
        return tuple(sorted(self.kinds, key=lambda name: (name != self.normal, name)))

    @cached_property
    def contents(self) -> dict[str, str]:
        """SHA-256 of every image's file, which is read once."""
        return {item.image: file_hash(item.path) for item in self.items}

    @cached_property
    def hash(self) -> str:
        """SHA-256 over names, classes and contents, masks included."""
        digest = hashlib.sha256()
        for item in self.items:
            mask = file_hash(item.mask) if item.mask else ""
            line = f"{item.image}\0{item.kind}\0{self.contents[item.image]}\0{mask}\n"
            digest.update(line.encode())
        return digest.hexdigest()


def find_labelled(source: str | Path, problems: list[str] | None = None) -> LabelledImages:
    """Finds images in any of four layouts.

    - A folder for each class, and if wanted `masks/` (or `ground_truth/`), where the mask of
      `crack/7.jpg` is `masks/crack/7.png`; a mask's name may end in `_mask`.
    - The same below `train/`, and below `val/` and `test/` where they are there: then no image
      changes sides between learning and test. MVTec AD's `ground_truth/` beside them is that of
      `test/`.
    - `train/normal_images`, `train/defect_images` and `train/defect_masks`, whose files have
      the defect images' names; the classes are `normal` and `defect`.
    - A CSV file with the columns `image` and `label` (or `kind`), and if wanted `mask` and `part`
      (train, val or test); paths from the file's own folder.

    Args:
        source: The folder or the CSV file.
        problems: Takes a sentence for each class without an image; where left out, such a
            folder is passed over.

    Raises:
        InputError: There is no such folder or file, or names, lines or masks cannot be used; all
            of them are named.
    """
    source = Path(source)
    if source.suffix.lower() == ".csv":
        if names := name_problems([source]):
            raise InputError(names)
        return _sorted(source.parent, _from_csv(source))
    if not source.is_dir():
        raise InputError(
            f"{source}: there is no such folder or CSV file; give the folder that holds a folder "
            "for each class, such as `normal/`"
        )
    list_images(source)  # refuses names that no table holds, those of all folders at once
    notes: list[str] = []
    problems = [] if problems is None else problems
    if (source / "train" / NORMAL_FOLDER).is_dir():
        items = _from_defect_folders(source)
    elif (source / "train").is_dir():
        items = _from_parts(source, problems, notes)
    else:
        items = _from_folders(source, source, find_masks(source), _ANYWHERE, problems, notes)
    return _sorted(source, items, notes)


def find_images(source: Path, classes: Collection[str]) -> list[LabelledImage]:
    """Images below a folder, of a CSV, or a single one, whether their class is known or not.

    A folder named like a class tells the class; masks stand in `masks/` as for `find_labelled`.

    Args:
        source: Folder, CSV or image.
        classes: Names that a model knows.

    Raises:
        InputError: There is nothing, or no image, or names are not UTF-8.
    """
    if source.suffix.lower() == ".csv" and source.is_file():
        return list(find_labelled(source).items)
    if source.is_file():
        if names := name_problems([source]):
            raise InputError(names)
        return [LabelledImage(source.name, source)]
    if not source.exists():
        raise InputError(f"{source}: there is no such file or folder; correct the path")
    masks = find_masks(source)
    found = []
    for path in list_images(source):
        image = path.relative_to(source)
        if is_mask(image):
            continue
        folder = image.parts[-2] if len(image.parts) > 1 else source.name
        kind = folder if folder in classes else None
        found.append(LabelledImage(image.as_posix(), path, kind, mask_of(masks, folder, path.stem)))
    if not found:
        raise InputError(f"{source}: holds no image; give a folder with PNG, JPEG, BMP or TIFF")
    return found


def is_mask(name: PurePath) -> bool:
    """Whether a file is a mask, by the folders of its name below the one that was given."""
    return not {*MASK_FOLDERS, _DEFECT_MASKS}.isdisjoint(name.parts[:-1])


def _sorted(root: Path, items: list[LabelledImage], notes: Collection[str] = ()) -> LabelledImages:
    return LabelledImages(
        root, tuple(sorted(items, key=lambda item: item.image)), notes=tuple(notes)
    )


def _from_folders(
    root: Path,
    folder: Path,
    masks: Masks,
    parts: frozenset[str],
    problems: list[str],
    notes: list[str],
) -> list[LabelledImage]:
    items: list[LabelledImage] = []
    for kind in class_folders(folder, notes):
        paths = list_images(kind)
        if not paths:
            problems.append(f"{kind}: the class is empty; put images into it, or remove the folder")
        for path in paths:
            mask = mask_of(masks, kind.name, path.stem)
            name = path.relative_to(root).as_posix()
            items.append(LabelledImage(name, path, kind.name, mask, parts))
    return items


def _from_parts(root: Path, problems: list[str], notes: list[str]) -> list[LabelledImage]:
    items = []
    there = [
        part
        for part in PARTS
        if (root / part).is_dir() and any(path.is_dir() for path in (root / part).iterdir())
    ]
    for part in there:
        folder = root / part
        parts = frozenset({part})
        if part == "train" and "val" not in there:
            parts = frozenset({"train", "val"}) if "test" in there else _ANYWHERE
        masks = find_masks(folder)
        if part == "test":
            masks = find_masks(root) | masks
        items += _from_folders(root, folder, masks, parts, problems, notes)
    return items


def _from_defect_folders(root: Path) -> list[LabelledImage]:
    train = root / "train"
    if not (train / DEFECT_FOLDER).is_dir():
        raise InputError(f"{train}: has no folder `{DEFECT_FOLDER}`; put the defects there")
    masks = {}
    if (train / _DEFECT_MASKS).is_dir():
        masks = {p.stem.removesuffix("_mask"): p for p in list_images(train / _DEFECT_MASKS)}
    items: list[LabelledImage] = []
    problems: list[str] = []
    for folder, kind in ((NORMAL_FOLDER, "normal"), (DEFECT_FOLDER, "defect")):
        paths = list_images(train / folder)
        if not paths:
            problems.append(f"{train / folder}: the class is empty; put images into it")
        for path in paths:
            mask = masks.pop(path.stem, None) if kind == "defect" else None
            items.append(LabelledImage(path.relative_to(root).as_posix(), path, kind, mask))
    problems += [
        f"{path}: no image in {DEFECT_FOLDER} has this mask's name; rename one of the two, or "
        "remove the mask"
        for path in masks.values()
    ]
    if problems:
        raise InputError(problems)
    return items


def _from_csv(path: Path) -> list[LabelledImage]:
    table = Table.read(path)
    name = next((one for one in ("label", "kind") if one in table.columns), None)
    if name is None or "image" not in table.columns:
        raise InputError(
            f"{path}, line 1: must name the columns image and label, and if any mask and part"
        )
    items: list[LabelledImage] = []
    problems: list[str] = []
    for where, row in table.records(("image", name), problems):
        kind, part = row[name], row.get("part", "")
        if part and part not in PARTS:
            problems.append(f"{where}: the part is {part!r}; it must be {', '.join(PARTS)}")
        if len(kind) > MOST_ECHOED:
            problems.append(f"{where}: the class has {len(kind)} characters; shorten it")
        image, mask = (row.get(column, "").replace("\\", "/") for column in ("image", "mask"))
        for file in filter(None, (image, mask)):
            if problem := path_problem(file):
                problems.append(f"{where}: {problem}")
            elif not (path.parent / file).is_file():
                problems.append(f"{where}: {shortened(file)} is not there; correct the path")
        items.append(
            LabelledImage(
                image,
                path.parent / image,
                kind,
                path.parent / mask if mask else None,
                frozenset({part}) if part else _ANYWHERE,
            )
        )
    twice = [name for name, count in Counter(item.image for item in items).items() if count > 1]
    problems += [
        f"{path}: {shortened(name)} occurs twice; remove one of the lines" for name in sorted(twice)
    ]
    if problems:
        raise InputError(problems)
    return items
