"""Training targets: which anchor answers for which box, and the box as offsets of its anchor."""

from __future__ import annotations

import numpy as np

from detection.models.anchors import AnchorGrid
from detection.models.near_anchors import LEAST_IOU, TIE, find_near
from inspection.data.boxes import box_iou

BACKGROUND = -1
IGNORED = -2
_IGNORED_IOU = 0.2
# KerasCV's box variances, so that its own decoder reads our model's outputs too.
_VARIANCE = np.array([0.1, 0.1, 0.2, 0.2], np.float32)


def match_anchors(
    grid: AnchorGrid,
    boxes: np.ndarray,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
) -> np.ndarray:
    """Assigns anchors to boxes.

    An anchor goes to the box that it overlaps most, at an IoU of at least `positive_iou`. Every
    box also gets its own best anchors, however small the overlap, or small defects would never
    be learnt; where two boxes share a best anchor, each still gets one.

    Args:
        grid: The anchors of an image, A of them.
        boxes: (N, 4) xyxy in pixels, not empty boxes; N may be 0.
        positive_iou: From here on an anchor is positive.
        negative_iou: Below this it is background; between the two it is ignored.

    Returns:
        (A,) int32: the index of the box, `BACKGROUND` or `IGNORED`.

    Source: Lin et al. 2017, arXiv:1708.02002, section 4; forced matches as in Ren et al. 2015,
        arXiv:1506.01497, section 3.1.2.
    """
    match = np.full(len(grid.boxes), BACKGROUND, np.int32)
    if not len(boxes):
        return match
    near = find_near(grid, boxes, negative_iou)
    best = np.zeros(len(match))
    np.maximum.at(best, near.anchor, near.iou)
    winner = np.flatnonzero(near.iou == best[near.anchor])[::-1]  # of equal ones the first box
    match[near.anchor[winner]] = near.box[winner]
    match[best < positive_iou] = IGNORED
    match[best < negative_iou] = BACKGROUND
    top = np.zeros(len(boxes))
    np.maximum.at(top, near.box, near.iou)
    # Least reachable box last, so that it keeps its anchor when two boxes want the same one.
    order = np.argsort(-top)
    ties = np.flatnonzero(near.iou >= np.maximum(top - TIE, LEAST_IOU)[near.box])
    ties = ties[np.argsort(near.box[ties], kind="stable")]
    tied, owner = near.anchor[ties], near.box[ties]
    fits_well = best[tied] >= positive_iou
    ends = np.cumsum(np.bincount(owner, minlength=len(boxes)))
    for index in order:
        own = slice(ends[index - 1] if index else 0, ends[index])
        # Every anchor that holds a pinhole ties for it; those that fit another box stay there.
        taken = fits_well[own] & (match[tied[own]] != index)
        match[tied[own][~taken]] = index
    held = np.bincount(match[match >= 0], minlength=len(boxes))
    for index in order[::-1]:
        if not held[index]:
            # A box that holds exactly one anchor keeps it.
            kept = np.isin(match, np.flatnonzero(held == 1))
            anchor = _nearest_anchor(kept, grid.boxes, boxes[index])
            if match[anchor] >= 0:
                held[match[anchor]] -= 1
            match[anchor], held[index] = index, 1
    return match


def _nearest_anchor(taken: np.ndarray, anchors: np.ndarray, box: np.ndarray) -> int:
    iou = np.where(taken, -1.0, box_iou(anchors, box[None])[:, 0])
    if iou.max() > 0:
        return int(iou.argmax())
    # Nothing free overlaps it (a box of a pixel or two): the nearest centre that is free.
    offset = (anchors[:, :2] + anchors[:, 2:] - box[:2] - box[2:]) / 2
    distance = np.where(taken, np.inf, (offset**2).sum(axis=1))
    return int(distance.argmin())


def encode_boxes(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Boxes as offsets of their anchors.

    Args:
        anchors: (N, 4) xyxy in pixels.
        boxes: (N, 4) xyxy in pixels, of positive width and height.

    Returns:
        (N, 4) float32: centre y, centre x, log height, log width, divided by KerasCV's
        variances (.1, .1, .2, .2).
    """
    anchor_side = anchors[:, 2:] - anchors[:, :2]
    offset = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / anchor_side
    growth = np.log((boxes[:, 2:] - boxes[:, :2]) / anchor_side)
    encoded = np.concatenate([offset[:, ::-1], growth[:, ::-1]], axis=1)
    return (encoded / _VARIANCE).astype(np.float32)


def decode_boxes(anchors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The inverse of `encode_boxes`: (N, 4) xyxy float32 in pixels, not clipped."""
    offsets = offsets * _VARIANCE
    anchor_side = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + offsets[:, 1::-1] * anchor_side
    # An untrained network may ask for a box of e^50 pixels; 1000 / 16 is detectron2's bound.
    half = anchor_side * np.exp(np.minimum(offsets[:, :1:-1], np.log(1000 / 16))) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def make_targets(
    grid: AnchorGrid,
    boxes: np.ndarray,
    classes: np.ndarray,
    ignored: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Targets of one image.

    Args:
        grid: The anchors of the image, A of them.
        boxes: (N, 4) xyxy in pixels.
        classes: (N,) class indices.
        ignored: (M, 4) xyxy in pixels, where nothing is to be learnt: the rest of a defect
            that a window cuts. Background anchors on them do not count.
        offsets: (A, 4) float32 zeros to write the box offsets into, such as a part of a batch.

    Returns:
        Box offsets (A, 4) float32, zero where there is no box, and classes (A,) int32 with
        `BACKGROUND` and `IGNORED`.
    """
    labels = match_anchors(grid, boxes)
    if offsets is None:
        offsets = np.zeros((len(labels), 4), np.float32)
    positive = np.flatnonzero(labels >= 0)
    chosen = labels[positive]
    if ignored is not None and len(ignored):
        near = find_near(grid, ignored, _IGNORED_IOU)
        quiet = near.anchor[near.iou >= _IGNORED_IOU]
        labels[quiet[labels[quiet] == BACKGROUND]] = IGNORED
    if len(positive):
        offsets[positive] = encode_boxes(grid.boxes[positive], boxes[chosen])
        labels[positive] = np.asarray(classes, np.int32)[chosen]
    return offsets, labels
