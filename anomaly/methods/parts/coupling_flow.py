"""A normalising flow over one feature map: affine couplings, each told by half the channels.

Source: Dinh et al. 2017, Real NVP, arXiv:1605.08803; as FastFlow (Yu et al. 2021, arXiv:2111.07677)
    and CFlow-AD (Gudovskiy et al. 2021, arXiv:2107.12571) put it on feature maps.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable("anomaly")
class CouplingFlow(layers.Layer):
    """Steps of a fixed mixing of channels and an affine coupling of one half.

    Args:
        kernels: Side of the two convolutions of each step; 1 looks at every position alone.
        ratio: Width inside, as a multiple of what goes in.
        clamp: Bound of the logarithm of a factor.
        mixing: `permute` channels, or `rotate` them by an orthogonal matrix.
        seed: Decides the mixing.
    """

    def __init__(
        self,
        kernels: tuple[int, ...],
        ratio: float = 1.0,
        clamp: float = 2.0,
        mixing: str = "permute",
        seed: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.kernels, self.ratio, self.clamp = tuple(kernels), ratio, clamp
        self.mixing, self.seed = mixing, seed

    def build(self, maps_shape: tuple, condition_shape: tuple | None = None) -> None:
        width = int(maps_shape[-1])
        self._kept = width // 2
        self._changed = width - self._kept
        told = self._kept + (int(condition_shape[-1]) if condition_shape else 0)
        hidden = max(1, round(self.ratio * told))
        rng = np.random.default_rng(self.seed)
        self._mix, self._first, self._second = [], [], []
        for step, kernel in enumerate(self.kernels):
            # Stored with the weights, so that no other version of a library mixes otherwise.
            mix = self.add_weight(
                shape=(width, width), trainable=False, name=f"mix_{step}", initializer="zeros"
            )
            mix.assign(_mixing(width, self.mixing, rng))
            self._mix.append(mix)
            first = layers.Conv2D(
                hidden, kernel, padding="same", activation="relu", name=f"first_{step}"
            )
            # 0 at the start, so that the untrained flow only mixes.
            second = layers.Conv2D(
                2 * self._changed,
                kernel,
                padding="same",
                kernel_initializer="zeros",
                name=f"second_{step}",
            )
            first.build((*tuple(maps_shape)[:-1], told))
            second.build((*tuple(maps_shape)[:-1], hidden))
            self._first.append(first)
            self._second.append(second)
        self.built = True

    def call(self, maps: Any, condition: Any = None) -> tuple[Any, Any]:
        """Latent map of the same shape, and (B, h, w) whose sum is log |det J|.

        With kernels of 1, the value at a position is log |det J| of that position's own vector.
        """
        total = 0.0
        for step in range(len(self.kernels)):
            maps = ops.matmul(maps, self._mix[step])
            kept, changed = maps[..., : self._kept], maps[..., self._kept :]
            scale, shift = self._told(step, kept, condition)
            maps = ops.concatenate([kept, changed * ops.exp(scale) + shift], axis=-1)
            total = total + ops.sum(scale, axis=-1)
        return maps, total

    def inverse(self, maps: Any, condition: Any = None) -> Any:
        """The map whose latent map this is."""
        for step in reversed(range(len(self.kernels))):
            kept, changed = maps[..., : self._kept], maps[..., self._kept :]
            scale, shift = self._told(step, kept, condition)
            maps = ops.concatenate([kept, (changed - shift) * ops.exp(-scale)], axis=-1)
            maps = ops.matmul(maps, ops.transpose(self._mix[step]))
        return maps

    def _told(self, step: int, kept: Any, condition: Any) -> tuple[Any, Any]:
        if condition is not None:
            kept = ops.concatenate([kept, condition], axis=-1)
        told = self._second[step](self._first[step](kept))
        scale, shift = told[..., : self._changed], told[..., self._changed :]
        return self.clamp * 0.636 * ops.arctan(scale / self.clamp), shift

    def compute_output_shape(self, maps_shape: tuple, condition_shape: tuple | None = None):
        return tuple(maps_shape), tuple(maps_shape)[:-1]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "kernels": list(self.kernels),
            "ratio": self.ratio,
            "clamp": self.clamp,
            "mixing": self.mixing,
            "seed": self.seed,
        }


def _mixing(width: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """(width, width) orthogonal."""
    if kind == "permute":
        return np.eye(width, dtype=np.float32)[rng.permutation(width)]
    return np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)


@keras.saving.register_keras_serializable("anomaly")
class PositionCode(layers.Layer):
    """Sines and cosines of row and column, the condition of CFlow-AD.

    Args:
        channels: A multiple of 4: half tell the column, half the row.

    Source: Vaswani et al. 2017, section 3.5, along two axes as in arXiv:2107.12571, section 4.
    """

    def __init__(self, channels: int = 128, **kwargs) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, input_shape: tuple) -> None:
        self._code = position_code(int(input_shape[1]), int(input_shape[2]), self.channels)
        self.built = True

    def call(self, maps: Any) -> Any:
        """(B, h, w, channels) for maps (B, h, w, c)."""
        code = ops.convert_to_tensor(self._code)[None]
        return ops.broadcast_to(code, (ops.shape(maps)[0], *self._code.shape))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*tuple(input_shape)[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"channels": self.channels}


def position_code(height: int, width: int, channels: int) -> np.ndarray:
    """(height, width, channels) float32 in [-1, 1]."""
    quarter = channels // 4
    frequency = np.exp(-np.log(10_000.0) * np.arange(quarter) / quarter)
    row = np.arange(height)[:, None] * frequency
    column = np.arange(width)[:, None] * frequency
    code = np.empty((height, width, channels), np.float32)
    code[..., :quarter], code[..., quarter : 2 * quarter] = np.sin(column), np.cos(column)
    code[..., 2 * quarter : 3 * quarter] = np.sin(row)[:, None]
    code[..., 3 * quarter :] = np.cos(row)[:, None]
    return code
