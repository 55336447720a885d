"""Mask-guided paste: a defect cut out by its mask and blended into a normal image.

Source: Dwibedi et al. 2017, Cut, Paste and Learn, arXiv:1708.01642; Ghiasi et al. 2021,
    Simple Copy-Paste, arXiv:2012.07177.
"""

from __future__ import annotations

import cv2
import numpy as np

from inspection.data.letterbox import Image8

_GROWN = 0.012  # of the image's side: what a mask leaves out around a defect
_GRAIN = 2.0  # pixels: what changes within this is grain, what changes slower is light and shape


def paste_by_mask(
    target: Image8, source: Image8, mask: np.ndarray, rng: np.random.Generator
) -> Image8:
    """Puts the defect of one image into another.

    The defect keeps its contrast to its own surroundings: what is added to the target is the
    difference between the defect and the mean colour around it, faded out along the mask's edge.
    It brings its own grain, so as much of the target's goes: equal grain stays equal, and a
    network cannot tell a paste by its noise. For the same reason nothing is resampled.

    Args:
        target: (S, S, 3) uint8, a normal image.
        source: (S, S, 3) uint8, a defect image.
        mask: (S, S) bool, where the defect is.
        rng: Source of chance: turn, mirror, place and strength.

    Returns:
        (S, S, 3) uint8; `target` itself where the mask is empty.
    """
    patch, alpha = _cut(source, mask)
    if patch is None:
        return target
    turns = int(rng.integers(4))
    patch, alpha = np.rot90(patch, turns), np.rot90(alpha, turns)
    if rng.random() < 0.5:
        patch, alpha = patch[:, ::-1], alpha[:, ::-1]
    height, width = alpha.shape
    y = int(rng.integers(target.shape[0] - height + 1))
    x = int(rng.integers(target.shape[1] - width + 1))
    # Independent grains add up by their squares: (1 - a^2) of one and a^2 of the other is one.
    amount = float(rng.uniform(0.8, 1.0)) * alpha[..., None]
    result = target.astype(np.float32)
    grain = result - cv2.GaussianBlur(result, (0, 0), _GRAIN)
    window = np.s_[y : y + height, x : x + width]
    result[window] += amount * patch - (1 - np.sqrt(1 - amount**2)) * grain[window]
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _cut(source: Image8, mask: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The defect's difference from its surroundings, and how much of each pixel is its own."""
    if not mask.any():
        return None, np.zeros((0, 0), np.float32)
    grown = max(1, round(_GROWN * mask.shape[0]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grown + 1, 2 * grown + 1))
    whole = cv2.dilate(mask.astype(np.uint8), kernel)
    alpha = cv2.GaussianBlur(whole.astype(np.float32), (0, 0), grown)
    ring = (cv2.dilate(whole, kernel, iterations=3) > 0) & (whole == 0)
    values = source.astype(np.float32)
    around = values[ring].mean(axis=0) if ring.any() else values.mean(axis=(0, 1))
    rows, columns = (np.flatnonzero(alpha.max(axis=axis) > 0.02) for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return (values - around)[window], alpha[window]
