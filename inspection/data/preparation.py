"""From an image to what a network sees, and from its maps back to the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from inspection.data.enhance import equalise, flatten_light, foreground
from inspection.data.images import as_rgb, colour_channels, read_image
from inspection.data.letterbox import PAD_VALUE, Fit, FitMode, Image8, fit_for
from inspection.data.masks import check_encoded, decode_mask
from inspection.errors import InputError

# Added since features were first stored; what was stored before is still found.
_LATER = ("background", "clahe", "flatten")
Region = tuple[int, int, int, int]
"""xyxy in whole pixels of an image."""


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Preparation:
    """How images are brought to a network; it travels with the model.

    What is left at its default is not done. A file may come from anywhere, so values are checked.

    Args:
        size: Side in pixels of what the network sees.
        fit: How the image (or region) is brought to a square; of no meaning with `tile`.
        bits: Bits that a 16-bit camera fills.
        roi: Region of interest in the image's pixels; None is all of it.
        tile: Side in pixels of overlapping tiles cut at native resolution, each brought to
            `size`; None sees the whole image at once.
        overlap: Least share of a tile that its neighbour repeats.
        roi_mask: An image's mask, see `inspection.data.masks.encode_mask`: what is black there
            is neither learnt nor scored. None looks everywhere.
        channels: 1 or 3 where all images were grey or all in colour; files that are not are
            refused.
        background: Grey out what is not the part: all but the largest object.
        clahe: Clip limit of contrast-limited adaptive histogram equalisation; 0 for none.
        flatten: Take out uneven light: divide by the image's heavily blurred self.

    Raises:
        pydantic.ValidationError: A value is out of range.
    """

    size: Annotated[int, Field(ge=8, le=8192)]
    fit: FitMode = "stretch"
    bits: Annotated[int, Field(ge=8, le=16)] = 16
    roi: Region | None = None
    _: KW_ONLY
    tile: Annotated[int, Field(ge=8, le=65536)] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    roi_mask: str | None = None
    channels: Literal[1, 3] | None = None
    background: bool = False
    clahe: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    flatten: bool = False

    @field_validator("roi_mask")
    @classmethod
    def _is_a_small_png(cls, mask: str | None) -> str | None:
        if mask is not None:
            check_encoded(mask)
        return mask

    def __call__(self, image: str | Path | np.ndarray, name: str | None = None) -> Prepared:
        """Prepares an image.

        Args:
            image: A file, or an array as `inspection.data.images.as_rgb` takes it.
            name: What a message calls it; its path where left out.

        Raises:
            InputError: The file cannot be read or has another number of channels, or region or
                mask do not fit it.
        """
        if isinstance(image, np.ndarray):
            rgb, name = as_rgb(image, self.bits), name or "the array"
        else:
            self._check_channels(image)
            rgb, name = read_image(image, self.bits), name or str(image)
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

    def region(self, rgb: Image8, name: str = "the image") -> tuple[Image8, np.ndarray | None]:
        """The region of interest, enhanced and black off the mask; (h, w) bool, what that keeps.

        Raises:
            InputError: Region or mask do not fit the image.
        """
        height, width = rgb.shape[:2]
        x1, y1, x2, y2 = self._box(width, height, name)
        mask = self._mask(width, height, name)
        part = whole = np.ascontiguousarray(rgb[y1:y2, x1:x2])
        if self.flatten:
            part = flatten_light(part)
        if self.clahe:
            part = equalise(part, self.clahe)
        if self.background:
            # Found in the image as it is: flattening lightens a dark background.
            part = np.where(foreground(whole)[..., None], part, np.uint8(PAD_VALUE))
        if mask is None:
            return part, None
        inside = mask[y1:y2, x1:x2]
        return np.where(inside[..., None], part, np.uint8(0)), inside

    def check_size(self, width: int, height: int, name: str) -> None:
        """Whether an image of this size can be prepared.

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

    def of_region(self) -> Preparation:
        """The rest of it, for what `region` gave."""
        return replace(self, roi=None, roi_mask=None, background=False, clahe=0.0, flatten=False)

    def _check_channels(self, path: str | Path) -> None:
        if self.channels and (found := colour_channels(path)) != self.channels:
            kinds = {1: "grey (1 channel)", 3: "in colour (3 channels)"}
            raise InputError(
                f"{path}: is {kinds[found]}, the model learnt images that are "
                f"{kinds[self.channels]}; give images of the same camera settings"
            )

    def _mask(self, width: int, height: int, name: str) -> np.ndarray | None:
        if self.roi_mask is None:
            return None
        mask = decode_mask(self.roi_mask)
        if mask.shape != (height, width):
            raise InputError(
                f"{name}: has {width} x {height} pixels, the mask of the region of interest "
                f"{mask.shape[1]} x {mask.shape[0]}; draw it at the images' size"
            )
        return mask

    def _box(self, width: int, height: int, name: str) -> Region:
        x1, y1, x2, y2 = self.roi or (0, 0, width, height)
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise InputError(
                f"{name}: the region of interest {x1},{y1},{x2},{y2} is not inside its "
                f"{width} x {height} pixels; correct --roi to x1 < x2 and y1 < y2 within them"
            )
        return x1, y1, x2, y2

    def __repr__(self) -> str:
        """Without the steps of `_LATER` that are off: it is part of the keys of stored features."""
        values = (f"{k}={v!r}" for k, v in asdict(self).items() if v or k not in _LATER)
        return f"Preparation({', '.join(values)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model file: size, fit, bits and what else is done."""
        always = ("size", "fit", "bits")
        usual = {one.name: one.default for one in fields(self)}
        return {k: v for k, v in asdict(self).items() if k in always or v != usual[k]}

    def facts(self) -> dict[str, str]:
        """The same for a reader."""
        values = self.to_dict()
        if "roi_mask" in values:
            values["roi_mask"] = "inspected where it is white"
        return {key: str(value) for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """Reads what `to_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for a network.

    Args:
        source: (width, height) of the image.
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

    @property
    def rgb(self) -> Image8:
        """(S, S, 3) uint8, the view of the whole region."""
        return self.views[0]

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

    def mask_seen(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the image as the network sees it, without tiles: (H, W) to (S, S) bool."""
        if self.fit is None:
            raise ValueError("tiles are no single view that a mask could be seen in")
        x1, y1, x2, y2 = self.region
        part = np.ascontiguousarray(mask[y1:y2, x1:x2].astype(np.uint8) * 255)
        assert self.fit is not None  # without tiles
        fitted = self.fit.apply(part)
        if self.fit.mode == "letterbox":
            seen = self.fit.apply(np.full_like(part, 255))
            fitted = np.where(seen == PAD_VALUE, 0, fitted)
        # Any part of a fine defect counts: half a pixel of a crack is a crack.
        return fitted >= 64

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """A map of the view of the whole region in the image's own pixels, 0 off the region.

        Args:
            values: (S, S), or any other size that covers the view evenly; maps of cells have
                been placed in it before.

        Returns:
            (H, W) float32.
        """
        size = self.views.shape[1:3]
        return self.on_image(self.merge(cv2.resize(np.asarray(values, np.float32), size)[None]))

    def on_image(self, score_map: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """A merged map in the image's own pixels: (H, W) float32, `outside` off the region."""
        x1, y1, x2, y2 = self.region
        full = np.full((self.source[1], self.source[0]), outside, np.float32)
        large = cv2.resize(score_map, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
        full[y1:y2, x1:x2] = (
            large if self.inside is None else np.where(self.inside, large, np.float32(outside))
        )
        return full


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
