"""Whether an exported model finds the same as its snapshot, box by box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detection.export.exported import ExportedDetector, Picture
from detection.models.decision import image_score
from detection.models.decoding import MAX_DETECTIONS, MIN_SCORE, NMS_IOU
from inspection.data.boxes import box_iou
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.prediction.detections import Detections

if TYPE_CHECKING:
    from detection.models.detector import Detector

SCORE_TOLERANCE = 1e-3
"""Relative difference of two scores that counts as equal."""
BOX_TOLERANCE = 0.5
"""Difference of two edges, in pixels of the fitted image, that counts as equal."""
_TIE = 1e-4


@dataclass(frozen=True)
class Parity:
    """How near an exported model is to its snapshot on the check images.

    Args:
        images: Images compared.
        boxes: Boxes that both found; 0 only where nothing could be compared and that was asked for.
        score_difference: Largest relative difference of a score.
        box_difference: Largest difference of an edge, in pixels of the fitted image.
    """

    images: int
    boxes: int
    score_difference: float
    box_difference: float


def check_parity(
    detector: Detector,
    exported: ExportedDetector,
    pictures: Sequence[Picture],
    force: bool = False,
) -> Parity:
    """Compares an exported model with its detector.

    Args:
        detector: The reference.
        exported: The file, loaded again.
        pictures: What both look at.
        force: Go on where nothing was found that could be compared.

    Raises:
        InputError: They differ on a picture, or nothing was found that could be compared.
    """
    problems: list[str] = []
    boxes, score_difference, box_difference = 0, 0.0, 0.0
    for index, picture in enumerate(pictures):
        name = f"check image {index + 1}" if isinstance(picture, np.ndarray) else str(picture)
        # The fitted image, so that the tolerance is one in pixels that the network sees.
        image, _ = exported.metadata.fitted(picture)
        found, reference = exported.predict(image), detector.predict(image)
        pairs = matches(reference, found)
        problems += _differences(name, reference, found, pairs, detector.operating_point)
        if len(pairs):
            first, second = pairs.T
            boxes += len(pairs)
            score = np.abs(found.score[second] / reference.score[first] - 1).max()
            edge = np.abs(found.xyxy[second] - reference.xyxy[first]).max()
            score_difference = max(score_difference, float(score))
            box_difference = max(box_difference, float(edge))
    if problems:
        raise InputError([*problems, "Nothing was exported; report this with the snapshot."])
    if not boxes and not force:
        raise InputError(
            f"the detector finds no box of score {MIN_SCORE} or more on the {len(pictures)} check "
            "images, so nothing can be compared: train it longer, name images with defects that it "
            "finds by --annotations and --images, or export it unproved with --force."
        )
    return Parity(len(pictures), boxes, score_difference, box_difference)


def matches(reference: Detections, found: Detections) -> np.ndarray:
    """Pairs of detections that are equal within the tolerances: (P, 2) indices."""
    pairs: list[tuple[int, int]] = []
    free = np.ones(len(found.score), bool)
    names = np.array(found.label, object)
    for index, score in enumerate(reference.score):
        edges = np.abs(found.xyxy - reference.xyxy[index]).max(axis=1, initial=0.0)
        equal = (
            free
            & (names == reference.label[index])
            & (np.abs(found.score - score) <= SCORE_TOLERANCE * score)
            & (edges <= BOX_TOLERANCE)
        )
        if equal.any():
            best = int(np.where(equal, edges, np.inf).argmin())
            free[best] = False
            pairs.append((index, best))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _differences(
    name: str,
    reference: Detections,
    found: Detections,
    pairs: np.ndarray,
    point: OperatingPoint | None,
) -> list[str]:
    problems = []
    for side, (own, other) in enumerate(((reference, found), (found, reference))):
        lost = np.setdiff1d(np.arange(len(own.score)), pairs[:, side])
        lost = [index for index in lost if not _is_borderline(own, int(index), other)]
        if lost:
            who = ("only the snapshot", "only the exported model")[side]
            scores = ", ".join(f"{own.score[index]:.4f}" for index in lost[:5])
            problems.append(f"{name}: {who} finds {len(lost)} boxes, of scores {scores}.")
    if point is not None:
        before, after = image_score(reference), image_score(found)
        bounds = [point.threshold]
        if point.review_threshold is not None:
            bounds.append(point.review_threshold)
        tied = any(abs(before - bound) <= _TIE * bound for bound in bounds)
        if point.decide(before) != point.decide(after) and not tied:
            problems.append(
                f"{name}: the snapshot decides {point.decide(before)}, the exported model "
                f"{point.decide(after)} (scores {before:.4f} and {after:.4f})."
            )
    return problems


def _is_borderline(own: Detections, index: int, other: Detections) -> bool:
    """Whether rounding alone may have dropped a detection on the other side.

    That is so at the lowest score that is kept, and where the overlap with a better box of its
    class is the very overlap at which NMS drops it.
    """
    score = own.score[index]
    if score <= MIN_SCORE * (1 + SCORE_TOLERANCE):
        return True
    if len(other.score) == MAX_DETECTIONS and score <= other.score[-1] * (1 + SCORE_TOLERANCE):
        return True
    better = (other.score >= score) & (np.array(other.label, object) == own.label[index])
    iou = box_iou(own.xyxy[index : index + 1], other.xyxy[better])
    return bool((np.abs(iou - NMS_IOU) <= SCORE_TOLERANCE).any())
