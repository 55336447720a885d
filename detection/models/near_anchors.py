"""Which anchors lie near which boxes, without a look at every anchor for every box.

An anchor shape stands on a grid, so its overlap with a box is the product of one along the
columns and one along the rows; both take a few hundred numbers a box where a table of all
IoUs takes a hundred thousand. Only the anchors of the rows and columns that can matter are
then measured, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detection.models.anchors import AnchorGrid
from inspection.data.boxes import as_boxes

# The look along columns and rows takes all anchors of a shape as equally large, which float32
# edges keep to 1e-5; what it lets through is measured exactly.
_ROUNDING = 1e-3
TIE, LEAST_IOU = 1e-6, 1e-9


@dataclass(frozen=True, eq=False)
class Near:
    """Pairs of an anchor and a box; none stands here twice.

    Args:
        anchor: (P,) index of the anchor.
        box: (P,) index of the box; ascending among the pairs of one anchor.
        iou: (P,) float64, equal to what `box_iou` gives.
    """

    anchor: np.ndarray
    box: np.ndarray
    iou: np.ndarray


def find_near(grid: AnchorGrid, boxes: np.ndarray, iou: float) -> Near:
    """Every anchor that overlaps a box at an IoU, and the best anchors of each box.

    Args:
        grid: The anchors.
        boxes: (N, 4) xyxy in pixels; N is at least 1.
        iou: All anchors from this IoU on are among the pairs. Of a box that none reaches, all
            anchors are whose IoU is above 0 and within `TIE` of its best one. Some pairs lie
            below that.
    """
    boxes = as_boxes(boxes).astype(np.float64)
    found = [_Overlaps(level, boxes) for level in _levels(grid)]
    top = np.max([overlaps.best.max(axis=1) for overlaps in found], axis=0)
    need = np.maximum(np.minimum(iou, top - TIE), LEAST_IOU) * (1 - _ROUNDING)
    pairs = [overlaps.measure(need) for overlaps in found]
    return Near(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))


@dataclass(frozen=True, eq=False)
class _Level:
    """The anchors of one level, for each shape along the columns and along the rows.

    Args:
        x: (2, K, columns) float64 left and right edges.
        y: (2, K, rows) float64 upper and lower edges.
        start: Index of the level's first anchor.
    """

    x: np.ndarray
    y: np.ndarray
    start: int


@lru_cache(maxsize=16)
def _levels(grid: AnchorGrid) -> tuple[_Level, ...]:
    levels, start = [], 0
    for boxes in grid.levels():
        x = boxes[0][:, :, [0, 2]].transpose(2, 1, 0).astype(np.float64, "C")
        y = boxes[:, 0][:, :, [1, 3]].transpose(2, 1, 0).astype(np.float64, "C")
        levels.append(_Level(x, y, start))
        start += boxes.shape[0] * boxes.shape[1] * boxes.shape[2]
    return tuple(levels)


class _Overlaps:
    """How N boxes overlap the anchors of a level, along each axis by itself.

    Attributes:
        best: (N, K) IoU of each box with the best anchor of each shape, but for rounding.
    """

    def __init__(self, level: _Level, boxes: np.ndarray) -> None:
        self._level = level
        self._x = _along(level.x, boxes[:, 0], boxes[:, 2])
        self._y = _along(level.y, boxes[:, 1], boxes[:, 3])
        self._box_area = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
        self._most_x, self._most_y = self._x.max(axis=2), self._y.max(axis=2)
        side_x, side_y = (axis[1, :, 0] - axis[0, :, 0] for axis in (level.x, level.y))
        self._both = self._box_area[:, None] + side_x * side_y
        overlap = self._most_x * self._most_y
        self.best = overlap / (self._both - overlap)

    def measure(self, need: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Anchors, boxes and IoU of the pairs that may reach what each box needs, (N,)."""
        box, shape = np.nonzero(self.best >= need[:, None])
        # An IoU of t is an overlap of t / (1 + t) of both areas.
        least = (need[box] / (1 + need[box])) * self._both[box, shape]
        x, y = self._x[box, shape], self._y[box, shape]
        column, columns = _span(x * self._most_y[box, shape][:, None] >= least[:, None])
        row, rows = _span(y * self._most_x[box, shape][:, None] >= least[:, None])
        count = rows * columns
        pair = np.repeat(np.arange(len(box)), count)
        place = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
        down = place // columns[pair]
        column = column[pair] + place - down * columns[pair]
        row = row[pair] + down
        kinds, width = self._level.x.shape[1:]
        kind = shape[pair]
        side_x, side_y = (axis[1] - axis[0] for axis in (self._level.x, self._level.y))
        overlap = x[pair, column] * y[pair, row]
        area = side_x[kind, column] * side_y[kind, row]
        iou = overlap / (area + self._box_area[box[pair]] - overlap)
        anchor = self._level.start + (row * width + column) * kinds + kind
        return anchor, box[pair], iou


def _along(edges: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(N, K, places) overlap in pixels of N intervals with the anchors' along an axis."""
    overlap = np.minimum(edges[1], high[:, None, None])
    overlap -= np.maximum(edges[0], low[:, None, None])
    return np.maximum(overlap, 0.0, out=overlap)


def _span(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of the run of True in each row, in which there is at least one."""
    first = inside.argmax(axis=1)
    return first, inside.shape[1] - inside[:, ::-1].argmax(axis=1) - first
