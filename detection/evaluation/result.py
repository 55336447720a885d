"""What an evaluation holds: one row per class, one per image, and all behind them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.evaluation.average_precision import AveragePrecisionResult, Matches
from detection.evaluation.coco import CocoMetrics
from detection.settings import ROOM
from inspection.data.boxes import ImageLabels
from inspection.decisions.operating_point import OperatingPoint
from inspection.decisions.rates import Rate, auroc
from inspection.prediction.detections import Detections
from inspection.report.evaluation import Summary
from inspection.training.run_images import ALL

BACKGROUND = "background"


@dataclass(frozen=True)
class ClassMetrics:
    """One row of the table; NaN where the class has no ground truth.

    Args:
        label: The class.
        images: Images with a counted box of it.
        boxes: Its ground-truth boxes, without the difficult ones.
        ap: VOC all-point AP.
        coco_ap50: COCO AP at IoU .5.
        coco_ap75: COCO AP at IoU .75.
        coco_ap: COCO AP over IoU .5 to .95.
        true_positives: Boxes found at the operating point.
        false_positives: Detections at the operating point that hit nothing.
        missed_images: Images with a box of it that were decided OK.
    """

    label: str
    images: int
    boxes: int
    ap: float
    coco_ap50: float
    coco_ap75: float
    coco_ap: float
    true_positives: int
    false_positives: int
    missed_images: Rate

    @property
    def precision(self) -> float:
        """Share of detections that hit, NaN without detections."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of boxes found, NaN without ground truth."""
        return _ratio(self.true_positives, self.boxes)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, NaN without ground truth."""
        if not self.boxes:
            return math.nan
        return _ratio(
            2 * self.true_positives, self.boxes + self.true_positives + self.false_positives
        )


@dataclass(frozen=True)
class ImageResult:
    """One image: the truth, the decision, and its boxes at the operating point.

    Args:
        image: Path relative to the images folder.
        truth: `defective`, `normal`, or `difficult` where every box is marked difficult; such
            an image counts as neither.
        score: Highest box score, 0 without boxes.
        decision: `OK`, `review` or `NG`.
        boxes: Ground-truth boxes, without the difficult ones.
        found: How many of them were found.
        false_alarms: Detections that hit nothing.
        labels: Classes of the ground truth.
    """

    image: str
    truth: str
    score: float
    decision: str
    boxes: int
    found: int
    false_alarms: int
    labels: tuple[str, ...]

    @property
    def missed(self) -> int:
        """Ground-truth boxes that were not found."""
        return self.boxes - self.found


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was measured, and what the report draws from.

    Args:
        classes: One row per class.
        mean_ap: Unweighted mean of AP over classes with boxes.
        coco: COCO figures and the engine that measured them.
        operating_point: Where decisions were taken.
        iou: The IoU a hit needs.
        miss: Defective images decided OK.
        overkill: Normal images decided NG.
        accuracy: Defective and normal images decided rightly.
        review: Images that go to review, None without a review band.
        miss_by_part: 95 % interval of the miss rate over whole parts, None without groups.
        overkill_by_part: Likewise of the overkill rate.
        confusion: (K+1, K+1) int, truth by row, detection by column, background last.
        images: One result per image, in the order given.
        curves: Average precision with its curves.
        matches: What became of each box, reaching down to the operating point.
        labels: The ground truth, in the same order.
        detections: What was found, in the same order.
        data_hash: Hash of the labels evaluated on.
        prevalence: Share of defective parts in production where it is known.
        notes: What a reader must know.
    """

    classes: tuple[ClassMetrics, ...]
    mean_ap: float
    coco: CocoMetrics
    operating_point: OperatingPoint
    iou: float
    miss: Rate
    overkill: Rate
    accuracy: Rate
    review: Rate | None
    miss_by_part: tuple[float, float] | None
    overkill_by_part: tuple[float, float] | None
    confusion: np.ndarray
    images: tuple[ImageResult, ...]
    curves: AveragePrecisionResult
    matches: Matches
    labels: tuple[ImageLabels, ...]
    detections: tuple[Detections, ...]
    data_hash: str
    prevalence: float | None
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""
        return tuple(entry.label for entry in self.classes)

    @property
    def ap_name(self) -> str:
        """The name of its AP column: `AP@.5` for the usual IoU."""
        return f"AP@{f'{self.iou:g}'.lstrip('0')}"

    def summary(self, **known: Any) -> Summary:
        """What every room tells alike.

        Args:
            **known: Of the model and of where the images lie, as `Summary` names it; without
                them it is of no model.
        """
        kinds = [entry for entry in self.images if entry.truth != "difficult"]
        place: dict[str, Any] = {"run": "", "model": Path(), "model_hash": "", "part": ALL}
        return Summary(
            room=ROOM,
            images=len(self.images),
            miss=self.miss,
            overkill=self.overkill,
            accuracy=self.accuracy,
            review=self.review,
            miss_by_group=self.miss_by_part,
            overkill_by_group=self.overkill_by_part,
            auroc=auroc(
                np.array([entry.score for entry in kinds]),
                np.array([entry.truth == "defective" for entry in kinds], bool),
            ),
            operating_point=self.operating_point,
            data_hash=self.data_hash,
            **{**place, "ms": math.nan, "data": "", "notes": self.notes, **known},
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures of this room alone, without curves and per-image rows; ready for JSON."""
        return {
            "mean_ap": self.mean_ap,
            "iou": self.iou,
            "coco": {
                "ap50": self.coco.mean_ap50,
                "ap75": self.coco.mean_ap75,
                "ap": self.coco.mean_ap,
                "engine": self.coco.engine,
            },
            "classes": [
                {
                    **asdict(entry),
                    "precision": entry.precision,
                    "recall": entry.recall,
                    "f1": entry.f1,
                    "missed_images": entry.missed_images.to_dict(),
                }
                for entry in self.classes
            ],
            "confusion": {
                "classes": [*self.names, BACKGROUND],
                "truth_by_row": self.confusion.tolist(),
            },
            "prevalence": self.prevalence,
        }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
