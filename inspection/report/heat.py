"""Maps over pictures, in colours that mean the same everywhere."""

from __future__ import annotations

import cv2
import numpy as np

from inspection.data.letterbox import Image8

_STRENGTH = 0.65


def heat_overlay(rgb: Image8, heat: np.ndarray) -> Image8:
    """The picture with a map over it; where the map is 0 the picture keeps its own colours.

    Args:
        rgb: (H, W, 3).
        heat: (H, W) from 0 to 1; what lies outside is cut.

    Returns:
        (H, W, 3) uint8.
    """
    heat = np.clip(heat, 0, 1).astype(np.float32)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    # Begins to show at once where the map leaves 0.
    weight = (_STRENGTH * np.clip(3 * heat, 0, 1))[..., None]
    return (rgb * (1 - weight) + colours * weight).astype(np.uint8)


def enlarged(heat: np.ndarray, rgb: Image8) -> np.ndarray:
    """(h, w) cells as (H, W) values over a picture of that size."""
    return cv2.resize(np.asarray(heat, np.float32), rgb.shape[1::-1])


def thumbnail(rgb: Image8, longest: int) -> Image8:
    """The picture with its longer side at most so many pixels."""
    scale = longest / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
