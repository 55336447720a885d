"""Pictures of any folder: with classes and masks where they are told, else without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classification.data.images import Picture, Pictures, open_pictures
from inspection.data.images import list_images
from inspection.data.masks import MASK_FOLDERS, find_masks, mask_of, read_mask
from inspection.errors import InputError
from inspection.files.listing import name_problems

_OURS = ("defect_masks",)


@dataclass(frozen=True)
class FoundPicture:
    """One picture of a folder.

    Args:
        image: Its path from the folder, with forward slashes.
        path: Its file.
        kind: Its class, None where it is not told.
        mask_path: Where its mask is, None without one.
    """

    image: str
    path: Path
    kind: str | None = None
    mask_path: Path | None = None

    @classmethod
    def of(cls, pictures: Pictures, item: Picture) -> FoundPicture:
        """One of labelled images."""
        mask = pictures.root / item.mask if item.mask else None
        return cls(item.image, pictures.path(item), item.kind, mask)

    def mask(self) -> np.ndarray | None:
        """(H, W) bool where the defect is, None without a mask; raises as `read_mask`."""
        return None if self.mask_path is None else read_mask(self.mask_path, self.path)


def find_pictures(source: Path, classes: Sequence[str]) -> list[FoundPicture]:
    """Pictures below a folder, of a CSV, or a single one.

    A folder named like a class tells the class; masks stand in `masks/` as in
    `classification.data.images`.

    Args:
        source: Folder, CSV or picture.
        classes: Names that the model knows.

    Raises:
        InputError: There is nothing, or no picture, or names are not UTF-8.
    """
    if source.suffix.lower() == ".csv" and source.is_file():
        pictures = open_pictures(source)
        return [FoundPicture.of(pictures, item) for item in pictures.items]
    if source.is_file():
        if names := name_problems([source]):
            raise InputError(names)
        return [FoundPicture(source.name, source)]
    if not source.exists():
        raise InputError(f"{source}: there is no such file or folder; correct the path")
    masks = find_masks(source)
    found = []
    for path in list_images(source):
        image = path.relative_to(source)
        if any(part in (*MASK_FOLDERS, *_OURS) for part in image.parts[:-1]):
            continue
        kind = image.parts[-2] if len(image.parts) > 1 else source.name
        mask = mask_of(masks, kind, path.stem)
        found.append(
            FoundPicture(
                image.as_posix(),
                path,
                kind if kind in classes else None,
                source / mask if mask else None,
            )
        )
    if not found:
        raise InputError(f"{source}: holds no picture; give a folder with PNG, JPEG, BMP or TIFF")
    return found
