"""From the network's raw outputs to boxes: score threshold, top-k, NMS, all in NumPy."""

from __future__ import annotations

import numpy as np

from detection.models.targets import decode_boxes
from inspection.finite import check_finite

MIN_SCORE = 0.05
NMS_IOU = 0.5
MAX_DETECTIONS = 100
LEVEL_TOP_K = 1000


def decode(
    offsets: np.ndarray,
    logits: np.ndarray,
    anchors: np.ndarray,
    levels: tuple[int, ...],
    image_size: tuple[int, int],
    min_score: float = MIN_SCORE,
    nms_iou: float = NMS_IOU,
    max_detections: int = MAX_DETECTIONS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes of one image, after per-class non-maximum suppression.

    Args:
        offsets: (A, 4) float32 from the box head.
        logits: (A, C) float32 from the classification head.
        anchors: (A, 4) xyxy in pixels.
        levels: Anchors per pyramid level; they add up to A.
        image_size: (height, width) of the network's input, to which boxes are clipped.
        min_score: Lower scores are dropped.
        nms_iou: A box that overlaps a better one of its class by more than this is dropped.
        max_detections: The best so many are kept.

    Returns:
        Boxes (N, 4) float32, scores (N,) float32 descending, class indices (N,) int64.

    Raises:
        NotFinite: An offset or a logit is no finite number. It would compare as "no box".

    Source: Lin et al. 2017, arXiv:1708.02002, section 4.1 (top 1,000 a level, NMS at .5).
    """
    check_finite(offsets=offsets, logits=logits)
    classes = logits.shape[1]
    # Compared as logits, so that the sigmoid is taken of the few that pass.
    with np.errstate(divide="ignore"):
        threshold = np.log(np.float64(min_score)) - np.log1p(-np.float64(min_score))
    chosen = []
    start = 0
    for length in levels:
        flat = logits[start : start + length].reshape(-1)
        passed = np.flatnonzero(flat >= threshold)
        if len(passed) > LEVEL_TOP_K:
            best = np.argpartition(-flat[passed], LEVEL_TOP_K)[:LEVEL_TOP_K]
            passed = np.sort(passed[best])
        chosen.append(passed + start * classes)
        start += length
    index = np.concatenate(chosen)
    anchor, label = index // classes, index % classes
    score = 1 / (1 + np.exp(-logits.reshape(-1)[index].astype(np.float64)))
    boxes = decode_boxes(anchors[anchor], offsets[anchor])
    height, width = image_size
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    real = (boxes[:, 2:] - boxes[:, :2] >= 1e-3).all(axis=1)
    boxes, score, label = boxes[real], score[real].astype(np.float32), label[real]
    keep = suppress(boxes, score, label, nms_iou, max_detections)
    return boxes[keep], score[keep], label[keep]


def suppress(
    boxes: np.ndarray, score: np.ndarray, label: np.ndarray, iou: float, max_detections: int
) -> np.ndarray:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: (N, 4) xyxy.
        score: (N,).
        label: (N,) class indices; boxes of two classes never suppress each other.
        iou: Overlap above which the worse box is dropped.
        max_detections: Stops after so many; the rest could only be worse.

    Returns:
        Indices of the kept boxes, best first; ties keep their order.
    """
    remaining = np.argsort(-score, kind="stable")
    boxes = boxes.astype(np.float64)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    while len(remaining) and len(kept) < max_detections:
        best, rest = remaining[0], remaining[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = np.maximum(high - low, 0).prod(axis=1)
        union = area[best] + area[rest] - overlap
        remaining = rest[(overlap <= iou * union) | (label[rest] != label[best])]
    return np.asarray(kept, np.int64)
