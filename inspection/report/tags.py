"""Where the name of a box stands: beside it, off every other box, with a line to its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Edges = tuple[float, float, float, float]
_RINGS = (1.0, 2.0, 3.5, 5.0)  # distances in heights of a tag that are tried with a line
_FAR = 0.002  # what each place further down the list costs, in shares of a covered box


def tag_places(
    boxes: Sequence[Edges], tags: Sequence[tuple[int, tuple[int, int]]], size: tuple[int, int]
) -> list[Edges]:
    """Places of tags that cover as little as can be of what is boxed.

    Covering half of a small box counts as much as covering half of a large one, so that a tag
    rather lies in a corner of a large box than over a small defect.

    Args:
        boxes: xyxy of every box in pixels of the view, also of those without a tag.
        tags: Index of the box and (width, height) of its tag.
        size: (width, height) of the view.

    Returns:
        xyxy of each tag, whole pixels inside the view where it fits.
    """
    # What is outside the view cannot be covered; a share of what can be seen is counted.
    limit = np.array([*size, *size], float)
    seen = np.clip(np.array(boxes, float).reshape(-1, 4), 0, limit)
    places: list[Edges] = []
    for index, (width, height) in tags:
        places_so_far = np.array(places, float).reshape(-1, 4)
        tried = _candidates(seen[index], width, height)
        tag = np.array([width, height])
        corner = np.clip(np.round(tried), 0, np.maximum(0, np.array(size) - tag))
        rects = np.hstack([corner, corner + tag])
        covered = _covered(rects, np.concatenate([seen, places_so_far])).sum(axis=1)
        best = int((covered + _FAR * np.arange(len(rects))).argmin())
        places.append(tuple(rects[best].tolist()))
    return places


def leader(tag: Edges, box: Edges) -> tuple[float, float, float, float] | None:
    """The line from a tag to its box; None where they touch.

    Args:
        tag: xyxy.
        box: xyxy.
    """
    ends = []
    for low, high, other_low, other_high in (
        (tag[0], tag[2], box[0], box[2]),
        (tag[1], tag[3], box[1], box[3]),
    ):
        if high < other_low:
            ends.append((high, other_low))
        elif other_high < low:
            ends.append((low, other_high))
        else:
            middle = (max(low, other_low) + min(high, other_high)) / 2
            ends.append((middle, middle))
    (x1, x2), (y1, y2) = ends
    return None if max(abs(x2 - x1), abs(y2 - y1)) <= 4 else (x1, y1, x2, y2)


def _candidates(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """(C, 2) upper left corners around a box, the most usual first."""
    x1, y1, x2, y2 = box
    found = [
        (x1, y1 - height - 1),
        (x1, y2 + 1),
        (x2 - width, y1 - height - 1),
        (x2 - width, y2 + 1),
        (x2 + 1, y1),
        (x1 - width - 1, y1),
    ]
    for ring in _RINGS:
        gap = ring * height
        found += [
            (x2 + gap, y1 - height - gap),
            (x1 - width - gap, y1 - height - gap),
            (x2 + gap, y2 + gap),
            (x1 - width - gap, y2 + gap),
            (x1, y1 - height - gap),
            (x1, y2 + gap),
            (x2 + gap, y1),
            (x1 - width - gap, y1),
        ]
    return np.array(found, float)


def _covered(rects: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(R, B) share of each box that each rectangle covers."""
    low = np.maximum(rects[:, None, :2], boxes[None, :, :2])
    high = np.minimum(rects[:, None, 2:], boxes[None, :, 2:])
    area = np.clip(high - low, 0, None).prod(axis=2)
    return area / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1)
