"""From a picture as the camera gives it to what the network sees, and maps back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspection.data.images import as_rgb, read_image
from inspection.data.letterbox import PAD_VALUE, Fit, FitMode, Image8, fit_for
from inspection.errors import InputError

Region = tuple[int, int, int, int]
_REACH = 0.15  # of the shorter side: blur that leaves nothing but the light
_LEAST, _MOST = 0.05, 0.95  # of the picture, within which a foreground is believed


@dataclass(frozen=True)
class View:
    """What the network sees of a picture.

    Args:
        rgb: (S, S, 3) uint8.
        source: (width, height) of the picture in pixels.
        region: What of the picture is seen, xyxy in its pixels.
        fit: How the region was brought to S x S.
    """

    rgb: Image8
    source: tuple[int, int]
    region: Region
    fit: Fit

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """A map of the view in the picture's own pixels; 0 where the network did not see.

        Args:
            values: (S, S), or any other size that covers the whole view evenly; maps of cells
                are placed by `classification.cam.maps.Explainer.place` first.

        Returns:
            (H, W) float32.
        """
        size = self.fit.size
        x1, y1, x2, y2 = self.region
        values = cv2.resize(np.asarray(values, np.float32), (size, size))
        left, top = self.fit.offset_x, self.fit.offset_y
        width = round((x2 - x1) * self.fit.scale_x)
        height = round((y2 - y1) * self.fit.scale_y)
        inner = values[top : top + height, left : left + width]
        found = np.zeros((self.source[1], self.source[0]), np.float32)
        found[y1:y2, x1:x2] = cv2.resize(inner, (x2 - x1, y2 - y1))
        return found

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the picture as the network sees it: (H, W) to (S, S) bool."""
        x1, y1, x2, y2 = self.region
        part = np.ascontiguousarray(mask[y1:y2, x1:x2].astype(np.uint8) * 255)
        fitted = self.fit.apply(part)
        if self.fit.mode == "letterbox":
            seen = self.fit.apply(np.full_like(part, 255))
            fitted = np.where(seen == PAD_VALUE, 0, fitted)
        # Any part of a fine defect counts: half a pixel of a crack is a crack.
        return fitted >= 64


@dataclass(frozen=True)
class Preparation:
    """How pictures are brought to the network; it travels with the model.

    Args:
        size: Side of the view in pixels.
        fit: `stretch` or `letterbox`.
        bits: Bits that a 16-bit camera fills.
        roi: Region of interest, xyxy in pixels of the picture; all where None.
        background: Grey out what is not the part: all but the largest object.
        clahe: Clip limit of contrast-limited adaptive histogram equalisation; 0 for none.
        flatten: Take out uneven light: divide by the picture's heavily blurred self.
    """

    size: int = 224
    fit: FitMode = "stretch"
    bits: int = 16
    roi: Region | None = None
    background: bool = False
    clahe: float = 0.0
    flatten: bool = False

    def __call__(self, picture: str | Path | np.ndarray) -> View:
        """Prepares a picture.

        Args:
            picture: A file, or an array as `inspection.data.images.as_rgb` takes it.

        Raises:
            InputError: The file cannot be read, or the region lies outside the picture.
        """
        name = "the array" if isinstance(picture, np.ndarray) else str(picture)
        rgb = (
            as_rgb(picture, self.bits)
            if isinstance(picture, np.ndarray)
            else read_image(picture, self.bits)
        )
        height, width = rgb.shape[:2]
        region = self.roi or (0, 0, width, height)
        x1, y1, x2, y2 = region
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise InputError(
                f"{name}: has {width} x {height} pixels, and the region of interest "
                f"{','.join(map(str, region))} is not within; correct --roi"
            )
        part = np.ascontiguousarray(rgb[y1:y2, x1:x2])
        if self.flatten:
            part = flatten_light(part)
        if self.clahe:
            part = equalise(part, self.clahe)
        if self.background:
            # Found in the picture as it is: flattening lightens a dark background.
            keep = foreground(rgb[y1:y2, x1:x2])
            part = np.where(keep[..., None], part, np.uint8(PAD_VALUE))
        fit = fit_for(x2 - x1, y2 - y1, self.size, self.fit)
        return View(fit.apply(np.ascontiguousarray(part)), (width, height), region, fit)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """Reads what `to_dict` wrote."""
        roi = values.get("roi")
        return cls(**{**values, "roi": None if roi is None else tuple(int(v) for v in roi)})


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


def equalise(rgb: Image8, clip: float, tiles: int = 8) -> Image8:
    """CLAHE on lightness; colours stay.

    Args:
        rgb: (H, W, 3).
        clip: Clip limit, 1 to about 8.
        tiles: Tiles a side.

    Returns:
        (H, W, 3) uint8.

    Source: Zuiderveld 1994, Contrast limited adaptive histogram equalization.
    """
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clip, (tiles, tiles)).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def foreground(rgb: Image8) -> np.ndarray:
    """Where the part is: the largest object that differs from the picture's border.

    Args:
        rgb: (H, W, 3).

    Returns:
        (H, W) bool; all True where no object can be told from a background.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 2)
    _, light = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    light = light > 0
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
