"""Boxes, the labels and detections that carry them, and their overlap.

Boxes are `xyxy`: float32, left, top, right and bottom edges in pixels of the original image,
`0 <= x1 < x2 <= W` and `0 <= y1 < y2 <= H`. A box that covers the first pixel is `[0, 0, 1, 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inspection.errors import InputError
from inspection.finite import check_finite

if TYPE_CHECKING:
    from PIL import Image

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
    difficult: NDArray[np.bool_] | None = None
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


@dataclass(frozen=True, eq=False)
class Origin:
    """Where detections come from, and what was decided on all of them.

    Args:
        image: The file, or (H, W, 3) uint8 RGB.
        bits: Bits that a 16-bit camera fills.
        classes: The model's class names, whose order gives the colours.
        score: The image's score: its highest box score, 0 where nothing was found.
        decision: `OK`, `review` or `NG`; None where the model has no operating point.
        threshold: Of the operating point; None likewise.
    """

    image: str | Path | np.ndarray
    bits: int
    classes: tuple[str, ...]
    score: float
    decision: str | None
    threshold: float | None


@dataclass(frozen=True, eq=False)
class Detections:
    """What a model finds in one image, the highest score first.

    Two are equal where boxes, scores and names are; where they come from is not compared.

    Args:
        xyxy: (N, 4) float32, edges in pixels of the original image.
        score: (N,) float32 from 0 to 1; given in any order, kept descending.
        label: N class names.
        origin: Image and decision; None where no model stands behind them.

    Raises:
        NotFinite: A score or an edge is no finite number.
        ValueError: The numbers of boxes, scores and names differ.

    Example:
        >>> found = Detections([[0, 0, 4, 4], [2, 2, 8, 8]], [0.2, 0.9], ("dust", "scratch"))
        >>> found.label
        ('scratch', 'dust')
        >>> found.above(0.5).label
        ('scratch',)
    """

    xyxy: FloatArray
    score: FloatArray
    label: tuple[str, ...]
    origin: Origin | None = None

    def __post_init__(self) -> None:
        boxes = as_boxes(self.xyxy)
        score = np.asarray(self.score, np.float32).reshape(-1)
        label = tuple(self.label)
        if not len(boxes) == len(score) == len(label):
            raise ValueError(
                f"{len(boxes)} boxes, {len(score)} scores and {len(label)} labels; "
                "their numbers must be equal"
            )
        check_finite(scores=score, edges=boxes)
        if np.any(score[1:] > score[:-1]):
            order = np.argsort(-score, kind="stable")
            boxes, score = boxes[order], score[order]
            label = tuple(label[index] for index in order)
        object.__setattr__(self, "xyxy", boxes)
        object.__setattr__(self, "score", score)
        object.__setattr__(self, "label", label)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            self.label == other.label
            and np.array_equal(self.xyxy, other.xyxy)
            and np.array_equal(self.score, other.score)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def decision(self) -> str:
        """`OK`, `review` or `NG` by the model's operating point; `above` does not change it.

        Raises:
            InputError: There is no operating point.
        """
        if self.origin is None or self.origin.decision is None:
            raise InputError(
                "no operating point decides here: the model has none (train it longer, or on more "
                "labels), or these boxes do not come from a model; compare .score yourself."
            )
        return self.origin.decision

    def above(self, score: float | None = None) -> Detections:
        """The detections whose score is at least this.

        Args:
            score: From 0 to 1; the model's operating point where left out.

        Raises:
            InputError: It was left out, and there is no operating point.
        """
        threshold = self.origin.threshold if score is None and self.origin else score
        if threshold is None:
            raise InputError(
                "no operating point says which boxes count: the model has none, or these boxes do "
                "not come from a model; give a score, for instance 0.5."
            )
        # In float64: as float32, a score just under the threshold would compare as equal to it.
        count = int(np.count_nonzero(self.score.astype(np.float64) >= threshold))
        return replace(
            self, xyxy=self.xyxy[:count], score=self.score[:count], label=self.label[:count]
        )

    def plot(self, score: float | None = None) -> Image.Image:
        """The image with the boxes of `above(score)`, their classes and scores drawn in.

        Returns:
            A Pillow image, which notebooks display; `.show()` opens it.

        Raises:
            InputError: There is no image, or none can be read, or as `above`.
        """
        from PIL import Image

        from inspection.detection_files import drawn

        return Image.fromarray(drawn(self.above(score)))

    def save(self, path: str | Path, score: float | None = None) -> Path:
        """Writes the boxes of `above(score)`, atomically, in the form that the suffix names.

        Args:
            path: `.json`: image, size, decision, score and boxes, as a line of `predict`'s
                `detections.jsonl`; `.xml`: what labelImg opens; `.png`, `.jpg`, `.bmp`, `.tif`:
                the image with the boxes drawn in.
            score: As for `above`; 0 for all.

        Returns:
            The path.

        Raises:
            InputError: Another suffix, or as `plot`.
        """
        from inspection.detection_files import save_detections

        return save_detections(self.above(score), Path(path))


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
    valid = np.isfinite(boxes).all(axis=1)
    valid &= (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if size is not None:
        valid &= (boxes[:, 2:] <= np.asarray(size, np.float32)).all(axis=1)
    return valid
