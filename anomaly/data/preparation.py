"""From a picture to what a method sees, and from its maps back to the picture."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from inspection.data.images import colour_channels, encode_image, read_image
from inspection.data.letterbox import Fit, FitMode, Image8, fit_for
from inspection.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_MASK = 1 << 28  # pixels


@dataclass(frozen=True)
class Preparation:
    """How a picture is cut and scaled; it travels with the model.

    Args:
        size: Side in pixels of what the network sees.
        fit: How the picture (or region) is brought to a square; of no meaning with `tile`.
        bits: Bits that a 16-bit camera fills.
        roi: Region of interest as (x1, y1, x2, y2) in the picture's pixels; None is all of it.
        tile: Side in pixels of overlapping tiles cut at native resolution, each brought to
            `size`; None sees the whole picture at once.
        overlap: Least share of a tile that its neighbour repeats.
        roi_mask: A picture's mask as PNG in base64, see `encode_mask`: what is black there is
            neither learnt nor scored. None looks everywhere.
        channels: 1 or 3 where all pictures were grey or all in colour; others are refused.
    """

    size: int = 256
    fit: FitMode = "stretch"
    bits: int = 16
    roi: tuple[int, int, int, int] | None = None
    tile: int | None = None
    overlap: float = 0.25
    roi_mask: str | None = None
    channels: int | None = None

    def read(self, path: str | Path) -> Prepared:
        """Reads and prepares a file.

        Raises:
            InputError: The file cannot be read, has another number of channels, or region or
                mask do not fit it.
        """
        if self.channels and (found := colour_channels(path)) != self.channels:
            kinds = {1: "grey (1 channel)", 3: "in colour (3 channels)"}
            raise InputError(
                f"{path}: is {kinds[found]}, the model learnt pictures that are "
                f"{kinds[self.channels]}; give pictures of the same camera settings"
            )
        return self.apply(read_image(path, self.bits), str(path))

    def apply(self, rgb: Image8, name: str = "the picture") -> Prepared:
        """Prepares a picture.

        Args:
            rgb: (H, W, 3).
            name: What a message calls it.

        Raises:
            InputError: The region of interest lies outside.
        """
        height, width = rgb.shape[:2]
        x1, y1, x2, y2 = box = self._box(width, height, name)
        region, inside = self.region(rgb, name)
        if self.tile is None:
            fit = fit_for(x2 - x1, y2 - y1, self.size, self.fit)
            return Prepared((width, height), box, fit.apply(region)[None], fit, (), 0, inside)
        windows = tile_windows(x2 - x1, y2 - y1, self.tile, self.overlap)
        tiles = [
            cv2.resize(
                region[top : top + self.tile, left : left + self.tile],
                (self.size, self.size),
                interpolation=cv2.INTER_AREA if self.tile > self.size else cv2.INTER_LINEAR,
            )
            for left, top in windows
        ]
        return Prepared((width, height), box, np.stack(tiles), None, windows, self.tile, inside)

    def check_size(self, width: int, height: int, name: str) -> None:
        """Whether a picture of this size can be prepared.

        Raises:
            InputError: Region, mask or tiles do not fit it.
        """
        x1, y1, x2, y2 = self._box(width, height, name)
        self._mask(width, height, name)
        if self.tile is not None and self.tile > min(x2 - x1, y2 - y1):
            raise InputError(
                f"{name}: --tile {self.tile} is larger than its region of {x2 - x1} x {y2 - y1} "
                f"pixels; give at most {min(x2 - x1, y2 - y1)}"
            )

    def _mask(self, width: int, height: int, name: str) -> np.ndarray | None:
        if self.roi_mask is None:
            return None
        mask = _decoded(self.roi_mask)
        if mask.shape != (height, width):
            raise InputError(
                f"{name}: has {width} x {height} pixels, the mask of the region of interest "
                f"{mask.shape[1]} x {mask.shape[0]}; draw it at the pictures' size"
            )
        return mask

    def region(self, rgb: Image8, name: str = "the picture") -> tuple[Image8, np.ndarray | None]:
        """The region of interest, black off the mask, and (h, w) bool, what the mask keeps."""
        height, width = rgb.shape[:2]
        x1, y1, x2, y2 = self._box(width, height, name)
        mask = self._mask(width, height, name)
        if mask is None:
            return rgb[y1:y2, x1:x2], None
        inside = mask[y1:y2, x1:x2]
        return np.where(inside[..., None], rgb[y1:y2, x1:x2], np.uint8(0)), inside

    def _box(self, width: int, height: int, name: str) -> tuple[int, int, int, int]:
        x1, y1, x2, y2 = self.roi or (0, 0, width, height)
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise InputError(
                f"{name}: the region of interest {x1}, {y1}, {x2}, {y2} is not inside its "
                f"{width} x {height} pixels; give x1 < x2 and y1 < y2 within them"
            )
        return x1, y1, x2, y2

    def everywhere(self) -> Preparation:
        """The same without region and mask, for what has been cut already."""
        return replace(self, roi=None, roi_mask=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preparation:
        roi = values.get("roi")
        return cls(**(values | {"roi": None if roi is None else tuple(roi)}))


class PreparationValues(BaseModel):
    """What a stored preparation may hold; a file may come from anywhere.

    Raises:
        pydantic.ValidationError: No training of ours writes this.
    """

    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=8, le=8192)]
    fit: Literal["letterbox", "stretch"]
    bits: Annotated[int, Field(ge=8, le=16)]
    roi: tuple[int, int, int, int] | None = None
    tile: Annotated[int, Field(ge=8, le=65536)] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    roi_mask: str | None = None
    channels: Literal[1, 3] | None = None

    @field_validator("roi_mask")
    @classmethod
    def _is_a_small_png(cls, mask: str | None) -> str | None:
        if mask is not None:
            content = base64.b64decode(mask, validate=True)
            width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
            if not content.startswith(_PNG) or not 0 < width * height <= _LARGEST_MASK:
                raise ValueError("must be a PNG of an image's size")
        return mask


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture ready for a method.

    Args:
        source: (width, height) of the picture.
        region: The region of interest, xyxy in its pixels.
        views: (V, S, S, 3) uint8, what the network sees: the whole region, or its tiles.
        fit: How the region became a view; None with tiles.
        windows: Left and top of every tile in pixels of the region.
        tile: Side of a tile in pixels.
        inside: (h, w) bool of the region, what a mask keeps of it; None keeps all.
    """

    source: tuple[int, int]
    region: tuple[int, int, int, int]
    views: np.ndarray
    fit: Fit | None
    windows: tuple[tuple[int, int], ...]
    tile: int = 0
    inside: np.ndarray | None = None

    def merge(self, maps: np.ndarray) -> np.ndarray:
        """Score maps of the views as one map of the region.

        Args:
            maps: (V, h, w) float32, of any size.

        Returns:
            float32. For a whole region (h', w') on the maps' own grid without the letterbox's
            border; for tiles the region's own height and width, neighbours blended without
            seams.
        """
        if self.fit is not None:
            return _without_border(maps[0], self.fit)
        x1, y1, x2, y2 = self.region
        total = np.zeros((y2 - y1, x2 - x1), np.float32)
        weight = np.zeros_like(total)
        shade = _tent(self.tile)
        for (left, top), one in zip(self.windows, maps, strict=True):
            here = np.s_[top : top + self.tile, left : left + self.tile]
            height, width = total[here].shape
            large = cv2.resize(one, (self.tile, self.tile), interpolation=cv2.INTER_LINEAR)
            total[here] += (shade * large)[:height, :width]
            weight[here] += shade[:height, :width]
        return total / weight

    def cells(self, score_map: np.ndarray) -> np.ndarray:
        """(N,) the scores of a merged map that count: those inside the mask."""
        if self.inside is None:
            return score_map.ravel()
        size = (score_map.shape[1], score_map.shape[0])
        share = cv2.resize(self.inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return score_map[share >= min(0.5, float(share.max()))]

    def counted(self, cells: tuple[int, int]) -> np.ndarray:
        """Which cells of the views' own maps count: on the region and inside the mask.

        Args:
            cells: (h, w) of the maps.

        Returns:
            (V, h, w) bool; not all False.
        """
        height, width = cells
        if self.inside is None and (self.fit is None or self.fit.mode == "stretch"):
            return np.ones((len(self.views), height, width), bool)
        x1, y1, x2, y2 = self.region
        inside = np.ones((y2 - y1, x2 - x1), bool) if self.inside is None else self.inside
        inside = inside.astype(np.float32)
        if self.fit is not None:
            fitted = self.fit.apply(inside)
            views = [np.where(fitted > 1, np.float32(0), fitted)]  # over 1 is its border
        else:
            side = self.tile
            views = [inside[top : top + side, left : left + side] for left, top in self.windows]
        share = np.stack(
            [cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in views]
        )
        return share >= min(0.5, float(share.max()))

    def on_picture(self, score_map: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """A merged map in the picture's own pixels: (H, W) float32, `outside` off the region."""
        x1, y1, x2, y2 = self.region
        full = np.full((self.source[1], self.source[0]), outside, np.float32)
        large = cv2.resize(score_map, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
        full[y1:y2, x1:x2] = (
            large if self.inside is None else np.where(self.inside, large, np.float32(outside))
        )
        return full


def encode_mask(path: str | Path) -> str:
    """A mask file, as it travels with a model.

    Args:
        path: A picture; what is darker than middle grey is left out of the inspection.

    Raises:
        InputError: The file cannot be read, or nothing is left to inspect.
    """
    grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    if not (grey > 127).any():
        raise InputError(f"{path}: the mask is black everywhere; paint white what is inspected")
    white = np.repeat(np.where(grey > 127, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    return base64.b64encode(encode_image(white, ".png")).decode("ascii")


@lru_cache(maxsize=4)
def _decoded(mask: str) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(mask), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) > 127


def tile_windows(width: int, height: int, tile: int, overlap: float) -> tuple[tuple[int, int], ...]:
    """Left and top of tiles that cover a region evenly, row by row.

    Args:
        width: Of the region in pixels.
        height: Of the region in pixels.
        tile: Side of a tile in pixels.
        overlap: Least share that neighbours have in common, 0 to below 1.

    Raises:
        InputError: The region is smaller than a tile.
    """
    if tile > min(width, height):
        raise InputError(
            f"--tile {tile}: is larger than the region of {width} x {height} pixels; give at most "
            f"{min(width, height)}"
        )
    return tuple(
        (left, top)
        for top in _starts(height, tile, overlap)
        for left in _starts(width, tile, overlap)
    )


def _starts(length: int, tile: int, overlap: float) -> Sequence[int]:
    step = max(1.0, tile * (1 - overlap))
    count = 1 + int(np.ceil((length - tile) / step))
    return np.linspace(0, length - tile, count).round().astype(int).tolist()


def _tent(tile: int) -> np.ndarray:
    """(tile, tile) weights that fall to nearly nothing at the border."""
    ramp = 1 - np.abs(np.linspace(-1, 1, tile, dtype=np.float32)) * 0.99
    return ramp[:, None] * ramp[None, :]


def _without_border(one: np.ndarray, fit: Fit) -> np.ndarray:
    """Cuts a letterbox's border off a map, to the nearest cell."""
    height, width = one.shape
    inner = np.array([fit.source[0] * fit.scale_x, fit.source[1] * fit.scale_y])
    left, top = fit.offset_x * width / fit.size, fit.offset_y * height / fit.size
    right, bottom = left + inner[0] * width / fit.size, top + inner[1] * height / fit.size
    rows = slice(min(round(top), height - 1), max(round(bottom), round(top) + 1))
    columns = slice(min(round(left), width - 1), max(round(right), round(left) + 1))
    return one[rows, columns]
