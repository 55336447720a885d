"""What a detector's boxes are worth: AP per class, and decisions at the operating point.

An image's score is its highest box score; it is NG iff that is at or over the threshold.
Precision, recall, F1 and the confusion matrix of boxes stand at the same threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detection.evaluation.average_precision import (
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    AveragePrecisionResult,
    in_order,
    measure_average_precision,
)
from detection.evaluation.coco import CocoMetrics, coco_metrics
from detection.evaluation.confusion import confusion_matrix
from detection.evaluation.result import BACKGROUND, ClassMetrics, Evaluation, ImageResult
from detection.evaluation.threshold import (
    DetectionsOf,
    choose_operating_point,
    truth_of,
)
from detection.models.decision import image_score
from inspection.data.boxes import ImageLabels, labels_hash
from inspection.decisions.operating_point import (
    DEFECTIVE,
    NORMAL,
    OperatingPoint,
    fixed_threshold,
)
from inspection.decisions.rates import Rate
from inspection.prediction.detections import Detections
from inspection.report.evaluation import group_interval

if TYPE_CHECKING:
    pass

__all__ = [
    "BACKGROUND",
    "ClassMetrics",
    "Evaluation",
    "ImageResult",
    "choose_operating_point",
    "evaluate_detections",
]


def evaluate_detections(
    labels: Sequence[ImageLabels],
    detections: DetectionsOf,
    classes: Sequence[str],
    operating_point: OperatingPoint | None = None,
    iou: float = 0.5,
    *,
    min_score: float = 0.05,
    max_detections: int = 100,
    groups: Mapping[str, str] | None = None,
    prevalence: float | None = None,
    coco_engine: str = "auto",
) -> Evaluation:
    """Measures boxes and decisions on one part of the data.

    Args:
        labels: Ground truth of each image; one without boxes is normal.
        detections: One per image, in the same order or by image name.
        classes: Class names.
        operating_point: Chosen on another part; without it .5, which is said in the notes.
        iou: The IoU a hit needs.
        min_score: AP counts detections over this score.
        max_detections: The highest-scoring ones of an image that count.
        groups: Image to part, where several images show one part; adds intervals over parts.
        prevalence: Share of defective parts in production, where it is known.
        coco_engine: See `coco_metrics`.

    Returns:
        The evaluation.

    Raises:
        InputError: A label that is not among the classes, or an image without prediction.
    """
    labels, found = tuple(labels), tuple(in_order(labels, detections))
    point = fixed_threshold(0.5) if operating_point is None else operating_point
    options = {"iou": iou, "max_detections": max_detections}
    curves = measure_average_precision(labels, found, classes, min_score=min_score, **options)
    # Under min_score AP has no matches, so a threshold down there needs its own.
    at_point = (
        curves
        if point.threshold > min_score
        else measure_average_precision(labels, found, classes, min_score=-math.inf, **options)
    )
    coco = coco_metrics(labels, found, classes, coco_engine, max_detections)
    images = _image_results(labels, found, at_point, point)
    defective = [entry for entry in images if entry.truth == "defective"]
    normal = [entry for entry in images if entry.truth == "normal"]
    miss = Rate(sum(entry.decision == "OK" for entry in defective), len(defective), DEFECTIVE)
    overkill = Rate(sum(entry.decision == "NG" for entry in normal), len(normal), NORMAL)
    # Sent to review is neither wrong nor right yet, so accuracy is of what was decided.
    decided = sum(entry.decision != "review" for entry in (*defective, *normal))
    right = decided - miss.count - overkill.count
    in_review = sum(entry.decision == "review" for entry in images)
    data_hash = labels_hash(labels)
    return Evaluation(
        classes=_class_rows(curves, at_point, coco, images, point),
        mean_ap=curves.mean_ap,
        coco=coco,
        operating_point=point,
        iou=iou,
        miss=miss,
        overkill=overkill,
        accuracy=Rate(right, decided, "decided images"),
        review=Rate(in_review, len(images)) if point.review_threshold is not None else None,
        miss_by_part=_by_part(images, "defective", "OK", groups),
        overkill_by_part=_by_part(images, "normal", "NG", groups),
        confusion=confusion_matrix(labels, found, at_point, point.threshold),
        images=images,
        curves=curves,
        matches=at_point.matches,
        labels=labels,
        detections=found,
        data_hash=data_hash,
        prevalence=prevalence,
        notes=_notes(point, data_hash, curves, operating_point is None),
    )


def _image_results(
    labels: Sequence[ImageLabels],
    found: Sequence[Detections],
    measured: AveragePrecisionResult,
    point: OperatingPoint,
) -> tuple[ImageResult, ...]:
    matches, size = measured.matches, len(labels)
    hits = np.bincount(matches.truth_image[matches.found_at(point.threshold)], minlength=size)
    boxes = np.bincount(matches.truth_image[~matches.difficult], minlength=size)
    false = (matches.outcome == FALSE_POSITIVE) & (matches.score >= point.threshold)
    alarms = np.bincount(matches.detection_image[false], minlength=size)
    results = []
    for index, (entry, detections) in enumerate(zip(labels, found, strict=True)):
        score = image_score(detections)
        results.append(
            ImageResult(
                image=entry.image,
                truth=truth_of(entry),
                score=score,
                decision=point.decide(score),
                boxes=int(boxes[index]),
                found=int(hits[index]),
                false_alarms=int(alarms[index]),
                labels=tuple(sorted(set(entry.label))),
            )
        )
    return tuple(results)


def _class_rows(
    curves: AveragePrecisionResult,
    at_point: AveragePrecisionResult,
    coco: CocoMetrics,
    images: Sequence[ImageResult],
    point: OperatingPoint,
) -> tuple[ClassMetrics, ...]:
    matches = at_point.matches
    passed = np.array([entry.decision == "OK" for entry in images], bool)
    over = matches.score >= point.threshold
    rows = []
    for index, entry in enumerate(curves.classes):
        outcome = matches.outcome[over & (matches.detection_class == index)]
        of_class = (matches.truth_class == index) & ~matches.difficult
        shown = np.unique(matches.truth_image[of_class])
        rows.append(
            ClassMetrics(
                label=entry.label,
                images=entry.images,
                boxes=entry.boxes,
                ap=entry.ap,
                coco_ap50=coco.ap50[index],
                coco_ap75=coco.ap75[index],
                coco_ap=coco.ap[index],
                true_positives=int(np.count_nonzero(outcome == TRUE_POSITIVE)),
                false_positives=int(np.count_nonzero(outcome == FALSE_POSITIVE)),
                missed_images=Rate(
                    int(np.count_nonzero(passed[shown])), shown.size, f"images with {entry.label}"
                ),
            )
        )
    return tuple(rows)


def _by_part(
    images: Sequence[ImageResult], truth: str, wrong: str, groups: Mapping[str, str] | None
) -> tuple[float, float] | None:
    return group_interval(
        np.array([entry.decision == wrong for entry in images], bool),
        np.array([entry.truth == truth for entry in images], bool),
        [entry.image for entry in images],
        groups,
    )


def _notes(
    point: OperatingPoint, data_hash: str, curves: AveragePrecisionResult, assumed: bool
) -> tuple[str, ...]:
    notes = []
    if assumed:
        notes.append(
            "The snapshot holds no threshold, since the model found nothing on the validation "
            "part; .5 is assumed, which nobody calibrated. Train longer, and evaluate again."
        )
    if point.data_hash and point.data_hash == data_hash:
        notes.append(
            "The threshold was chosen on these very images, so miss and overkill look better "
            "here than they will be."
        )
    notes += [f"Calibration: {note}" for note in point.notes]
    empty = [entry.label for entry in curves.classes if not entry.boxes]
    if empty:
        notes.append(
            f"No boxes of {', '.join(empty)} in this part: not measurable, not in the means."
        )
    return tuple(notes)
