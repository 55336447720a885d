"""Score maps as pictures, on one scale for all pictures of a model."""

from __future__ import annotations

import cv2
import numpy as np

from inspection.fit import Image8

_FULL = 3.0  # times the reach of normal cells over their median, at which the colour is full
_STRENGTH = 0.65


def overlay(rgb: Image8, score_map: np.ndarray, normal: tuple[float, float]) -> Image8:
    """The picture with its score map over it; what is normal keeps its own colours.

    The scale is the model's, not the picture's: a normal picture stays calm.

    Args:
        rgb: (H, W, 3).
        score_map: (H, W) float32.
        normal: Median and upper end of the scores of normal cells, as the model holds them.

    Returns:
        (H, W, 3) uint8.
    """
    median, level = normal
    reach = (score_map - level) / max(level - median, 1e-12) / (_FULL - 1)
    heat = np.clip(reach, 0, 1).astype(np.float32)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    # Begins to show at once where a cell leaves the normal range.
    weight = (_STRENGTH * np.clip(3 * heat, 0, 1))[..., None]
    return (rgb * (1 - weight) + colours * weight).astype(np.uint8)


def thumbnail(rgb: Image8, longest: int) -> Image8:
    """The picture with its longer side at most so many pixels."""
    scale = longest / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
