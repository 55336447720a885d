"""Whether an exported model finds the same as its snapshot, box by box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from detection.export.exported import ExportedDetector
from detection.models.decision import Image
from detection.models.decoding import MAX_DETECTIONS, MIN_SCORE, NMS_IOU
from inspection.data.boxes import box_iou
from inspection.data.letterbox import Fit
from inspection.errors import InputError
from inspection.export.parity import SCORE_TOLERANCE, Parity, refuse_differences
from inspection.prediction.detections import Detections

if TYPE_CHECKING:
    from detection.models.detector import Detector

BOX_TOLERANCE = 0.5
"""Difference of two edges, in pixels of the fitted image, that counts as equal."""


@dataclass(frozen=True)
class BoxParity(Parity):
    """How near an exported model is to its snapshot on the check images.

    Args:
        boxes: Boxes that both found; 0 only where nothing could be compared and that was asked for.
        box_difference: Largest difference of an edge, in pixels of the fitted image.
    """

    boxes: int
    box_difference: float

    def __str__(self) -> str:
        if not self.boxes:
            return f"Unproved: neither model finds a box on the {self.images} check images."
        return f"{super().__str__()} {self.boxes} boxes, edges within {self.box_difference:.1e} px."


def check_parity(
    detector: Detector,
    exported: ExportedDetector,
    images: Sequence[Image],
    force: bool = False,
) -> BoxParity:
    """Compares an exported model with its detector, from file to decision.

    Args:
        detector: The reference.
        exported: The file, loaded again.
        images: What both look at.
        force: Go on where nothing was found that could be compared.

    Raises:
        InputError: They differ on an image, or nothing was found that could be compared.
    """
    problems: list[str] = []
    boxes, score_difference, box_difference = 0, 0.0, 0.0
    for index, image in enumerate(images):
        name = f"check image {index + 1}" if isinstance(image, np.ndarray) else str(image)
        fit = exported.card.preparation(image).fit
        reference, found = detector.predict(image), exported.predict(image)
        problems += _decision_differences(name, reference, found)
        # Compared in pixels that the network sees, whatever the camera's are.
        reference, found = (_fitted(one, fit) for one in (reference, found))
        pairs = matches(reference, found)
        problems += _box_differences(name, reference, found, pairs)
        if len(pairs):
            first, second = pairs.T
            boxes += len(pairs)
            score = np.abs(found.score[second] / reference.score[first] - 1).max()
            edge = np.abs(found.xyxy[second] - reference.xyxy[first]).max()
            score_difference = max(score_difference, float(score))
            box_difference = max(box_difference, float(edge))
    refuse_differences(problems)
    if not boxes and not force:
        raise InputError(
            f"the detector finds no box of score {MIN_SCORE} or more on the {len(images)} check "
            "images, so nothing can be compared: train it longer, name images with defects that it "
            "finds by --images, or export it unproved with --force."
        )
    return BoxParity(len(images), score_difference, boxes, box_difference)


def _fitted(found: Detections, fit: Fit) -> Detections:
    return replace(found, xyxy=fit.to_fitted(found.xyxy))


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


def _decision_differences(name: str, reference: Detections, found: Detections) -> list[str]:
    before, after = (one.origin.decision if one.origin else None for one in (reference, found))
    if before == after:
        return []
    return [
        f"{name}: the snapshot decides {before}, the exported model {after} (scores "
        f"{reference.origin.score:.4f} and {found.origin.score:.4f})."
    ]


def _box_differences(
    name: str, reference: Detections, found: Detections, pairs: np.ndarray
) -> list[str]:
    problems = []
    for side, (own, other) in enumerate(((reference, found), (found, reference))):
        lost = np.setdiff1d(np.arange(len(own.score)), pairs[:, side])
        lost = [index for index in lost if not _is_borderline(own, int(index), other)]
        if lost:
            who = ("only the snapshot", "only the exported model")[side]
            scores = ", ".join(f"{own.score[index]:.4f}" for index in lost[:5])
            problems.append(f"{name}: {who} finds {len(lost)} boxes, of scores {scores}.")
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
