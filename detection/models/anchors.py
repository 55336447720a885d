"""Anchors: where they stand, how well they can reach the labels, and fitting them to labels.

Everything here is NumPy: anchors are made once per image size, and targets are made in the
input pipeline, outside the model's graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

STRIDES = (8, 16, 32, 64, 128)
_FITTED_BOXES = 2000
_OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
# A thin box needs an anchor of the length of a large one at the stride of a small one.
_TWO_OCTAVES = (1.0, 2**0.5, 2.0, 2**1.5)
_ENOUGH = 0.95
POSITIVE_IOU = 0.5


@dataclass(frozen=True)
class AnchorSettings:
    """Anchor shapes of the levels P3-P7 (strides 8 to 128), or of the finest of them.

    Attributes:
        sizes: Side in pixels of the square anchor of each level, from P3 on; the levels that
            have none do not exist in the network.
        scales: Factors on the side, the same at every level.
        ratios: Width divided by height, the same at every level; the area is kept.
        aligned: Whether anchors stand where the network's cells look: cell k of a level is
            centred on pixel `stride * k`. False puts them at `(k + .5) * stride`, as KerasCV does
            and as snapshots made before this field did.

    Source: Lin et al. 2017, arXiv:1708.02002, section 4: 32-512, three octaves, .5/1/2.
    """

    sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    scales: tuple[float, ...] = _OCTAVES
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    aligned: bool = True

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels from cell to cell of each level."""
        return STRIDES[: len(self.sizes)]

    @property
    def per_location(self) -> int:
        """Anchors at each location of a level."""
        return len(self.scales) * len(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for the model's own file."""
        shapes = {key: list(getattr(self, key)) for key in ("sizes", "scales", "ratios")}
        return {**shapes, "aligned": self.aligned}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> AnchorSettings:
        """The inverse of `to_dict`."""
        value = dict(value)
        aligned = bool(value.pop("aligned", False))
        shapes = {key: tuple(float(item) for item in items) for key, items in value.items()}
        return cls(**shapes, aligned=aligned)

    def first_centre(self, stride: int) -> float:
        """Where a level's first anchor is centred, in pixels from the image's edge."""
        return 0.5 if self.aligned else stride / 2

    def shapes(self) -> np.ndarray:
        """Widths and heights, (levels, per_location, 2) float64, scales outermost."""
        ratios = np.sqrt(np.asarray(self.ratios, np.float64))
        unit = np.stack([ratios, 1 / ratios], axis=-1)
        scaled = np.asarray(self.scales, np.float64)[:, None, None] * unit[None]
        return np.asarray(self.sizes, np.float64)[:, None, None] * scaled.reshape(1, -1, 2)


@lru_cache(maxsize=16)
def anchor_boxes(settings: AnchorSettings, height: int, width: int) -> np.ndarray:
    """All anchors of an image, in the order of the model's outputs.

    Args:
        settings: The shapes.
        height: Image height in pixels, any.
        width: Image width in pixels, any.

    Returns:
        (A, 4) float32 xyxy in pixels, not clipped; level by level, row by row. Read-only.
    """
    levels = []
    for stride, shape in zip(settings.strides, settings.shapes(), strict=True):
        first = settings.first_centre(stride)
        y = np.arange(-(-height // stride)) * stride + first
        x = np.arange(-(-width // stride)) * stride + first
        grid = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None, :]
        levels.append(np.concatenate([grid - shape / 2, grid + shape / 2], axis=-1).reshape(-1, 4))
    boxes = np.concatenate(levels).astype(np.float32)
    boxes.setflags(write=False)
    return boxes


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of an image: their shapes and the image's size.

    Args:
        settings: The shapes.
        height: Image height in pixels, any.
        width: Image width in pixels, any.
    """

    settings: AnchorSettings
    height: int
    width: int

    @property
    def boxes(self) -> np.ndarray:
        """(A, 4) float32 xyxy, see `anchor_boxes`."""
        return anchor_boxes(self.settings, self.height, self.width)

    def levels(self) -> list[np.ndarray]:
        """`boxes` by level: (rows, columns, per_location, 4) views of it."""
        lengths = level_lengths(self.settings, self.height, self.width)
        parts = np.split(self.boxes, np.cumsum(lengths)[:-1])
        return [
            part.reshape(-(-self.height // stride), -1, self.settings.per_location, 4)
            for stride, part in zip(self.settings.strides, parts, strict=True)
        ]


def level_lengths(settings: AnchorSettings, height: int, width: int) -> tuple[int, ...]:
    """How many anchors each level has; they add up to `len(anchor_boxes(...))`."""
    return tuple(
        -(-height // stride) * -(-width // stride) * settings.per_location
        for stride in settings.strides
    )


def best_ious(settings: AnchorSettings, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The IoU of each box with its best anchor, at the places where anchors really stand.

    Args:
        settings: The anchors.
        boxes: (N, 4) xyxy in pixels of the network's input.
        height: Height of the network's input.
        width: Width of the network's input.

    Returns:
        (N,) float64 in [0, 1].
    """
    return _ious_by_level(settings, boxes, height, width).max(axis=0)


def without_idle_levels(
    settings: AnchorSettings, boxes: np.ndarray, height: int, width: int
) -> AnchorSettings:
    """Anchors of the levels up to the coarsest one that some box needs.

    A level without a positive anchor only learns to be silent, and learns it on windows, in which
    its few cells see more padding than image. On whole images it sees none, and speaks.

    Args:
        settings: The anchors.
        boxes: (N, 4) xyxy in pixels, as training shows them.
        height: Height of the images or windows that they stand in.
        width: Their width.
    """
    ious = _ious_by_level(settings, boxes, height, width)
    if not ious.size:
        return settings
    # As targets are made: from IoU .5 on, and each box's best anchor whatever its IoU.
    needed = ((ious >= POSITIVE_IOU) | (ious >= ious.max(axis=0))).any(axis=1)
    return replace(settings, sizes=settings.sizes[: int(np.flatnonzero(needed)[-1]) + 1])


def _ious_by_level(
    settings: AnchorSettings, boxes: np.ndarray, height: int, width: int
) -> np.ndarray:
    """(levels, N) IoU of each box with its best anchor of a level.

    For one anchor shape both overlaps are greatest at the grid point nearest to the box's
    centre, so only that one is tried for each level and shape.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = boxes[:, 2:] - boxes[:, :2]
    best = []
    for stride, shape in zip(settings.strides, settings.shapes(), strict=True):
        cells = np.array([-(-width // stride), -(-height // stride)])
        first = settings.first_centre(stride)
        cell = np.floor((centre - first) / stride + 0.5)
        nearest = np.clip(cell, 0, cells - 1) * stride + first
        low = np.maximum(boxes[:, None, :2], nearest[:, None] - shape / 2)
        high = np.minimum(boxes[:, None, 2:], nearest[:, None] + shape / 2)
        overlap = np.clip(high - low, 0, None).prod(axis=-1)
        union = side.prod(axis=-1)[:, None] + shape.prod(axis=-1) - overlap
        best.append((overlap / union).max(axis=1))
    return np.stack(best)


def best_possible_recall(ious: np.ndarray, threshold: float = 0.5) -> float:
    """Share of boxes that some anchor reaches at an IoU; NaN without boxes."""
    return float((ious >= threshold).mean()) if len(ious) else float("nan")


def fit_anchors(boxes: np.ndarray, height: int, width: int) -> AnchorSettings:
    """Fits sizes and ratios to labels; falls back to the paper's anchors without labels.

    Sizes double from level to level, as strides do; the smallest is searched, and so are
    three ratios, or five where three leave boxes out of reach; long boxes that come both lying
    and upright may get four scales, too, which reach over two octaves, or seven ratios. What is
    maximised is the recall at IoU .5 plus the mean IoU of a box with its best anchor: recall
    alone stays flat over wide ranges and would leave the choice to chance.

    Args:
        boxes: (N, 4) xyxy in pixels, as training shows them; see `detection.training.shown_boxes`.
        height: Height of the images or windows that they stand in.
        width: Their width.

    Returns:
        Settings that are never worse than the paper's by that measure.
    """
    best = AnchorSettings()
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not len(boxes):
        return best
    if len(boxes) > _FITTED_BOXES:  # shapes need no more; seeded, so that a run can be repeated
        chosen = np.random.default_rng(0).choice(len(boxes), _FITTED_BOXES, replace=False)
        boxes = boxes[chosen]
    side = boxes[:, 2:] - boxes[:, :2]
    middle = round(float(np.median(np.log(side[:, 0] / side[:, 1]))), 2)
    best_quality = _quality(best, boxes, height, width)
    for steps, scales, margin in (
        ((-1, 0, 1), _OCTAVES, 0.004),
        ((-2, -1, 0, 1, 2), _OCTAVES, 0.04),
        ((-2, -1, 0, 1, 2), _TWO_OCTAVES, 0.04),
        ((-3, -2, -1, 0, 1, 2, 3), _TWO_OCTAVES, 0.04),
    ):
        if (
            scales != _OCTAVES
            and best_possible_recall(best_ious(best, boxes, height, width)) >= _ENOUGH
        ):
            break
        # The margin keeps noise from moving anchors away from the known ones, and more of them,
        # which cost time in every step, from being taken for little.
        winner, winner_quality = best, best_quality + margin
        for ratios in _ratio_candidates(middle, steps):
            for base in np.geomspace(8, 64, 13):
                sizes = tuple(round(float(base) * 2**level, 2) for level in range(len(STRIDES)))
                candidate = AnchorSettings(sizes, scales, ratios)
                found = _quality(candidate, boxes, height, width)
                if found > winner_quality:
                    winner, winner_quality = candidate, found
        if winner is not best:
            best, best_quality = winner, winner_quality
    return best


def _quality(settings: AnchorSettings, boxes: np.ndarray, height: int, width: int) -> float:
    ious = best_ious(settings, boxes, height, width)
    return float(ious.mean()) + best_possible_recall(ious)


def _ratio_candidates(middle: float, steps: tuple[int, ...]) -> list[tuple[float, ...]]:
    candidates = [(0.5, 1.0, 2.0)] if len(steps) == 3 else []
    for centre in sorted({0.0, middle}):
        for spread in (0.25, 0.4, 0.55, 0.7, 0.9, 1.1, 1.4):
            candidates.append(
                tuple(max(0.001, round(float(np.exp(centre + step * spread)), 3)) for step in steps)
            )
    return candidates
