"""Bringing an image to a square of fixed size, and boxes with it and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from inspection.data.boxes import FloatArray, as_boxes, clip_boxes

PAD_VALUE = 114
"""Grey of the letterbox border, near the mean of natural images."""

Image8 = NDArray[np.uint8]
FitMode = Literal["letterbox", "stretch"]


@dataclass(frozen=True)
class Fit:
    """How an image is brought to `size` x `size` pixels, and boxes with it and back.

    Args:
        source: (width, height) of the image in pixels.
        size: Side of the square result in pixels.
        mode: `letterbox` keeps the aspect ratio and pads evenly, `stretch` fills.
        scale_x: Result pixels per source pixel, horizontally.
        scale_y: The same vertically.
        offset_x: Left padding in pixels.
        offset_y: Top padding in pixels.
    """

    source: tuple[int, int]
    size: int
    mode: FitMode
    scale_x: float
    scale_y: float
    offset_x: int
    offset_y: int

    def apply(self, image: Image8) -> Image8:
        """The fitted image: (size, size, 3); one that has the size already is passed through.

        Args:
            image: (H, W, 3) of the size `source`.

        Raises:
            ValueError: The image has another size.
        """
        width, height = self.source
        if image.shape[:2] != (height, width):
            raise ValueError(
                f"this fit is for {width} x {height} pixels, the image has "
                f"{image.shape[1]} x {image.shape[0]}"
            )
        if (width, height) == (self.size, self.size):
            return image
        inner_width = round(width * self.scale_x)
        inner_height = round(height * self.scale_y)
        # INTER_AREA averages only along an axis that shrinks; one that grows comes second.
        small = (min(width, inner_width), min(height, inner_height))
        if small != (width, height):
            image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), image.dtype)
        if small != (inner_width, inner_height):
            wanted = (inner_width, inner_height)
            larger = cv2.resize(image, wanted, interpolation=cv2.INTER_LINEAR)
            image = np.asarray(larger, image.dtype)
        if (inner_width, inner_height) == (self.size, self.size):
            return image
        result = np.full((self.size, self.size, *image.shape[2:]), PAD_VALUE, image.dtype)
        result[
            self.offset_y : self.offset_y + inner_height,
            self.offset_x : self.offset_x + inner_width,
        ] = image
        return result

    def to_fitted(self, xyxy: ArrayLike) -> FloatArray:
        """Boxes of the source image in pixels of the result: (N, 4) float32."""
        boxes = as_boxes(xyxy).astype(np.float64) * self._scale + self._offset
        return boxes.astype(np.float32)

    def to_source(self, xyxy: ArrayLike) -> FloatArray:
        """Boxes of the result in pixels of the source image, clipped to it: (N, 4) float32."""
        boxes = (as_boxes(xyxy).astype(np.float64) - self._offset) / self._scale
        return clip_boxes(boxes, *self.source)

    @property
    def _scale(self) -> NDArray[np.float64]:
        return np.array([self.scale_x, self.scale_y] * 2)

    @property
    def _offset(self) -> NDArray[np.float64]:
        return np.array([self.offset_x, self.offset_y] * 2, np.float64)


def fit_for(width: int, height: int, size: int, mode: FitMode = "letterbox") -> Fit:
    """The fit that brings an image of `width` x `height` pixels to `size` x `size`.

    The scales are those of the whole-pixel result, so that mapping boxes there and back is
    exact, also where rounding changes the aspect ratio a little.

    Raises:
        ValueError: A length is under 1 or the mode is unknown.
    """
    if min(width, height, size) < 1:
        raise ValueError(f"{width} x {height} to {size}: every length must be at least 1 pixel")
    if mode not in ("letterbox", "stretch"):
        raise ValueError(f"the fit is letterbox or stretch, not {mode!r}")
    inner_width = inner_height = size
    if mode == "letterbox":
        scale = min(size / width, size / height)
        inner_width = min(size, max(1, round(width * scale)))
        inner_height = min(size, max(1, round(height * scale)))
    return Fit(
        source=(width, height),
        size=size,
        mode=mode,
        scale_x=inner_width / width,
        scale_y=inner_height / height,
        offset_x=(size - inner_width) // 2,
        offset_y=(size - inner_height) // 2,
    )
