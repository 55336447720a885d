"""Boxes, the labels that carry them, and their overlap.

Boxes are `xyxy`: float32, left, top, right and bottom edges in pixels of the original image,
`0 <= x1 < x2 <= W` and `0 <= y1 < y2 <= H`. A box that covers the first pixel is `[0, 0, 1, 1]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]


def as_boxes(xyxy: ArrayLike) -> FloatArray:
    """Boxes as a float32 array of shape (N, 4); an empty sequence becomes (0, 4).

    Raises:
        ValueError: The values are not rows of four numbers.
    """
    boxes = np.asarray(xyxy, dtype=np.float32)
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes need the shape (N, 4), not {boxes.shape}")
    return boxes


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """What a human says about one image; a normal image has no boxes.

    Args:
        image: Path relative to the images folder, with `/` between folders.
        xyxy: (N, 4) float32, edges in pixels of the original image.
        label: N class names.
        difficult: (N,) bool, boxes that an evaluation ignores; none where left out.
        source: Path of the XML file the labels come from, or "".

    Raises:
        ValueError: The numbers of boxes, names and difficult flags differ.
    """

    image: str
    xyxy: FloatArray
    label: tuple[str, ...] = ()
    difficult: NDArray[np.bool_] = None  # type: ignore[assignment]  # made below
    source: str = ""

    def __post_init__(self) -> None:
        boxes = as_boxes(self.xyxy)
        flags = self.difficult
        difficult = np.zeros(len(boxes), bool) if flags is None else np.asarray(flags, bool)
        object.__setattr__(self, "xyxy", boxes)
        object.__setattr__(self, "label", tuple(self.label))
        object.__setattr__(self, "difficult", difficult.reshape(-1))
        if not len(boxes) == len(self.label) == len(self.difficult):
            raise ValueError(
                f"{self.image}: {len(boxes)} boxes, {len(self.label)} labels and "
                f"{len(self.difficult)} difficult flags; their numbers must be equal"
            )

    def __len__(self) -> int:
        return len(self.xyxy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImageLabels):
            return NotImplemented
        return (
            (self.image, self.label, self.source) == (other.image, other.label, other.source)
            and np.array_equal(self.xyxy, other.xyxy)
            and np.array_equal(self.difficult, other.difficult)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    @property
    def is_normal(self) -> bool:
        """Whether the image holds no box at all."""
        return len(self.xyxy) == 0


def box_area(xyxy: ArrayLike) -> NDArray[np.float64]:
    """Areas in square pixels; an inverted box has none.

    Args:
        xyxy: (N, 4) edges in pixels.

    Returns:
        (N,) float64.
    """
    boxes = as_boxes(xyxy).astype(np.float64)
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)


def box_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every box of `a` with every box of `b`.

    Computed in float64: an IoU of exactly 0.5 has to compare as 0.5, because AP counts it.
    Boxes without area overlap nothing.

    Args:
        a: (N, 4) edges in pixels.
        b: (M, 4) edges in pixels.

    Returns:
        (N, M) float64 from 0 to 1.
    """
    first = as_boxes(a).astype(np.float64)
    second = as_boxes(b).astype(np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.prod(np.maximum(high - low, 0.0), axis=2)
    union = box_area(first)[:, None] + box_area(second)[None, :] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def clip_boxes(xyxy: ArrayLike, width: float, height: float) -> FloatArray:
    """Boxes cut at the edges of the image; one that lies outside is left without area.

    Args:
        xyxy: (N, 4) edges in pixels.
        width: Image width in pixels.
        height: Image height in pixels.

    Returns:
        (N, 4) float32.
    """
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(as_boxes(xyxy), np.float32(0), limit)


def valid_boxes(xyxy: ArrayLike, size: Sequence[float] | None = None) -> NDArray[np.bool_]:
    """Which boxes are finite, have an area and lie within the image.

    Args:
        xyxy: (N, 4) edges in pixels.
        size: (width, height) in pixels; without it only the minima are held against 0.

    Returns:
        (N,) bool.
    """
    boxes = as_boxes(xyxy)
    valid = np.asarray(np.isfinite(boxes).all(axis=1), bool)
    valid &= (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if size is not None:
        valid &= (boxes[:, 2:] <= np.asarray(size, np.float32)).all(axis=1)
    return valid


def labels_hash(labels: Sequence[ImageLabels]) -> str:
    """SHA-256 over images, boxes and classes, whatever the order of the images."""
    digest = hashlib.sha256()
    for entry in sorted(labels, key=lambda item: item.image):
        boxes = np.asarray(entry.xyxy, "<f4").tobytes()
        flags = np.asarray(entry.difficult, np.uint8).tobytes()
        for part in (entry.image.encode(), "\0".join(entry.label).encode(), boxes, flags):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
