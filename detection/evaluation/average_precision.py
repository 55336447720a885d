"""Average precision as the VOC devkit and keras-retinanet measure it.

Detections go by descending score; each takes its class's ground truth of highest IoU, and a
second hit on the same box is false. Precision is interpolated at every recall (VOC 2010 on,
Everingham et al. 2015). Because a detection's box does not depend on what others took, all
of it is array arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from inspection.data.boxes import ImageLabels
from inspection.errors import InputError
from inspection.prediction.detections import Detections

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, -1
_PAIRS_AT_ONCE = 1 << 20  # keeps a chunk of box pairs under about 100 MB


def average_precision(is_true: np.ndarray, boxes: int) -> float:
    """Area under the interpolated precision-recall curve, from hits in score order.

    Equals the sum of recall steps times the highest precision at that recall or more; as the
    mean over ground truths of that precision it is exactly 1.0 for perfect input.

    Args:
        is_true: (D,) bool, true positive or not, highest score first.
        boxes: Ground-truth boxes.

    Returns:
        0 to 1, NaN where `boxes` is 0.
    """
    if not boxes:
        return math.nan
    is_true = np.asarray(is_true, bool)
    precision = np.cumsum(is_true) / np.arange(1, is_true.size + 1)
    highest_after = np.maximum.accumulate(precision[::-1])[::-1]
    return float(highest_after[is_true].sum() / boxes)


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every detection and every ground truth, as parallel arrays.

    Detections stand by descending score, ground truths as they were given.

    Args:
        detection_image: (D,) index into the result's `images`.
        detection_index: (D,) position in that image's `Detections`.
        detection_class: (D,) index into the classes.
        score: (D,) float64.
        outcome: (D,) TRUE_POSITIVE, FALSE_POSITIVE, or IGNORED (on a difficult box).
        iou: (D,) float64, highest IoU with a box of the class, 0 where there is none.
        truth: (D,) row of that box below, -1 where there is none.
        truth_image: (G,) index into the result's `images`.
        truth_index: (G,) position in that image's `ImageLabels`.
        truth_class: (G,) index into the classes.
        difficult: (G,) bool.
        found_by: (G,) row of the detection that found it, -1 where missed or difficult.
    """

    detection_image: np.ndarray
    detection_index: np.ndarray
    detection_class: np.ndarray
    score: np.ndarray
    outcome: np.ndarray
    iou: np.ndarray
    truth: np.ndarray
    truth_image: np.ndarray
    truth_index: np.ndarray
    truth_class: np.ndarray
    difficult: np.ndarray
    found_by: np.ndarray

    def found_at(self, threshold: float) -> np.ndarray:
        """(G,) bool: boxes found by a detection of score >= threshold.

        A lower score never takes a box from a higher one, so no new matching is needed.
        """
        if not self.score.size:
            return np.zeros(self.found_by.shape, bool)
        return (self.found_by >= 0) & (self.score[self.found_by] >= threshold)


@dataclass(frozen=True, eq=False)
class ClassAveragePrecision:
    """One class's figures and its precision-recall curve.

    Args:
        label: The class.
        ap: Average precision, NaN without ground truth.
        images: Images with a counted box of the class.
        boxes: Ground-truth boxes, without the difficult ones.
        recall: (D,) after each counted detection, highest score first; NaN without truth.
        precision: (D,) likewise, not interpolated.
        score: (D,) float64, descending.
    """

    label: str
    ap: float
    images: int
    boxes: int
    recall: np.ndarray
    precision: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class AveragePrecisionResult:
    """Per-class average precision, its mean, and the matches behind it.

    Args:
        classes: One entry per class, in the order given.
        mean_ap: Unweighted mean over the classes that have boxes; NaN where none has.
        iou: The IoU a hit needs.
        images: The images in the order they were given.
        matches: What became of each box.
    """

    classes: tuple[ClassAveragePrecision, ...]
    mean_ap: float
    iou: float
    images: tuple[str, ...]
    matches: Matches


