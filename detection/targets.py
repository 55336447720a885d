"""Training targets: which anchor answers for which box, and the box as offsets of its anchor."""

from __future__ import annotations

import numpy as np

from inspection.boxes import box_iou

BACKGROUND = -1
IGNORED = -2
_IGNORED_IOU = 0.2
# KerasCV's box variances, so that its own decoder reads our model's outputs too.
_VARIANCE = np.array([0.1, 0.1, 0.2, 0.2], np.float32)


def match_anchors(
    anchors: np.ndarray,
    boxes: np.ndarray,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
) -> np.ndarray:
    """Assigns anchors to boxes.

    An anchor goes to the box that it overlaps most, at an IoU of at least `positive_iou`. Every
    box also gets its own best anchors, however small the overlap, or small defects would never
    be learnt; where two boxes share a best anchor, each still gets one.

    Args:
        anchors: (A, 4) xyxy in pixels.
        boxes: (N, 4) xyxy in pixels, not empty boxes; N may be 0.
        positive_iou: From here on an anchor is positive.
        negative_iou: Below this it is background; between the two it is ignored.

    Returns:
        (A,) int32: the index of the box, `BACKGROUND` or `IGNORED`.

    Source: Lin et al. 2017, arXiv:1708.02002, section 4; forced matches as in Ren et al. 2015,
        arXiv:1506.01497, section 3.1.2.
    """
    if not len(boxes):
        return np.full(len(anchors), BACKGROUND, np.int32)
    iou = box_iou(anchors, boxes)
    best = iou.max(axis=1)
    match = iou.argmax(axis=1).astype(np.int32)
    match[best < positive_iou] = IGNORED
    match[best < negative_iou] = BACKGROUND
    top = iou.max(axis=0)
    # Least reachable box last, so that it keeps its anchor when two boxes want the same one.
    order = np.argsort(-top)
    fits_well = best >= positive_iou
    for index in order:
        ties = iou[:, index] >= max(top[index] - 1e-6, 1e-9)
        # Every anchor that holds a pinhole ties for it; those that fit another box stay there.
        match[ties & ~(fits_well & (match != index))] = index
    for index in order[::-1]:
        if not (match == index).any():
            free = np.where(np.isin(match, _sole_matches(match)), -1.0, iou[:, index])
            match[_nearest_anchor(free, anchors, boxes[index])] = index
    return match


def _sole_matches(match: np.ndarray) -> np.ndarray:
    """Boxes that hold exactly one anchor, which must not be taken from them."""
    index, count = np.unique(match[match >= 0], return_counts=True)
    return index[count == 1]


def _nearest_anchor(free_iou: np.ndarray, anchors: np.ndarray, box: np.ndarray) -> int:
    if free_iou.max() > 0:
        return int(free_iou.argmax())
    # Nothing free overlaps it (a box of a pixel or two): the nearest centre that is free.
    offset = (anchors[:, :2] + anchors[:, 2:] - box[:2] - box[2:]) / 2
    distance = np.where(free_iou < 0, np.inf, (offset**2).sum(axis=1))
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
    anchors: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    ignored: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Targets of one image.

    Args:
        anchors: (A, 4) xyxy in pixels.
        boxes: (N, 4) xyxy in pixels.
        classes: (N,) class indices.
        ignored: (M, 4) xyxy in pixels, where nothing is to be learnt: the rest of a defect
            that a window cuts. Background anchors on them do not count.

    Returns:
        Box offsets (A, 4) float32, zero where there is no box, and classes (A,) int32 with
        `BACKGROUND` and `IGNORED`.
    """
    match = match_anchors(anchors, boxes)
    positive = np.flatnonzero(match >= 0)
    offsets = np.zeros((len(anchors), 4), np.float32)
    labels = match.copy()
    if ignored is not None and len(ignored):
        near = box_iou(anchors, ignored).max(axis=1) >= _IGNORED_IOU
        labels[near & (match == BACKGROUND)] = IGNORED
    if len(positive):
        chosen = match[positive]
        offsets[positive] = encode_boxes(anchors[positive], boxes[chosen])
        labels[positive] = np.asarray(classes, np.int32)[chosen]
    return offsets, labels
