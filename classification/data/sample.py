"""A small drawn set to try every command on: caps of a part, seen from the side, five classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from inspection.data.images import write_image

CLASSES = ("normal", "scratch", "pushed", "double line", "not inserted")
WIDTH, HEIGHT = 300, 125
_COUNTS = {"normal": 80}
_OTHERS = 40


def write_sample(folder: Path) -> int:
    """Draws the set: a folder for each class, and `masks/`.

    Args:
        folder: A new folder.

    Returns:
        How many images were written.
    """
    count = 0
    for number, kind in enumerate(CLASSES):
        for index in range(_COUNTS.get(kind, _OTHERS)):
            image, mask = draw(kind, np.random.default_rng([0, number, index]))
            name = f"{kind.replace(' ', '_')}_{index:03d}.png"
            write_image(folder / kind / name, image)
            if mask.any():
                shown = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
                write_image(folder / "masks" / kind / name, shown)
            count += 1
    return count


def draw(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image and where its defect is.

    Args:
        kind: One of `CLASSES`.
        rng: Source of chance.

    Returns:
        (H, W, 3) uint8 and (H, W) bool.
    """
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    cx, top = WIDTH / 2 + rng.normal(0, 5), 28 + rng.normal(0, 2)
    if kind == "not inserted":
        top -= 14
    reach, height = 120 + rng.normal(0, 2), 68.0
    across = (x - cx) / reach
    dome = top + height * (1 - np.sqrt(np.clip(1 - across**2, 0, 1)))
    seat = 96 + rng.normal(0, 1)
    light = 150 + 40 * np.cos(across * 2.2 + rng.normal(0, 0.15)) - 0.35 * (y - top)
    image = np.full((HEIGHT, WIDTH), 42.0, np.float32) + 6 * across
    body = (y >= dome) & (np.abs(across) < 1) & (y < seat + (-14 if kind == "not inserted" else 0))
    image = np.where(body, light, image)
    image = np.where(y >= seat, 95 + 5 * np.cos(across), image)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if kind == "not inserted":
        mask = (np.abs(across) < 1) & (y >= seat - 14) & (y < seat)
    line = dome + 30
    image = np.where(body & (np.abs(y - line) < 1.3), image - 55, image)
    if kind == "double line":
        second = body & (np.abs(y - line - 7) < 1.2)
        image = np.where(second, image - rng.uniform(25, 55), image)
        mask |= second
    if kind in ("scratch", "pushed"):
        drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
        centre = (int(cx + rng.uniform(-70, 70)), int(top + 42 + rng.uniform(-6, 8)))
        if kind == "scratch":
            turn, length = rng.uniform(0, np.pi), rng.uniform(12, 30)
            step = np.array([np.cos(turn), 0.5 * np.sin(turn)]) * length
            ends = [tuple(int(v) for v in np.array(centre) + side * step) for side in (-1, 1)]
            cv2.line(drawn, *ends, 255, int(rng.integers(1, 3)), cv2.LINE_AA)
        else:
            axes = (int(rng.uniform(8, 16)), int(rng.uniform(5, 10)))
            cv2.ellipse(drawn, centre, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
        soft = cv2.GaussianBlur(drawn.astype(np.float32) / 255, (0, 0), 0.8) * body
        change = rng.uniform(30, 70) if kind == "scratch" else -rng.uniform(30, 60)
        image = image + change * soft
        mask |= soft > 0.2
    image = cv2.GaussianBlur(image, (0, 0), 0.7) * rng.uniform(0.85, 1.15)
    image = image + rng.normal(0, 4, image.shape)
    grey = np.clip(image, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), mask
