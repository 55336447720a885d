"""Which class is taken for which, at one threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detection.evaluation.average_precision import FALSE_POSITIVE, AveragePrecisionResult
from inspection.data.boxes import ImageLabels, box_iou
from inspection.prediction.detections import Detections


def confusion_matrix(
    labels: Sequence[ImageLabels],
    found: Sequence[Detections],
    measured: AveragePrecisionResult,
    threshold: float,
) -> np.ndarray:
    """Hits on the diagonal; a false alarm on a missed box of another class beside it.

    Args:
        labels: Ground truth of each image.
        found: Detections of each image, in the same order.
        measured: Their matches; the diagonal equals its true positives.
        threshold: Detections count at this score or over it.

    Returns:
        (K+1, K+1) int64, truth by row, detection by column, background last. Difficult boxes
        and what lies on them are left out.
    """
    matches, background = measured.matches, len(measured.classes)
    table = np.zeros((background + 1, background + 1), np.int64)
    hit = matches.found_at(threshold)
    np.add.at(table, (matches.truth_class[hit],) * 2, 1)
    missed = np.flatnonzero(~hit & ~matches.difficult)
    false = np.flatnonzero((matches.outcome == FALSE_POSITIVE) & (matches.score >= threshold))
    truth_left = {int(row) for row in missed}
    missed_of: dict[int, list[int]] = {}
    for row in missed:
        missed_of.setdefault(int(matches.truth_image[row]), []).append(int(row))
    for row in false:  # by descending score, each takes the missed box it covers best
        image, predicted = int(matches.detection_image[row]), matches.detection_class[row]
        rows = [candidate for candidate in missed_of.get(image, ()) if candidate in truth_left]
        taken = None
        if rows:
            box = found[image].xyxy[matches.detection_index[row]][None]
            overlap = box_iou(box, labels[image].xyxy[matches.truth_index[rows]])[0]
            if overlap.max() >= measured.iou:
                taken = rows[int(overlap.argmax())]
        if taken is None:
            table[background, predicted] += 1
        else:
            truth_left.discard(taken)
            table[matches.truth_class[taken], predicted] += 1
    for row in truth_left:
        table[matches.truth_class[row], background] += 1
    return table