class AveragePrecision:
    """Collects labels and detections image by image, then measures.

    Example:
        >>> metric = AveragePrecision(["scratch"])
        >>> metric.update(labels, detections)
        >>> metric.compute().mean_ap

    Args:
        classes: Class names.
        iou: A detection hits at this IoU or more.
        min_score: Detections count over this score (not at it, as keras-retinanet).
        max_detections: The highest-scoring ones of an image that count, all classes together.
    """

    def __init__(
        self,
        classes: Sequence[str],
        iou: float = 0.5,
        min_score: float = 0.05,
        max_detections: int = 100,
    ) -> None:
        if len(set(classes)) != len(classes):
            raise ValueError("A class is named twice.")
        self.classes = tuple(classes)
        self.iou, self.min_score, self.max_detections = iou, min_score, max_detections
        self._class_index = {label: index for index, label in enumerate(self.classes)}
        self._images: list[str] = []
        self._truths: list[ImageLabels] = []
        # xyxy, score, label and the position each had in its image
        self._detections: list[tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray]] = []

    def update(self, labels: ImageLabels, detections: Detections) -> None:
        """Adds one image.

        Args:
            labels: Its ground truth.
            detections: What was found on it, in any order.

        Raises:
            InputError: A label that is not among the classes, or a score that is no number.
        """
        self._check(labels, detections)
        score = np.asarray(detections.score, np.float64)
        # Stable, so that equal scores keep the order they came in.
        kept = np.argsort(-score, kind="stable")[: self.max_detections]
        # Compared in the score's own precision: .05 stored as float32 is not over .05.
        kept = kept[np.asarray(detections.score)[kept] > self.min_score]
        names = detections.label
        self._detections.append(
            (
                np.asarray(detections.xyxy, np.float64).reshape(-1, 4)[kept],
                score[kept],
                tuple(names[index] for index in kept.tolist()),
                kept,
            )
        )
        self._truths.append(labels)
        self._images.append(labels.image)

    def compute(self) -> AveragePrecisionResult:
        """Measures what was added so far; more may be added afterwards."""
        matches = self._match()
        classes = tuple(self._class_result(index, matches) for index in range(len(self.classes)))
        measured = [entry.ap for entry in classes if entry.boxes]
        return AveragePrecisionResult(
            classes=classes,
            mean_ap=float(np.mean(measured)) if measured else math.nan,
            iou=self.iou,
            images=tuple(self._images),
            matches=matches,
        )

    def _check(self, labels: ImageLabels, detections: Detections) -> None:
        known = self._class_index.keys()
        problems = []
        for what, names in (("label", labels.label), ("detection", detections.label)):
            problems += [
                f"{labels.image}: {what} '{name}' is not among the classes "
                f"({', '.join(self.classes)}); rename it or add the class."
                for name in sorted(set(names) - known)
            ]
        if not np.isfinite(detections.score).all():
            problems.append(f"{labels.image}: a detection's score is not a finite number.")
        if problems:
            raise InputError(problems)

    def _indices(self, names: Sequence[tuple[str, ...]]) -> np.ndarray:
        flat = chain.from_iterable(names)
        return np.fromiter((self._class_index[name] for name in flat), np.int64)

    def _match(self) -> Matches:
        sizes = [len(kept) for *_, kept in self._detections]
        image = np.repeat(np.arange(len(sizes)), sizes)
        xyxy = _stack([entry[0] for entry in self._detections], np.float64, (0, 4))
        score = _stack([entry[1] for entry in self._detections], np.float64, (0,))
        label = self._indices([entry[2] for entry in self._detections])
        position = _stack([entry[3] for entry in self._detections], np.int64, (0,))
        order = np.argsort(-score, kind="stable")
        image, xyxy, score = image[order], xyxy[order], score[order]
        label, position = label[order], position[order]

        truth_sizes = [len(truth.label) for truth in self._truths]
        truth_image = np.repeat(np.arange(len(truth_sizes)), truth_sizes)
        truth_index = np.concatenate([np.arange(n) for n in truth_sizes] or [np.empty(0, np.int64)])
        truth_xyxy = _stack([truth.xyxy for truth in self._truths], np.float64, (0, 4))
        truth_class = self._indices([truth.label for truth in self._truths])
        difficult = _stack([truth.difficult for truth in self._truths], bool, (0,))

        count = max(1, len(self.classes))
        truth, iou = _best_truth(
            image * count + label, xyxy, truth_image * count + truth_class, truth_xyxy
        )
        outcome = np.full(score.shape, FALSE_POSITIVE, np.int8)
        hit = np.flatnonzero((truth >= 0) & (iou >= self.iou))
        on_difficult = difficult[truth[hit]]
        outcome[hit[on_difficult]] = IGNORED
        hit = hit[~on_difficult]
        # Rows stand by score, so the first row of each box is the one that found it.
        found, first = np.unique(truth[hit], return_index=True)
        outcome[hit[first]] = TRUE_POSITIVE
        found_by = np.full(truth_class.shape, -1, np.int64)
        found_by[found] = hit[first]
        return Matches(
            detection_image=image,
            detection_index=position,
            detection_class=label,
            score=score,
            outcome=outcome,
            iou=iou,
            truth=truth,
            truth_image=truth_image,
            truth_index=truth_index,
            truth_class=truth_class,
            difficult=difficult,
            found_by=found_by,
        )

    def _class_result(self, index: int, matches: Matches) -> ClassAveragePrecision:
        counted = (matches.detection_class == index) & (matches.outcome != IGNORED)
        is_true = matches.outcome[counted] == TRUE_POSITIVE
        of_class = (matches.truth_class == index) & ~matches.difficult
        boxes = int(np.count_nonzero(of_class))
        hits = np.cumsum(is_true)
        return ClassAveragePrecision(
            label=self.classes[index],
            ap=average_precision(is_true, boxes),
            images=int(np.unique(matches.truth_image[of_class]).size),
            boxes=boxes,
            recall=hits / boxes if boxes else np.full(hits.shape, np.nan),
            precision=hits / np.arange(1, hits.size + 1),
            score=matches.score[counted],
        )


