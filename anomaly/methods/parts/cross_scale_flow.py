"""A normalising flow over feature maps of three scales that look at each other.

Source: Rudolph et al. 2022, Fully Convolutional Cross-Scale-Flows for Image-based Defect
    Detection (CS-Flow), arXiv:2110.02855. The inverse is derived from the forward here.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

SCALES = 3
_CLAMP = 3.0


@keras.saving.register_keras_serializable("anomaly")
class CrossScaleNetwork(layers.Layer):
    """Scale and shift of the other half of the channels, each scale told by its neighbours.

    Args:
        channels: Of every output map: scale and shift together.
        hidden: Width inside.
        kernel: Side of the convolutions.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.channels, self.hidden, self.kernel = channels, hidden, kernel

        def conv(width: int, name: str, stride: int = 1) -> layers.Layer:
            return layers.Conv2D(width, kernel, strides=stride, padding="same", name=name)

        self.first = [conv(hidden, f"first_{scale}") for scale in range(SCALES)]
        self.second = [conv(channels, f"second_{scale}") for scale in range(SCALES)]
        self.up = [conv(channels, f"up_{scale}") for scale in range(SCALES - 1)]
        self.down = [conv(channels, f"down_{scale}", 2) for scale in range(SCALES - 1)]
        self.enlarge = layers.UpSampling2D(2, interpolation="bilinear", name="enlarge")

    def build(self, input_shape: list[tuple]) -> None:
        inner = [(*tuple(shape)[:-1], self.hidden) for shape in input_shape]
        for scale in range(SCALES):
            self.first[scale].build(tuple(input_shape[scale]))
            self.second[scale].build(inner[scale])
        for scale in range(SCALES - 1):
            self.up[scale].build(inner[scale])
            self.down[scale].build(inner[scale])
        # 0 at the start, so that the untrained flow is the identity.
        self.gamma = self.add_weight(shape=(SCALES,), initializer="zeros", name="gamma")
        self.built = True

    def call(self, maps: list[Any]) -> list[Any]:
        """Maps (B, h, w, c) of each scale, finest first, to (B, h, w, channels) each."""
        inner = [
            ops.leaky_relu(conv(one), negative_slope=0.1)
            for conv, one in zip(self.first, maps, strict=True)
        ]
        found = [conv(one) for conv, one in zip(self.second, inner, strict=True)]
        for scale in range(SCALES - 1):
            coarser = self.up[scale](self.enlarge(inner[scale + 1]))
            found[scale] = found[scale] + coarser
            found[scale + 1] = found[scale + 1] + self.down[scale](inner[scale])
        return [one * self.gamma[scale] for scale, one in enumerate(found)]

    def compute_output_shape(self, input_shape: list[tuple]) -> list[tuple]:
        return [(*tuple(shape)[:-1], self.channels) for shape in input_shape]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "channels": self.channels,
            "hidden": self.hidden,
            "kernel": self.kernel,
        }


@keras.saving.register_keras_serializable("anomaly")
class CrossScaleFlow(layers.Layer):
    """Blocks of a fixed permutation of channels and an affine coupling of both halves.

    Args:
        hidden: Width inside the coupling networks.
        kernels: Side of the convolutions, one for each block.
        seed: Decides the permutations.
    """

    def __init__(
        self, hidden: int, kernels: tuple[int, ...] = (3, 3, 3, 5), seed: int = 0, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.hidden, self.kernels, self.seed = hidden, tuple(kernels), seed
        self.first: list[CrossScaleNetwork] = []  # changes the left half
        self.second: list[CrossScaleNetwork] = []  # then the right one

    def build(self, input_shape: list[tuple]) -> None:
        width = int(input_shape[0][-1])
        self._left = width // 2
        rng = np.random.default_rng(self.seed)
        self._orders = [rng.permutation(width) for _ in self.kernels]
        right = width - self._left
        for block, kernel in enumerate(self.kernels):
            for half, given, wanted in (
                (self.first, right, self._left),
                (self.second, self._left, right),
            ):
                name = f"block_{block}_{'right' if half is self.second else 'left'}"
                network = CrossScaleNetwork(2 * wanted, self.hidden, kernel, name=name)
                network.build([(*tuple(shape)[:-1], given) for shape in input_shape])
                half.append(network)
        self.built = True

    def call(self, maps: list[Any]) -> tuple[list[Any], Any]:
        """Latent maps of the same shapes, and the (B,) logarithm of |det J|."""
        maps, changes = self.cells(maps)
        return maps, sum(ops.sum(one, axis=(1, 2)) for one in changes)

    def cells(self, maps: list[Any]) -> tuple[list[Any], list[Any]]:
        """Latent maps, and (B, h, w) of each scale whose sums add up to log |det J|."""
        maps = list(maps)
        total = [0.0] * SCALES
        for order, first, second in zip(self._orders, self.first, self.second, strict=True):
            maps = [ops.take(one, order, axis=-1) for one in maps]
            left, right = self._halves(maps)
            left, change = _affine(left, first(right))
            right, other = _affine(right, second(left))
            maps = [ops.concatenate(pair, axis=-1) for pair in zip(left, right, strict=True)]
            total = [sum(parts) for parts in zip(total, change, other, strict=True)]
        return maps, total

    def inverse(self, maps: list[Any]) -> list[Any]:
        """The feature maps whose latent maps these are."""
        maps = list(maps)
        blocks = list(zip(self._orders, self.first, self.second, strict=True))
        for order, first, second in reversed(blocks):
            left, right = self._halves(maps)
            right = _affine_back(right, second(left))
            left = _affine_back(left, first(right))
            maps = [ops.concatenate(pair, axis=-1) for pair in zip(left, right, strict=True)]
            maps = [ops.take(one, np.argsort(order), axis=-1) for one in maps]
        return maps

    def _halves(self, maps: list[Any]) -> tuple[list[Any], list[Any]]:
        return [one[..., : self._left] for one in maps], [one[..., self._left :] for one in maps]

    def compute_output_shape(self, input_shape: list[tuple]):
        return list(input_shape), (input_shape[0][0],)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "hidden": self.hidden,
            "kernels": list(self.kernels),
            "seed": self.seed,
        }


def _scale_and_shift(told: Any) -> tuple[Any, Any]:
    scale, shift = ops.split(told, 2, axis=-1)
    # atan bounds the factor softly; .636 = 2 / pi.
    return _CLAMP * 0.636 * ops.arctan(scale / _CLAMP), shift


def _affine(maps: list[Any], told: list[Any]) -> tuple[list[Any], list[Any]]:
    found, changes = [], []
    for one, pair in zip(maps, told, strict=True):
        scale, shift = _scale_and_shift(pair)
        found.append(one * ops.exp(scale) + shift)
        changes.append(ops.sum(scale, axis=-1))
    return found, changes


def _affine_back(maps: list[Any], told: list[Any]) -> list[Any]:
    found = []
    for one, pair in zip(maps, told, strict=True):
        scale, shift = _scale_and_shift(pair)
        found.append((one - shift) * ops.exp(-scale))
    return found
