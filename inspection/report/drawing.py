"""What is drawn over images, in colours that mean the same everywhere: boxes, maps, outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from inspection.data.letterbox import Image8
from inspection.report.palette import TRUTH, WRONG, Colour
from inspection.report.tags import leader, tag_places
from inspection.report.typeface import composed, font_of

_STRENGTH = 0.65


@dataclass(frozen=True)
class DrawnBox:
    """A box to draw.

    Args:
        xyxy: Four edges in pixels of the image.
        colour: RGB, 0 to 255.
        text: Stands beside the box, with a line to it where there is no room.
        width: Line width in pixels of the view; the line lies around the box, not in it.
    """

    xyxy: Sequence[float]
    colour: Colour
    text: str = ""
    width: int = 2


def draw_view(
    rgb: np.ndarray,
    boxes: Sequence[DrawnBox] = (),
    region: Sequence[float] | None = None,
    longest: int = 480,
    font_size: int = 14,
) -> np.ndarray:
    """An image or a region of it at a given size, with boxes drawn at that size.

    Lines and letters keep their size whatever the image's, so small defects stay readable.

    Args:
        rgb: (H, W, 3) uint8.
        boxes: In pixels of `rgb`; what lies outside the region is cut.
        region: xyxy in pixels, clipped to the image; the whole image where left out.
        longest: Longer side of the view in pixels.
        font_size: In pixels of the view.

    Returns:
        (h, w, 3) uint8.
    """
    from PIL import Image, ImageDraw

    height, width = rgb.shape[:2]
    x1, y1, x2, y2 = (0, 0, width, height) if region is None else region
    left, top = (min(max(0, math.floor(v)), n - 1) for v, n in ((x1, width), (y1, height)))
    right = max(left + 1, min(width, math.ceil(x2)))
    bottom = max(top + 1, min(height, math.ceil(y2)))
    part = np.ascontiguousarray(rgb[top:bottom, left:right])
    scale = longest / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    view = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    image = Image.fromarray(view)
    draw = ImageDraw.Draw(image)
    placed, tagged = [], []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        if x2 <= left or y2 <= top or x1 >= right or y1 >= bottom:
            continue
        edges = [(x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale]
        draw.rectangle(_around(edges, box.width, size), outline=box.colour, width=box.width)
        placed.append(tuple(edges))
        if box.text:
            tagged.append((len(placed) - 1, _Tag(box, font_size, draw)))
    places = tag_places(placed, [(index, tag.size) for index, tag in tagged], size)
    # After all boxes, so that no line runs through a text.
    for (index, tag), place in zip(tagged, places, strict=True):
        if line := leader(place, placed[index]):
            draw.line(line, fill=tag.box.colour, width=2)
    for (_, tag), place in zip(tagged, places, strict=True):
        tag.draw(draw, place)
    return np.asarray(image)


def lies_wide(rgb: np.ndarray) -> bool:
    """Whether two of an image are better seen one above the other than side by side."""
    height, width = rgb.shape[:2]
    return width > 1.6 * height


def heat_overlay(rgb: Image8, heat: np.ndarray) -> Image8:
    """The image with a map over it; where the map is 0 the image keeps its own colours.

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
    """(h, w) cells as (H, W) values over an image of that size."""
    return cv2.resize(np.asarray(heat, np.float32), rgb.shape[1::-1])


def thumbnail(rgb: Image8, longest: int) -> Image8:
    """The image with its longer side at most so many pixels."""
    scale = longest / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def boxes_view(
    rgb: Image8, found: Sequence[Sequence[float]], true: Sequence[Sequence[float]], longest: int
) -> Image8:
    """An image at a given size with the boxes that a map gives, red, over the known ones, green.

    Args:
        rgb: (H, W, 3).
        found: xyxy in pixels of the image.
        true: The same, of what is labelled.
        longest: Longer side of the view in pixels.
    """
    drawn = [DrawnBox(box, TRUTH) for box in true] + [DrawnBox(box, WRONG) for box in found]
    return draw_view(rgb, drawn, longest=longest)


def outlined(rgb: Image8, mask: np.ndarray | None) -> Image8:
    """The image with what is labelled outlined in green.

    Args:
        rgb: (h, w, 3), of any size.
        mask: (H, W) bool of the original's size; None where nothing is known.
    """
    if mask is None or not mask.any():
        return rgb
    small = cv2.resize(mask.astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    grown = cv2.dilate((small > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.drawContours(np.ascontiguousarray(rgb).copy(), contours, -1, TRUTH, 1)
    return np.asarray(drawn, np.uint8)


def _around(edges: Sequence[float], width: int, size: tuple[int, int]) -> list[int]:
    """Where a line goes that leaves all of a box to be seen; the view's border holds it back."""
    grown = []
    for edge, step, limit in zip(edges, (-1, -1, 1, 1), (*size, *size), strict=True):
        moved = round(edge) + step * (width - 1)
        inside = 0 <= round(edge) <= limit
        grown.append(min(max(0, moved), limit - 1) if inside else moved)
    return grown


class _Tag:
    """A box's text, and the room it takes."""

    def __init__(self, box: DrawnBox, font_size: int, draw: Any) -> None:
        self.box, self._text = box, composed(box.text)
        self._font = font_of(self._text, font_size)
        self._x, self._y, right, bottom = draw.textbbox((0, 0), self._text, font=self._font)
        self.size = (math.ceil(right - self._x) + 6, math.ceil(bottom - self._y) + 4)

    def draw(self, draw: Any, place: Sequence[float]) -> None:
        left, top = place[:2]
        colour = self.box.colour
        draw.rectangle([*place[:2], place[2] - 1, place[3] - 1], fill=colour)
        bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        draw.text(
            (left + 3 - self._x, top + 2 - self._y),
            self._text,
            font=self._font,
            fill="black" if bright > 120 else "white",
        )
