"""Augmentation recipes, by albumentations, and pasting of defects onto other images."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import get_args

# albumentations asks the internet for its newest version at import; factory PCs are offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import numpy as np

from detection.settings import Recipe
from inspection.data.boxes import box_iou

RECIPES: tuple[Recipe, ...] = get_args(Recipe)
QUARTER_TURNS: tuple[Recipe, ...] = ("basic", "heavy")

_MIN_SIDE = 2.0
_PASTE_MARGIN = 0.15
_PASTE_SHIFT = 50.0


@dataclass(frozen=True)
class Sample:
    """One training image with its boxes, before it becomes a batch.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float32 xyxy in pixels of `image`.
        classes: (N,) int64 class indices; -1 marks a box to ignore.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


class Augmenter:
    """Applies a recipe; the same seed gives the same image.

    Args:
        recipe: `none`; `flip` (mirrored both ways, brightness and contrast, a little noise or
            blur); `basic` (the same, also turned by quarters); `heavy` (the same stronger, with
            CLAHE and gamma).
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        steps = _steps(recipe)
        self._pipeline = (
            albumentations.Compose(
                steps,
                bbox_params=albumentations.BboxParams(
                    format="pascal_voc", label_fields=["classes"], filter_invalid_bboxes=True
                ),
            )
            if steps
            else None
        )

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Returns the augmented sample; the input is left as it is."""
        if self._pipeline is None:
            return sample
        # One stream for all steps: set_random_seed would give each of them the same one, and
        # with it equal draws, so that only lightened images were ever blurred.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self._pipeline(
            image=sample.image, bboxes=sample.boxes, classes=sample.classes.astype(np.float64)
        )
        boxes = np.asarray(result["bboxes"], np.float32).reshape(-1, 4)
        classes = np.asarray(result["classes"], np.int64).reshape(-1)
        # Too small to learn, but still to be seen: ignored, not taught as background.
        learnt = (boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE).all(axis=1)
        return Sample(np.ascontiguousarray(result["image"]), boxes, np.where(learnt, classes, -1))


def _steps(recipe: Recipe) -> list[albumentations.BasicTransform]:
    if recipe == "none":
        return []
    # D4 is the group of flips and quarter turns: every orientation equally likely.
    orient = (
        [albumentations.D4(p=1.0)]
        if recipe in QUARTER_TURNS
        else [albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)]
    )
    if recipe != "heavy":
        return [
            *orient,
            albumentations.RandomBrightnessContrast(0.15, 0.15, p=0.5),
            albumentations.OneOf(
                [
                    albumentations.GaussianBlur(blur_limit=(3, 3), p=1.0),
                    albumentations.GaussNoise(std_range=(0.005, 0.02), p=1.0),
                ],
                p=0.2,
            ),
        ]
    return [
        *orient,
        albumentations.RandomBrightnessContrast(0.3, 0.3, p=0.7),
        albumentations.OneOf(
            [
                albumentations.CLAHE(clip_limit=(1, 3), p=1.0),
                albumentations.RandomGamma((70, 140), p=1.0),
            ],
            p=0.3,
        ),
        albumentations.OneOf(
            [
                albumentations.GaussianBlur(blur_limit=(3, 5), p=1.0),
                albumentations.GaussNoise(std_range=(0.01, 0.04), p=1.0),
            ],
            p=0.3,
        ),
    ]


def paste_defect(target: Sample, source: Sample, rng: np.random.Generator) -> Sample:
    """Pastes one defect of another image, blended, where it covers no labelled box.

    The patch is cut by its box and a small margin, turned at random, brought to the mean
    brightness of where it lands, and faded out over the margin.

    Args:
        target: Where to paste.
        source: Image whose defect is taken; it must hold a box of a class >= 0.
        rng: Source of chance.

    Returns:
        A new sample with one box more, or `target` where no free place was found or the
        surroundings are too unlike.
    """
    large = (source.boxes[:, 2:] - source.boxes[:, :2] >= _MIN_SIDE).all(axis=1)
    candidates = np.flatnonzero((source.classes >= 0) & large)
    if not len(candidates):
        return target
    index = int(rng.choice(candidates))
    x1, y1, x2, y2 = (round(float(edge)) for edge in source.boxes[index])
    margin = max(3, round(_PASTE_MARGIN * max(x2 - x1, y2 - y1)))
    left, top = max(x1 - margin, 0), max(y1 - margin, 0)
    patch = source.image[top : y2 + margin, left : x2 + margin].astype(np.float32)
    box = np.array([x1 - left, y1 - top, x2 - left, y2 - top], np.float32)
    patch, box = _turned(patch, box, int(rng.integers(4)), bool(rng.integers(2)))
    place = _free_place(target, patch.shape, rng)
    if place is None:
        return target
    x, y = place
    height, width = patch.shape[:2]
    image = target.image.copy()
    window = image[y : y + height, x : x + width].astype(np.float32)
    rim = _rim(height, width, margin // 2 + 1)
    shift = np.median(window[rim], axis=0) - np.median(patch[rim], axis=0)
    # A patch that has to be shifted far would run into black or white and lose its defect.
    if np.abs(shift).max() > _PASTE_SHIFT:
        return target
    patch = patch + shift
    opacity = _fade(box, height, width, margin)[..., None]
    blended = np.clip(opacity * patch + (1 - opacity) * window, 0, 255)
    image[y : y + height, x : x + width] = blended.astype(np.uint8)
    return Sample(
        image,
        np.concatenate([target.boxes, (box + np.float32([x, y, x, y]))[None]]),
        np.append(target.classes, source.classes[index]),
    )


def _turned(patch: np.ndarray, box: np.ndarray, quarters: int, flip: bool):
    for _ in range(quarters):
        width = patch.shape[1]
        patch = np.rot90(patch)
        box = np.array([box[1], width - box[2], box[3], width - box[0]], np.float32)
    if flip:
        width = patch.shape[1]
        patch = patch[:, ::-1]
        box = np.array([width - box[2], box[1], width - box[0], box[3]], np.float32)
    return np.ascontiguousarray(patch), box


def _free_place(target: Sample, shape: tuple[int, ...], rng: np.random.Generator):
    height, width = target.image.shape[:2]
    if shape[0] > height or shape[1] > width:
        return None
    for _ in range(20):
        x = int(rng.integers(0, width - shape[1] + 1))
        y = int(rng.integers(0, height - shape[0] + 1))
        place = np.array([[x, y, x + shape[1], y + shape[0]]], np.float32)
        if not len(target.boxes) or box_iou(place, target.boxes).max() == 0:
            return x, y
    return None


def _rim(height: int, width: int, thickness: int) -> np.ndarray:
    rim = np.ones((height, width), bool)
    rim[thickness:-thickness, thickness:-thickness] = False
    return rim


def _fade(box: np.ndarray, height: int, width: int, margin: int) -> np.ndarray:
    opacity = np.zeros((height, width), np.float32)
    x1, y1, x2, y2 = np.round(box).astype(int)
    opacity[y1:y2, x1:x2] = 1.0
    kernel = 2 * (margin // 2) + 1
    return np.maximum(cv2.blur(opacity, (kernel, kernel)), opacity * 0.999)
