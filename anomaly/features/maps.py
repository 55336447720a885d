"""Feature maps as patches, and score maps smoothed and enlarged."""

from __future__ import annotations

import cv2
import numpy as np

SMOOTHING = 4.0  # standard deviation in pixels of a view, as PatchCore and PaDiM have it


def patches(features: list[np.ndarray], pool: int = 3) -> np.ndarray:
    """Features of all taps on the finest tap's grid, each the mean of its neighbourhood.

    Args:
        features: (V, h, w, c) for each tap, finest first.
        pool: Side of the neighbourhood in cells of each tap.

    Returns:
        (V, h, w, sum of c) float32.

    Source: Roth et al. 2022, arXiv:2106.08265, section 3.1.
    """
    height, width = features[0].shape[1:3]
    found = []
    for tap in features:
        views = [_pooled(view.astype(np.float32), pool, (width, height)) for view in tap]
        found.append(np.stack(views))
    return np.concatenate(found, axis=-1)


def _pooled(view: np.ndarray, pool: int, size: tuple[int, int]) -> np.ndarray:
    # OpenCV filters and scales any number of channels only in groups of four.
    groups = [view[..., start : start + 4] for start in range(0, view.shape[-1], 4)]
    done = []
    for group in groups:
        mean = (
            cv2.blur(group, (pool, pool), borderType=cv2.BORDER_REFLECT_101) if pool > 1 else group
        )
        if (group.shape[1], group.shape[0]) != size:
            mean = cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR)
        done.append(mean.reshape(size[1], size[0], -1))
    return np.concatenate(done, axis=-1)


def smooth(maps: np.ndarray, side: int, counted: np.ndarray | None = None) -> np.ndarray:
    """Score maps with a Gaussian of `SMOOTHING` pixels of a view over them, on their own grid.

    Args:
        maps: (V, h, w) float32.
        side: Side of a view in pixels.
        counted: (V, h, w) bool, the cells that count: others lend nothing to those beside them,
            and far from any get the lowest score. None is all.

    Returns:
        (V, h, w) float32.
    """
    sigma = max(SMOOTHING * maps.shape[1] / side, 0.3)
    if counted is None or counted.all():
        return np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in maps])
    share = np.stack([cv2.GaussianBlur(one.astype(np.float32), (0, 0), sigma) for one in counted])
    total = np.where(counted, maps, np.float32(0))
    total = np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in total])
    return np.where(share > 1e-3, total / np.maximum(share, 1e-3), maps[counted].min())


def enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(V, h, w) maps at another (height, width), bilinear."""
    if maps.shape[1:3] == tuple(size):
        return maps
    return np.stack(
        [cv2.resize(one, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for one in maps]
    )
