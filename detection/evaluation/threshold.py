"""The operating point of a detector, chosen on the validation part by image scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from detection.evaluation.average_precision import (
    IGNORED,
    TRUE_POSITIVE,
    in_order,
    measure_average_precision,
)
from detection.models.decision import image_score
from inspection.data.boxes import ImageLabels, labels_hash
from inspection.decisions.operating_point import DEFECTIVE, NORMAL, OperatingPoint, choose_threshold
from inspection.decisions.rates import Rate, support_note
from inspection.errors import InputError
from inspection.prediction.detections import Detections

BEST_F1 = "best box F1 (no normal images to calibrate on)"
_NOTHING_FOUND = (
    "Calibration: the model found no box on the defective images of the validation part, so no "
    "threshold can be chosen; train longer, or give a threshold yourself."
)
DetectionsOf = Mapping[str, Detections] | Sequence[Detections]


def truth_of(labels: ImageLabels) -> str:
    """`defective`, `normal`, or `difficult` where every box is marked difficult."""
    if not len(labels.label):
        return "normal"
    return "difficult" if labels.difficult.all() else "defective"


def choose_operating_point(
    labels: Sequence[ImageLabels],
    detections: DetectionsOf,
    rule: str = "least-overkill",
    *,
    data_hash: str | None = None,
    **options: float,
) -> OperatingPoint:
    """Chooses the threshold on the calibration part, by image scores.

    Where the part holds no normal image, overkill cannot be weighed and the threshold of best
    box F1 is taken instead; the rule's name then says so. Where defective images without a
    single box leave no threshold over 0 that meets the rule, it is chosen among the others, and
    the notes say so.

    Args:
        labels: Ground truth of the validation part, never of the test part.
        detections: One per image, in the same order or by image name.
        rule: One of `inspection.decisions.operating_point.RULES`.
        data_hash: Hash of this part; made from the labels where left out.
        **options: Targets and costs, see `choose_threshold`.

    Returns:
        The operating point.

    Raises:
        InputError: As `choose_threshold`, or no image at all.
    """
    found = in_order(labels, detections)
    truth = np.array([truth_of(entry) for entry in labels])
    scores = np.array([image_score(entry) for entry in found])
    data_hash = labels_hash(labels) if data_hash is None else data_hash
    certain = truth != "difficult"
    if (truth == "normal").any() or not (truth == "defective").any():
        point = choose_threshold(
            scores[certain], truth[certain] == "defective", rule, data_hash=data_hash, **options
        )
        blind = (truth == "defective") & (scores == 0)
        if point.threshold > 0 or not blind.any():
            return point
        seen = certain & ~blind
        if not (truth[seen] == "defective").any():
            raise InputError(_NOTHING_FOUND)
        point = choose_threshold(
            scores[seen], truth[seen] == "defective", rule, data_hash=data_hash, **options
        )
        return _with_blind(point, int(np.count_nonzero(blind)))
    threshold = _best_f1_threshold(labels, found)
    defective = scores[truth == "defective"]
    miss = Rate(int(np.count_nonzero(defective < threshold)), defective.size, DEFECTIVE)
    note = support_note(miss, options.get("target", 0.005), "miss rate")
    return OperatingPoint(
        threshold=threshold,
        rule=BEST_F1,
        target=math.nan,
        miss=miss,
        overkill=Rate(0, 0, NORMAL),
        data_hash=data_hash,
        notes=(note,) if note else (),
    )


def _with_blind(point: OperatingPoint, blind: int) -> OperatingPoint:
    """Counts the defects in which no box was found.

    They score 0, so a rule that must catch them could only reject every part. The threshold is
    chosen among the others, and what that leaves is said.
    """
    miss = Rate(point.miss.count + blind, point.miss.total + blind, DEFECTIVE)
    note = (
        f"{blind} of {miss.total} defective images hold no box at all: no threshold catches them, "
        "and this one was chosen on the others; train longer or label more like them."
    )
    return replace(point, miss=miss, notes=(note, *point.notes))


def _best_f1_threshold(labels: Sequence[ImageLabels], found: Sequence[Detections]) -> float:
    names = {name for one in (labels, found) for entry in one for name in entry.label}
    matches = measure_average_precision(labels, found, sorted(names), iou=0.5).matches
    counted = matches.outcome != IGNORED
    score, is_true = matches.score[counted], matches.outcome[counted] == TRUE_POSITIVE
    if not score.size:
        raise InputError(_NOTHING_FOUND)
    boxes = np.count_nonzero(~matches.difficult)
    f1 = 2 * np.cumsum(is_true) / (boxes + np.arange(1, score.size + 1))
    # A threshold takes all detections of one score or none.
    last = np.append(np.flatnonzero(np.diff(score)), score.size - 1)
    best = last[np.argmax(f1[last])]
    below = score[best + 1] if best + 1 < score.size else score[best]
    # As a float32 value it decides alike in float32 and float64.
    middle = float(np.float32((score[best] + below) / 2))
    return middle if below < middle <= score[best] else float(score[best])
