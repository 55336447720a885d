"""What may be done to an image before it is scaled: even light, contrast, no background."""

from __future__ import annotations

import cv2
import numpy as np

from inspection.data.letterbox import Image8

_REACH = 0.15  # of the shorter side: blur that leaves nothing but the light
_LEAST, _MOST = 0.05, 0.95  # of the image, within which a foreground is believed


def flatten_light(rgb: Image8) -> Image8:
    """Even light: each channel over its own blur, times its mean.

    Args:
        rgb: (H, W, 3).

    Returns:
        (H, W, 3) uint8.
    """
    values = rgb.astype(np.float32)
    sigma = max(1.0, _REACH * min(rgb.shape[:2]))
    light = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    even = values * (values.mean(axis=(0, 1)) / np.maximum(light, 1.0))
    return np.clip(even, 0, 255).astype(np.uint8)


def equalise(rgb: Image8, clip: float) -> Image8:
    """CLAHE on lightness, in 8 x 8 tiles; colours stay.

    Args:
        rgb: (H, W, 3).
        clip: Clip limit, 1 to about 8.

    Returns:
        (H, W, 3) uint8.

    Source: Zuiderveld 1994, Contrast limited adaptive histogram equalization.
    """
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clip, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def foreground(rgb: Image8) -> np.ndarray:
    """Where the part is: the largest object that differs from the image's border.

    Args:
        rgb: (H, W, 3).

    Returns:
        (H, W) bool; all True where no object can be told from a background.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 2)
    _, levels = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    light = np.asarray(levels) > 0
    border = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    objects = light if border.mean() < 0.5 else ~light
    count, labels, stats, _ = cv2.connectedComponentsWithStats(objects.astype(np.uint8))
    if count < 2:
        return np.ones(objects.shape, bool)
    largest = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    outline, _ = cv2.findContours(
        largest.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    filled = cv2.drawContours(np.zeros(largest.shape, np.uint8), outline, -1, 1, -1) > 0
    if not _LEAST <= filled.mean() <= _MOST:
        return np.ones(objects.shape, bool)
    return filled
