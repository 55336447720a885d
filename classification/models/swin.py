"""Swin transformer, which keras.applications lacks, in keras.ops.

Source: Liu et al. 2021, arXiv:2103.14030: patch partition, (shifted) window attention with a
    relative position bias, patch merging.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

TINY = {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
_WINDOW = 7
_OUTSIDE = -100.0  # added to the attention between places that are no neighbours in the image


@keras.saving.register_keras_serializable("classification")
class WindowAttention(layers.Layer):
    """Multi-head self-attention within windows of a feature map, optionally shifted.

    Args:
        width: Channels C.
        heads: Attention heads; divides C.
        grid: (h, w) of the map it sees.
        window: Side of a window in cells.
        shift: Cells by which the windows are shifted; 0 for none.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        grid: tuple[int, int],
        window: int = _WINDOW,
        shift: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if width % heads:
            raise ValueError(f"{width} channels cannot be divided among {heads} heads")
        self.width, self.heads, self.grid = int(width), int(heads), tuple(grid)
        self.window, self.shift = int(window), int(shift)
        self._padded = tuple(-(-length // self.window) * self.window for length in self.grid)
        self.qkv = layers.Dense(3 * width, name="qkv")
        self.projection = layers.Dense(width, name="projection")

    def build(self, input_shape) -> None:
        side = 2 * self.window - 1
        self.bias = self.add_weight(
            shape=(side * side, self.heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="relative_position_bias",
        )
        self.qkv.build((None, None, self.width))
        self.projection.build((None, None, self.width))
        self._index = _relative_index(self.window)
        self._mask = _shift_mask(self.grid, self._padded, self.window, self.shift)

    def call(self, maps):
        """Maps (B, h, w, C) to the same shape."""
        height, width = self.grid
        tall, wide = self._padded
        maps = ops.pad(maps, [(0, 0), (0, tall - height), (0, wide - width), (0, 0)])
        if self.shift:
            maps = ops.roll(maps, (-self.shift, -self.shift), axis=(1, 2))
        windows = self._split(maps)
        windows = self._merge(self._attend(windows))
        if self.shift:
            windows = ops.roll(windows, (self.shift, self.shift), axis=(1, 2))
        return windows[:, :height, :width]

    def _split(self, maps):
        """(B, H, W, C) to (B, windows, cells of one, C)."""
        side, (tall, wide) = self.window, self._padded
        maps = ops.reshape(maps, (-1, tall // side, side, wide // side, side, self.width))
        maps = ops.transpose(maps, (0, 1, 3, 2, 4, 5))
        return ops.reshape(maps, (-1, (tall // side) * (wide // side), side * side, self.width))

    def _merge(self, windows):
        side, (tall, wide) = self.window, self._padded
        maps = ops.reshape(windows, (-1, tall // side, wide // side, side, side, self.width))
        maps = ops.transpose(maps, (0, 1, 3, 2, 4, 5))
        return ops.reshape(maps, (-1, tall, wide, self.width))

    def _attend(self, windows):
        count, cells = windows.shape[1], self.window**2
        part = self.width // self.heads
        qkv = ops.reshape(self.qkv(windows), (-1, count, cells, 3, self.heads, part))
        query, key, value = (
            ops.transpose(qkv[:, :, :, i], (0, 1, 3, 2, 4)) for i in range(3)
        )  # (B, windows, heads, cells, part)
        scores = ops.matmul(query * part**-0.5, ops.transpose(key, (0, 1, 2, 4, 3)))
        bias = ops.reshape(ops.take(self.bias, self._index, axis=0), (cells, cells, self.heads))
        scores = scores + ops.transpose(bias, (2, 0, 1))
        if self._mask is not None:
            scores = scores + ops.cast(self._mask[None, :, None], scores.dtype)
        mixed = ops.matmul(ops.softmax(scores, axis=-1), value)
        mixed = ops.reshape(ops.transpose(mixed, (0, 1, 3, 2, 4)), (-1, count, cells, self.width))
        return self.projection(mixed)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "width": self.width,
            "heads": self.heads,
            "grid": self.grid,
            "window": self.window,
            "shift": self.shift,
        }


def _relative_index(window: int) -> np.ndarray:
    """(cells * cells,) which bias belongs to each pair of cells of a window."""
    cells = np.stack(np.mgrid[:window, :window], axis=-1).reshape(-1, 2)
    apart = cells[:, None] - cells[None] + window - 1
    return (apart[..., 0] * (2 * window - 1) + apart[..., 1]).reshape(-1).astype(np.int32)


def _shift_mask(
    grid: tuple[int, int], padded: tuple[int, int], window: int, shift: int
) -> np.ndarray | None:
    """(windows, cells, cells): attention only between places that belong together.

    Rolling brings opposite borders into one window, and padding adds places that are nowhere.
    """
    if not shift and grid == padded:
        return None
    regions = np.zeros(padded, np.int32)
    if shift:
        bounds = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
        for number, (rows, columns) in enumerate((r, c) for r in bounds for c in bounds):
            regions[rows, columns] = number
    there = np.zeros(padded, bool)
    there[: grid[0], : grid[1]] = True
    there = np.roll(there, (-shift, -shift), axis=(0, 1))
    regions = np.where(there, regions, -1)
    cells = regions.reshape(padded[0] // window, window, padded[1] // window, window)
    cells = cells.transpose(0, 2, 1, 3).reshape(-1, window * window)
    same = cells[:, :, None] == cells[:, None, :]
    return np.where(same, 0.0, _OUTSIDE).astype(np.float32)


def swin(
    inputs,
    size: int,
    width: int = 96,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    heads: tuple[int, ...] = (3, 6, 12, 24),
    drop_path: float = 0.1,
):
    """The last feature map of a Swin transformer, normalised.

    Args:
        inputs: (B, size, size, 3) tensor, normalised.
        size: Side of the images in pixels.
        width: Channels of the first stage, doubled by each next one.
        depths: Blocks of each stage.
        heads: Attention heads of each stage.
        drop_path: Chance of leaving out the last block's branches while learning; it rises
            to this from 0.

    Returns:
        (B, size / 32, size / 32, 8 * width) tensor for four stages.
    """
    x = layers.Conv2D(width, 4, strides=4, padding="same", name="patches")(inputs)
    x = layers.LayerNormalization(epsilon=1e-5, name="patches_norm")(x)
    rates = np.linspace(0, drop_path, sum(depths))
    side, number = -(-size // 4), 0
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True), start=1):
        if stage > 1:
            side = -(-side // 2)
            x = _merge_patches(x, 2 * x.shape[-1], f"stage{stage}_merge")
        # One window that holds the whole map needs no shift.
        window = min(_WINDOW, side)
        for block in range(depth):
            shift = window // 2 if block % 2 and side > window else 0
            name = f"stage{stage}_block{block + 1}"
            x = _block(x, count, (side, side), window, shift, float(rates[number]), name)
            number += 1
    return layers.LayerNormalization(epsilon=1e-5, name="norm")(x)


def _merge_patches(x, width: int, name: str):
    """Halves the sides: four neighbours become one cell, by a linear layer."""
    odd = [(0, x.shape[1] % 2), (0, x.shape[2] % 2)]
    if any(right for _, right in odd):
        x = layers.ZeroPadding2D(tuple(odd), name=f"{name}_pad")(x)
    channels = x.shape[-1]
    tall, wide = x.shape[1] // 2, x.shape[2] // 2
    x = layers.Reshape((tall, 2, wide, 2 * channels), name=f"{name}_pairs")(x)
    x = layers.Permute((1, 3, 2, 4), name=f"{name}_turn")(x)
    x = layers.Reshape((tall, wide, 4 * channels), name=f"{name}_fours")(x)
    x = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.Dense(width, use_bias=False, name=f"{name}_reduce")(x)


def _block(x, heads: int, grid, window: int, shift: int, drop: float, name: str):
    width = x.shape[-1]

    def left_out(branch, suffix: str):
        if not drop:
            return branch
        # One draw for an image's whole branch: stochastic depth.
        return layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_{suffix}")(branch)

    branch = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm1")(x)
    attention = WindowAttention(width, heads, grid, window, shift, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_add1")([x, left_out(attention(branch), "drop1")])
    branch = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm2")(x)
    branch = layers.Dense(4 * width, activation="gelu", name=f"{name}_mlp1")(branch)
    branch = layers.Dense(width, name=f"{name}_mlp2")(branch)
    return layers.Add(name=f"{name}_add2")([x, left_out(branch, "drop2")])
