"""COCO average precision by pycocotools or faster-coco-eval (Lin et al. 2014).

Both take 1-based ids: COCO's matching stores an annotation's id as its "found" mark, so id 0
reads as not found, and readers of COCO files drop category 0.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from detection.evaluation.average_precision import in_order
from inspection.data.boxes import ImageLabels
from inspection.errors import InputError
from inspection.prediction.detections import Detections

ENGINES = ("auto", "faster-coco-eval", "pycocotools")


@dataclass(frozen=True, eq=False)
class CocoMetrics:
    """COCO figures per class and their means; NaN for a class without ground truth.

    Args:
        classes: (K,) class names.
        ap50: (K,) AP at IoU .5.
        ap75: (K,) AP at IoU .75.
        ap: (K,) AP averaged over IoU .5 to .95 in steps of .05.
        engine: The library that measured.
    """

    classes: tuple[str, ...]
    ap50: tuple[float, ...]
    ap75: tuple[float, ...]
    ap: tuple[float, ...]
    engine: str

    @property
    def mean_ap50(self) -> float:
        """Mean over classes with ground truth."""
        return _mean(self.ap50)

    @property
    def mean_ap75(self) -> float:
        """Mean over classes with ground truth."""
        return _mean(self.ap75)

    @property
    def mean_ap(self) -> float:
        """Mean over classes with ground truth."""
        return _mean(self.ap)


def coco_metrics(
    labels: Sequence[ImageLabels],
    detections: Mapping[str, Detections] | Sequence[Detections],
    classes: Sequence[str],
    engine: str = "auto",
    max_detections: int = 100,
) -> CocoMetrics:
    """COCO AP@.5, AP@.75 and AP@[.5:.95] per class, without a word printed.

    Difficult boxes go in as crowd, COCO's way to count neither the box nor what lies on it.

    Args:
        labels: Ground truth of each image.
        detections: One per image, in the same order or by image name.
        classes: Class names.
        engine: One of `ENGINES`; `auto` takes faster-coco-eval where it is installed (both
            agree, see benchmarks/evaluate_5000.py), else pycocotools.
        max_detections: The highest-scoring ones of an image that count, all classes together.

    Returns:
        The figures and which engine measured them.

    Raises:
        InputError: Unknown engine, or a label that is not among the classes.
    """
    if engine not in ENGINES:
        raise InputError(f"COCO engine '{engine}' is unknown; take one of {', '.join(ENGINES)}.")
    if engine == "auto":
        installed = importlib.util.find_spec("faster_coco_eval") is not None
        engine = "faster-coco-eval" if installed else "pycocotools"
    classes = tuple(classes)
    found = in_order(labels, detections)
    truth_set = truth_dataset(labels, classes)
    found_set = {**truth_set, "annotations": found_annotations(found, classes, max_detections)}
    if engine == "pycocotools":
        precision = _precision_by_pycocotools(truth_set, found_set)
    else:
        precision = _precision_by_faster_coco_eval(truth_set, found_set)
    # (IoU thresholds, recalls, classes); -1 stands for "no ground truth".
    precision = np.where(precision < 0, np.nan, precision)
    return CocoMetrics(
        classes=classes,
        ap50=tuple(precision[0].mean(axis=0).tolist()),
        ap75=tuple(precision[5].mean(axis=0).tolist()),
        ap=tuple(precision.mean(axis=(0, 1)).tolist()),
        engine=engine,
    )


def _precision_by_pycocotools(truth: dict[str, Any], found: dict[str, Any]) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        sets = []
        for dataset in (truth, found):
            coco = COCO()
            coco.dataset = dataset
            coco.createIndex()
            sets.append(coco)
        return _evaluated(COCOeval(*sets, iouType="bbox"))


def _precision_by_faster_coco_eval(truth: dict[str, Any], found: dict[str, Any]) -> np.ndarray:
    from faster_coco_eval import COCO, COCOeval_faster

    def silent(*_: object) -> None:
        pass

    sets = [COCO(dataset, print_function=silent) for dataset in (truth, found)]
    return _evaluated(COCOeval_faster(*sets, iouType="bbox", print_function=silent))


def _evaluated(evaluator: Any) -> np.ndarray:
    """(T, R, K) precision of either library's evaluator."""
    # Only boxes of all sizes are asked for: three size bands fewer to match.
    evaluator.params.areaRng = evaluator.params.areaRng[:1]
    evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
    evaluator.params.maxDets = evaluator.params.maxDets[-1:]
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1]


def truth_dataset(labels: Sequence[ImageLabels], classes: tuple[str, ...]) -> dict[str, Any]:
    """Ground truth as COCO keeps it, ids from 1; difficult boxes are crowd.

    Raises:
        InputError: A label that is not among the classes.
    """
    category = {name: number for number, name in enumerate(classes, 1)}
    unknown = [
        f"{entry.image}: label '{name}' is not among the classes; rename it or add the class."
        for entry in labels
        for name in sorted(set(entry.label) - category.keys())
    ]
    if unknown:
        raise InputError(unknown)
    number = count(1)
    annotations = []
    for image, entry in enumerate(labels, 1):
        boxes = _xywh(entry.xyxy)
        crowd = entry.difficult.tolist()
        for box, name, difficult in zip(boxes, entry.label, crowd, strict=True):
            annotations.append(
                {
                    "id": next(number),
                    "image_id": image,
                    "category_id": category[name],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(difficult),
                }
            )
    return {
        "images": [{"id": image} for image in range(1, len(labels) + 1)],
        "categories": [{"id": number, "name": name} for name, number in category.items()],
        "annotations": annotations,
    }


def found_annotations(
    detections: Sequence[Detections], classes: tuple[str, ...], max_detections: int
) -> list[dict[str, Any]]:
    """Detections as COCO keeps them, image ids in the order given.

    Raises:
        InputError: A label that is not among the classes.
    """
    category = {name: number for number, name in enumerate(classes, 1)}
    number = count(1)
    annotations = []
    for image, entry in enumerate(detections, 1):
        boxes = _xywh(entry.xyxy[:max_detections])
        scores = entry.score[:max_detections].tolist()
        for box, score, name in zip(boxes, scores, entry.label[:max_detections], strict=True):
            if name not in category:
                raise InputError(f"Image {image}: detection '{name}' is not among the classes.")
            annotations.append(
                {
                    "id": next(number),
                    "image_id": image,
                    "category_id": category[name],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return annotations


def _xywh(xyxy: np.ndarray) -> list[list[float]]:
    boxes = np.asarray(xyxy, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def _mean(values: Sequence[float]) -> float:
    measured = [value for value in values if not np.isnan(value)]
    return float(np.mean(measured)) if measured else float("nan")
