"""MixUp and CutMix: images of a batch mixed with one another, and their targets with them."""

from __future__ import annotations

import numpy as np


def mixup(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Every image blended with another of the batch.

    Args:
        images: (B, S, S, 3) float32.
        targets: (B, K) float32, shares of the classes.
        alpha: Of the Beta distribution that the share is drawn from, for each image.
        rng: Source of chance.

    Returns:
        Images and targets of the same shapes.

    Source: Zhang et al. 2018, arXiv:1710.09412.
    """
    other = rng.permutation(len(images))
    share = rng.beta(alpha, alpha, len(images)).astype(np.float32)
    near, far = share[:, None], (1 - share)[:, None]
    return (
        images * near[..., None, None] + images[other] * far[..., None, None],
        targets * near + targets[other] * far,
    )


def cutmix(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A window of every image replaced by that of another; targets as the areas.

    Args:
        images: (B, S, S, 3) float32.
        targets: (B, K) float32, shares of the classes.
        alpha: Of the Beta distribution that the kept area is drawn from, for each image.
        rng: Source of chance.

    Returns:
        Images and targets of the same shapes.

    Source: Yun et al. 2019, arXiv:1905.04899, equation 2.
    """
    count, height, width = images.shape[:3]
    other = rng.permutation(count)
    mixed, shares = images.copy(), np.empty((count, 1), np.float32)
    for number, share in enumerate(rng.beta(alpha, alpha, count)):
        cut = np.sqrt(1 - share)
        x, y = rng.integers(width), rng.integers(height)
        x1, x2 = (int(np.clip(x + sign * cut * width / 2, 0, width)) for sign in (-1, 1))
        y1, y2 = (int(np.clip(y + sign * cut * height / 2, 0, height)) for sign in (-1, 1))
        mixed[number, y1:y2, x1:x2] = images[other[number], y1:y2, x1:x2]
        shares[number] = 1 - (x2 - x1) * (y2 - y1) / (height * width)
    return mixed, targets * shares + targets[other] * (1 - shares)


MIXES = {"mixup": mixup, "cutmix": cutmix}
