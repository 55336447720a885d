"""Augmentation recipes by albumentations, and an image that shows what one does."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

# albumentations asks the internet for its newest version at import; factory PCs are offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import numpy as np

from inspection.data.letterbox import Image8

RECIPES = ("none", "basic", "flip", "noise", "clahe", "heavy", "rotate4")
_COLUMNS, _SIDE = 8, 128  # of the sheet


class Augmenter:
    """Applies a recipe; the same seed gives the same image.

    - `none`: nothing.
    - `basic`: a little light, contrast, shift, scale and turn.
    - `flip`: `basic`, and mirrored either way.
    - `noise`: `flip`, and Gaussian noise or blur.
    - `clahe`: `flip`, and contrast-limited adaptive histogram equalisation.
    - `heavy`: all of these stronger, quarter turns, gamma, and patches left out.
    - `rotate4`: turned by 0, 90, 180 or 270 degrees, each with Gaussian noise.

    Args:
        recipe: One of `RECIPES`.
    """

    def __init__(self, recipe: str) -> None:
        steps = _steps(recipe)
        self.recipe = recipe
        self._pipeline = albumentations.Compose(steps) if steps else None

    def __call__(self, rgb: Image8, seed: int) -> Image8:
        """The changed image, (S, S, 3); the input is left as it is."""
        if self._pipeline is None:
            return rgb
        # One stream for all steps: set_random_seed would give each of them equal draws.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return np.ascontiguousarray(self._pipeline(image=rgb)["image"])


def _steps(recipe: str) -> list[albumentations.BasicTransform]:
    flips = [albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)]
    basic = [_moved(0.04, 5), albumentations.RandomBrightnessContrast(0.15, 0.15, p=0.5)]
    if recipe == "none":
        return []
    if recipe == "basic":
        return basic
    if recipe == "flip":
        return [*flips, *basic]
    if recipe == "noise":
        return [*flips, *basic, _noise_or_blur(0.03, 0.5)]
    if recipe == "clahe":
        return [*flips, *basic, albumentations.CLAHE(clip_limit=(1, 4), p=0.5)]
    if recipe == "rotate4":
        return [
            albumentations.RandomRotate90(p=1.0),
            albumentations.GaussNoise(std_range=(0.01, 0.04), p=1.0),
        ]
    if recipe != "heavy":
        raise ValueError(f"recipe {recipe!r} is none of {', '.join(RECIPES)}")
    return [
        albumentations.D4(p=1.0),
        _moved(0.08, 12),
        # By the mean: by the maximum a dark image would turn black.
        albumentations.RandomBrightnessContrast(0.3, 0.3, brightness_by_max=False, p=0.7),
        albumentations.OneOf(
            [
                albumentations.CLAHE(clip_limit=(1, 4), p=1.0),
                albumentations.RandomGamma((70, 140), p=1.0),
            ],
            p=0.3,
        ),
        _noise_or_blur(0.05, 0.4),
        albumentations.CoarseDropout(
            num_holes_range=(1, 3),
            hole_height_range=(0.05, 0.15),
            hole_width_range=(0.05, 0.15),
            fill=114,
            p=0.3,
        ),
    ]


def _moved(share: float, degrees: float) -> albumentations.BasicTransform:
    return albumentations.Affine(
        scale=(1 - share, 1 + share),
        translate_percent=(-share, share),
        rotate=(-degrees, degrees),
        border_mode=cv2.BORDER_REFLECT_101,
        p=0.8,
    )


def _noise_or_blur(strength: float, chance: float) -> albumentations.BasicTransform:
    return albumentations.OneOf(
        [
            albumentations.GaussNoise(std_range=(0.005, strength), p=1.0),
            albumentations.GaussianBlur(blur_limit=(3, 5), p=1.0),
        ],
        p=chance,
    )


def augmentation_sheet(views: Sequence[Image8], recipe: str, seed: int = 0) -> Image8:
    """A row for each image: itself, then what a recipe makes of it.

    Args:
        views: (S, S, 3) each.
        recipe: One of `RECIPES`.
        seed: Decides what is shown.

    Returns:
        (rows * 128, 8 * 128, 3) uint8.
    """
    augmenter = Augmenter(recipe)
    rows = []
    for number, view in enumerate(views):
        changed = [augmenter(view, seed + 1000 * number + c) for c in range(_COLUMNS - 1)]
        shown = [cv2.resize(one, (_SIDE, _SIDE)) for one in (view, *changed)]
        rows.append(np.concatenate(shown, axis=1))
    return np.concatenate(rows)
