"""What a detector, trained or exported, makes of the boxes that it found in an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detection.models.decoding import MIN_SCORE
from inspection.decisions.operating_point import OperatingPoint
from inspection.prediction.detections import Detections, Origin

Image = str | Path | np.ndarray


class AnyDetector(Protocol):
    """What is asked of a model, trained or exported."""

    classes: Sequence[str]
    bits: int
    operating_point: OperatingPoint | None

    def predict_batch(self, images: Sequence[Any]) -> list[Detections]:
        """Detections of (H, W, 3) uint8 RGB images of any sizes, in their own pixels."""


def image_score(detections: Detections) -> float:
    """Highest box score, 0 where nothing was found."""
    return float(detections.score.max()) if len(detections.score) else 0.0


def decided(
    model: AnyDetector, image: Image, found: Detections, min_score: float, max_detections: int
) -> Detections:
    """Detections as they were asked for, with the decision that rests on all of them.

    Args:
        model: What found them.
        image: The file, or (H, W, 3) uint8 RGB.
        found: All from `MIN_SCORE` on, which the operating point was chosen with, or from lower.
        min_score: Lower scores are dropped, after the decision.
        max_detections: The best so many are kept.
    """
    point = model.operating_point
    score = image_score(found.above(MIN_SCORE))
    origin = Origin(
        image,
        model.bits,
        tuple(model.classes),
        score,
        None if point is None else point.decide(score),
        None if point is None else point.threshold,
    )
    kept = found.above(min_score)
    return Detections(
        kept.xyxy[:max_detections],
        kept.score[:max_detections],
        kept.label[:max_detections],
        origin,
    )
