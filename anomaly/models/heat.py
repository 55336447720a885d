"""Score maps as images, on one scale for all images of a model."""

from __future__ import annotations

import numpy as np

from inspection.data.letterbox import Image8
from inspection.report.drawing import heat_overlay

_FULL = 3.0  # times the reach of normal cells over their median, at which the colour is full


def overlay(rgb: Image8, score_map: np.ndarray, normal: tuple[float, float]) -> Image8:
    """The image with its score map over it; what is normal keeps its own colours.

    The scale is the model's, not the image's: a normal image stays calm.

    Args:
        rgb: (H, W, 3).
        score_map: (H, W) float32.
        normal: Median and upper end of the scores of normal cells, as the model holds them.

    Returns:
        (H, W, 3) uint8.
    """
    median, level = normal
    return heat_overlay(rgb, (score_map - level) / max(level - median, 1e-12) / (_FULL - 1))
