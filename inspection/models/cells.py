"""Where the cells of a network's maps lie in the image, measured on the network itself.

Cell k of a stride of s pixels is not centred on (k + .5) * s: padding decides, and differs from
family to family. A ResNet's cells sit at 0, 32, 64, ..., a MobileNet's at 31, 63, 95, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from inspection.models.gradients import value_and_gradients

_PROBES = 3  # cells that are looked at
_BACKGROUND = 0.01  # of a profile's peak: what reaches a cell from everywhere
_STILL = 0.2  # pixels a cell: what moves less sees the same everywhere
_NORMS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
)


@dataclass(frozen=True)
class Cells:
    """The grid of a map's cells, in pixels of the network's input.

    Args:
        origin: (y, x) of the first cell's centre; a pixel's own centre is a whole number.
        stride: (y, x) from one cell to the next.
    """

    origin: tuple[float, float]
    stride: tuple[float, float]

    def place(self, maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Maps as pixels: bilinear between the centres, beyond the last ones as there.

        Args:
            maps: (B, h, w).
            size: (height, width) of the network's input.

        Returns:
            (B, height, width) float32.
        """
        rows, columns = self.shares(maps.shape[1:], size)
        return np.einsum("yh,bhw,xw->byx", rows, maps, columns, optimize=True).astype(np.float32)

    def shares(
        self, shape: tuple[int, ...], size: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(height, h) and (width, w) shares that each row and column of cells has in each pixel's.

        Args:
            shape: (h, w) cells.
            size: (height, width) in pixels.
        """
        rows, columns = (
            mixing((np.arange(length) - start) / step, cells)
            for length, start, step, cells in zip(
                size, self.origin, self.stride, shape, strict=True
            )
        )
        return rows, columns

    def mirrored(self, maps: np.ndarray, width: int) -> np.ndarray:
        """Maps of mirrored images, as maps of the images themselves.

        Args:
            maps: (B, h, w).
            width: Of the network's input in pixels.

        Returns:
            (B, h, w): what the mirrored map holds where each cell's centre is mirrored to.
        """
        cells = maps.shape[2]
        centres = self.origin[1] + self.stride[1] * np.arange(cells)
        columns = mixing((width - 1 - centres - self.origin[1]) / self.stride[1], cells)
        return np.einsum("bhw,xw->bhx", maps, columns).astype(np.float32)


def even(shape: tuple[int, ...], size: tuple[int, ...]) -> Cells:
    """The grid whose cells part the image evenly.

    Args:
        shape: (h, w) cells.
        size: (height, width) in pixels.
    """
    down, across = (length / cells for length, cells in zip(size, shape, strict=True))
    return Cells((down / 2 - 0.5, across / 2 - 0.5), (down, across))


def mixing(places: np.ndarray, cells: int) -> np.ndarray:
    """(P, cells) shares of the two cells beside each place, which is counted in cells."""
    places = np.clip(places, 0, cells - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells)))


def measure_cells(
    model: keras.Model,
    look: Callable[[Any], Any],
    index: np.ndarray,
    size: tuple[int, ...],
) -> Cells:
    """Measures a layer's grid by the gradient of some cells along its diagonal by the image.

    The weights are replaced while looking (see `probe_weights`), so that a cell sees little but
    its own centre, also at the image's border and in a trained network. The shift from one cell
    to another gives the stride.

    Args:
        model: Left as it is.
        look: From (B, H, W, 3) images to the layer's raw output, (B, h, w, C) or (B, N, C), by a
            call of `model`.
        index: (h, w) each cell's place in the flattened (h * w or N) raw output.
        size: (H, W) of the network's input.

    Returns:
        The grid; `even` where no gradient reaches the image, or every cell sees all of it.
    """
    rng = np.random.default_rng(0)
    rows, columns = (_chosen(cells) for cells in index.shape)
    # Nearly even, so that activations weigh all places alike; the grain decides what a maximum
    # takes of several that would be equal.
    image = rng.uniform(40, 215, 3) + rng.normal(0, 1, (*size, 3))
    images = np.repeat(image[None].astype(np.float32), _PROBES, axis=0)
    state = probe_weights(model, rng)

    def sum_of_cells(views: Any) -> Any:
        with keras.StatelessScope(state_mapping=state):
            raw = look(views)
        wanted = np.zeros((_PROBES, np.prod(raw.shape[1:-1]), raw.shape[-1]), np.float32)
        signs = np.random.default_rng(0).choice([-1, 1], raw.shape[-1])
        wanted[np.arange(_PROBES), index[rows, columns]] = signs
        flat = keras.ops.reshape(keras.ops.cast(raw, "float32"), wanted.shape)
        return keras.ops.sum(flat * wanted)

    _, (slope,) = value_and_gradients(sum_of_cells, [images])
    energy = np.square(slope.astype(np.float64)).sum(axis=-1)
    grid = even(index.shape, size)
    down, across = (
        _line(numbers, np.array([_centre(one.sum(axis=other)) for one in energy]), start, step)
        for numbers, other, start, step in zip(
            (rows, columns), (1, 0), grid.origin, grid.stride, strict=True
        )
    )
    return Cells((down[0], across[0]), (down[1], across[1]))


def _centre(profile: np.ndarray) -> float:
    """The middle of what a profile of at least 0 reaches over; NaN where it is empty."""
    if not profile.any():
        return float("nan")
    reached = np.flatnonzero(profile >= _BACKGROUND * profile.max())
    return (reached[0] + reached[-1]) / 2


def _chosen(cells: int) -> np.ndarray:
    """Numbers of the cells that are looked at: not the outermost, which the border cuts."""
    inset = int(cells > _PROBES)
    return np.rint(np.linspace(inset, cells - 1 - inset, _PROBES)).astype(int)


def _line(number: np.ndarray, centre: np.ndarray, start: float, step: float) -> tuple[float, float]:
    """First centre and stride through the centres that were found; else what is given."""
    seen = np.isfinite(centre)
    number, centre = number[seen], centre[seen]
    if not len(number):
        return start, step
    if len(set(number.tolist())) > 1:
        measured = float(np.polyfit(number, centre, 1)[0])
        if measured < _STILL:
            return start, step
        # Kernels, strides and paddings are whole: so are strides, and centres are or lie halfway.
        step = max(1.0, round(measured)) if measured > 0.75 else measured
    return round(2 * float(np.mean(centre - step * number))) / 2, step


def probe_weights(model: keras.Model, rng: np.random.Generator) -> list[tuple[Any, np.ndarray]]:
    """Weights under which a cell sees its own centre: for `keras.StatelessScope`.

    Convolutions mix channels by chance in the middle of their kernels (of even ones in the middle
    two) and normalisations pass on. What looks at the whole map, attention or the convolutions of
    a gate on its mean, gives nothing: a shortcut or a constant is left.
    """
    inner = {
        id(one)
        for layer in model._flatten_layers()
        if not isinstance(layer, keras.Model)
        for one in layer._layers
    }
    state: list[tuple[Any, np.ndarray]] = []
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.Model | layers.Normalization):
            continue
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            shape, name = tuple(weight.shape), weight.name
            if isinstance(layer, _NORMS):
                value = np.full(shape, float("gamma" in name or "variance" in name), np.float32)
            elif "kernel" in name and len(shape) == 4 and not _is_gate(layer):
                value = _middle(shape, rng, depthwise="depthwise" in type(layer).__name__.lower())
            elif "kernel" in name and isinstance(layer, layers.Dense) and id(layer) not in inner:
                value = rng.normal(0, np.sqrt(2 / shape[0]), shape).astype(np.float32)
            elif np.issubdtype(np.dtype(weight.dtype), np.floating):
                value = np.zeros(shape, np.float32)
            else:
                continue
            state.append((weight, value.astype(weight.dtype)))
    return state


def _is_gate(layer: keras.Layer) -> bool:
    """Whether a convolution sees a single cell, the mean of a map."""
    try:
        return tuple(layer.input.shape[1:3]) == (1, 1)
    except (AttributeError, ValueError):
        return False


def _middle(shape: tuple[int, ...], rng: np.random.Generator, depthwise: bool) -> np.ndarray:
    tall, wide, channels, others = shape
    taps = np.zeros((tall, wide, 1, 1), np.float32)
    taps[(tall - 1) // 2 : tall // 2 + 1, (wide - 1) // 2 : wide // 2 + 1] = 1
    if depthwise:
        return taps / taps.sum() * np.ones((1, 1, channels, others), np.float32)
    spread = np.sqrt(2 / channels) / taps.sum()
    return taps * rng.normal(0, spread, (1, 1, channels, others)).astype(np.float32)