def measure_average_precision(
    labels: Sequence[ImageLabels],
    detections: Mapping[str, Detections] | Sequence[Detections],
    classes: Sequence[str],
    **options: float,
) -> AveragePrecisionResult:
    """`AveragePrecision` over whole lists; see there.

    Args:
        labels: Ground truth of each image.
        detections: One per image, in the same order or by image name.
        classes: Class names.
        **options: `iou`, `min_score`, `max_detections`.
    """
    metric = AveragePrecision(classes, **options)  # type: ignore[arg-type]
    for truth, found in zip(labels, in_order(labels, detections), strict=True):
        metric.update(truth, found)
    return metric.compute()


def in_order(
    labels: Sequence[ImageLabels], detections: Mapping[str, Detections] | Sequence[Detections]
) -> list[Detections]:
    """One `Detections` per entry of `labels`, from a list as long or a mapping by image.

    Raises:
        InputError: An image has no detections (an image without boxes has empty ones).
    """
    if isinstance(detections, Mapping):
        missing = [entry.image for entry in labels if entry.image not in detections]
        if missing:
            raise InputError([f"{name}: it was never predicted; run it." for name in missing])
        return [detections[entry.image] for entry in labels]
    if len(labels) != len(detections):
        raise InputError(f"{len(detections)} detections for {len(labels)} images.")
    return list(detections)


def _stack(parts: Sequence[np.ndarray], dtype: type, empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.zeros(empty, dtype), *parts]).astype(dtype, copy=False)


def _best_truth(
    key: np.ndarray, xyxy: np.ndarray, truth_key: np.ndarray, truth_xyxy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the ground truth of highest IoU under the same key.

    Args:
        key: (D,) image and class as one number.
        xyxy: (D, 4) float64, pixels.
        truth_key: (G,) likewise.
        truth_xyxy: (G, 4) float64, pixels.

    Returns:
        (D,) row of the ground truth, the first of equals, -1 where there is none; (D,) IoU.
    """
    by_key = np.argsort(truth_key, kind="stable")
    sorted_key = truth_key[by_key]
    start = np.searchsorted(sorted_key, key, "left")
    size = np.searchsorted(sorted_key, key, "right") - start
    best = np.full(key.shape, -1, np.int64)
    best_iou = np.zeros(key.shape)
    rows = np.flatnonzero(size)
    # Chunks of whole detections with a bounded number of pairs.
    pairs_before = np.cumsum(size[rows]) - size[rows]
    for chunk in np.split(rows, np.flatnonzero(np.diff(pairs_before // _PAIRS_AT_ONCE)) + 1):
        if not chunk.size:
            continue
        count = size[chunk]
        first = np.cumsum(count) - count
        detection = np.repeat(chunk, count)
        truth = by_key[np.arange(count.sum()) + np.repeat(start[chunk] - first, count)]
        iou = _paired_iou(xyxy[detection], truth_xyxy[truth])
        highest = np.maximum.reduceat(iou, first)
        at_highest = np.flatnonzero(iou == np.repeat(highest, count))
        owner, leading = np.unique(detection[at_highest], return_index=True)
        best[owner] = truth[at_highest[leading]]
        best_iou[chunk] = highest
    return best, best_iou


def _paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P, 4) and (P, 4) xyxy to (P,) IoU; two empty boxes have 0."""
    side = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    common = side[:, 0] * side[:, 1]
    area = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1)
    union = area - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
