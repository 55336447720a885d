"""Images that say where a defect is: finding and reading them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from inspection.data.images import encode_image, image_size, list_images, read_image
from inspection.decisions.rates import percent
from inspection.errors import InputError

MASK_FOLDERS = ("masks", "ground_truth")
OTHER_FOLDERS = ("images", "images_900", "annotations")
"""What a detector learns from, which may lie beside the folders of classes and is none."""
NORMAL_NAMES = ("normal", "good", "ok", "정상", "양품")
"""What a class of good parts may be called, in any case."""

Masks = dict[tuple[str, str], Path]
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_MASK = 1 << 28  # pixels
_MOST_BETWEEN = 0.02  # of a mask's pixels


def find_masks(root: Path) -> Masks:
    """The masks in `masks/` or `ground_truth/`, whose names may end in `_mask`.

    Args:
        root: Folder that holds one of the two.

    Returns:
        (defect, or "" for masks of all defects in one folder; stem of the image) to the mask.
    """
    found: Masks = {}
    for name in MASK_FOLDERS:
        folder = root / name
        if not folder.is_dir():
            continue
        for path in list_images(folder):
            kind = "" if path.parent == folder else path.parent.name
            found[kind, path.stem.removesuffix("_mask")] = path
    return found


def mask_of(masks: Masks, kind: str, stem: str) -> Path | None:
    """The mask of an image of a kind, None where there is none.

    A mask that lies in no class's folder is that of a defect.
    """
    shared = None if kind.casefold() in NORMAL_NAMES else masks.get(("", stem))
    return masks.get((kind, stem)) or shared


def read_mask(path: Path, image: Path) -> np.ndarray:
    """A mask as (H, W) bool.

    Args:
        path: The mask: two values, of which the darker means normal, but for a few pixels along
            edges; all black is allowed.
        image: The image it belongs to.

    Raises:
        InputError: The mask has another size than the image, or is not binary.
    """
    grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    wanted = image_size(image)
    if (grey.shape[1], grey.shape[0]) != wanted:
        raise InputError(
            f"{path}: the mask has {grey.shape[1]} x {grey.shape[0]} pixels, its image "
            f"{image.name} {wanted[0]} x {wanted[1]}; draw it at the image's size"
        )
    low, high = float(grey.min()), float(grey.max())
    if low == high:
        return np.full(grey.shape, low > 127)
    reach = 0.1 * (high - low)
    # Masks that were scaled have a few grey pixels along their edges.
    between = float(np.mean((grey > low + reach) & (grey < high - reach)))
    if between > _MOST_BETWEEN:
        raise InputError(
            f"{path}: the mask is not binary, {percent(between)} of its pixels are neither dark "
            "nor light; save it as PNG with black for normal and white for the defect"
        )
    return grey > (low + high) / 2


def class_folders(root: Path, notes: list[str]) -> list[Path]:
    """The folders below a root that are classes: not masks, hidden ones or a detector's data.

    Args:
        root: Where the folders are.
        notes: Takes a sentence about folders that are left out but might have been meant.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    folders = [path for path in folders if path.name not in MASK_FOLDERS]
    found = [path for path in folders if path.name not in OTHER_FOLDERS and path.name[0] != "."]
    others = [path.name for path in folders if path.name in OTHER_FOLDERS]
    if others:
        notes.append(
            f"{root}: {' and '.join(others)} are no classes and left out; rename a folder that is "
            "one"
        )
    return found


class WithMask(Protocol):
    """An image and its mask, if it has one."""

    @property
    def path(self) -> Path: ...

    @property
    def mask(self) -> Path | None: ...


def header_problems(items: Iterable[WithMask]) -> list[str]:
    """What is wrong with images and their masks, as far as headers tell: fast for thousands.

    Returns:
        A sentence for each file that is no image, or mask of another size.
    """
    problems: list[str] = []
    for item in items:
        try:
            size = image_size(item.path)
            if item.mask is not None and image_size(item.mask) != size:
                read_mask(item.mask, item.path)
        except InputError as error:
            problems += error.problems
    return problems


def encode_mask(path: str | Path) -> str:
    """A mask file, as it travels with a model.

    Args:
        path: An image; what is darker than middle grey is left out of the inspection.

    Raises:
        InputError: The file cannot be read, or nothing is left to inspect.
    """
    grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    if not (grey > 127).any():
        raise InputError(f"{path}: the mask is black everywhere; paint white what is inspected")
    white = np.repeat(np.where(grey > 127, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    return base64.b64encode(encode_image(white, ".png")).decode("ascii")


@lru_cache(maxsize=4)
def decode_mask(mask: str) -> np.ndarray:
    """(H, W) bool of what `encode_mask` wrote, True where it is inspected.

    Raises:
        InputError: It is damaged.
    """
    grey = cv2.imdecode(np.frombuffer(base64.b64decode(mask), np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise InputError("the mask of the region of interest is damaged; train the model again")
    return np.asarray(grey) > 127


def check_encoded(mask: str) -> None:
    """Whether text from a file is what `encode_mask` writes, without decoding the image.

    Raises:
        ValueError: It is no PNG, or one larger than any image.
    """
    content = base64.b64decode(mask, validate=True)
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    if not content.startswith(_PNG) or not 0 < width * height <= _LARGEST_MASK:
        raise ValueError("must be a PNG of an image's size")
