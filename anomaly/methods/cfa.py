"""CFA: descriptors drawn onto hyperspheres around what is normal at some position.

Source: Lee et al. 2022, arXiv:2206.04325.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from anomaly.features.extractor import FeatureExtractor, graphs
from anomaly.features.maps import patches
from anomaly.methods.base import TrainedMethod, mean_counted
from anomaly.methods.fitting import MapSet
from inspection.errors import InputError

_NEAREST, _NEXT = 3, 3  # spheres that attract, and those after them that repel
_NU, _MARGIN = 1e-3, 0.1


class CFA(TrainedMethod):
    """Coupled-hypersphere feature adaptation.

    Args:
        extractor: The stages, finest first.
        width: Channels of a descriptor; 0 keeps those of the features.
        epochs: Passes over the normal images.
        batch_size: Views per step.
        lr: Learning rate of AdamW.
    """

    name = "cfa"
    OPTIONS = ("width", *TrainedMethod.OPTIONS)

    def __init__(
        self,
        extractor: FeatureExtractor,
        width: int = 0,
        epochs: int = 30,
        batch_size: int = 4,
        lr: float = 1e-3,
    ) -> None:
        super().__init__(extractor, epochs, batch_size, lr)
        if width < 0:
            raise InputError(f"cfa: width {width}: must be at least 0")
        self.width = width
        self._spheres = 0

    def inputs(self, features: list[np.ndarray]) -> list[np.ndarray]:
        return [patches(features).astype(np.float16)]

    def check(self, maps: MapSet) -> None:
        self._spheres = int(maps.ever_counted(0).sum())
        if self._spheres < _NEAREST + _NEXT:
            raise InputError(
                f"cfa: a feature map of {self._spheres} cells is too small; give a larger --size"
            )

    def build(self, shapes: Sequence[tuple[int, ...]], seed: int) -> keras.Model:
        (shape,) = shapes
        inputs = keras.Input(tuple(shape), name="patches")
        placed = WithPosition(name="position")(inputs)
        descriptor = layers.Conv2D(self.width or shape[-1], 1, name="descriptor")(placed)
        return keras.Model(inputs, Hyperspheres(self._spheres, name="spheres")(descriptor))

    def prepare(self, network: keras.Model, maps: MapSet) -> None:
        """Centres: the mean initial descriptor at each position; they stay where they are."""
        initial = keras.Model(network.input, network.get_layer("descriptor").output)
        total, count = 0.0, 0.0
        for start in range(0, len(maps), self.batch_size):
            numbers = range(start, min(start + self.batch_size, len(maps)))
            found = np.asarray(initial(self.scaled(maps[numbers])[0], training=False), np.float64)
            cells = maps.counted(numbers)[0][..., None]
            total, count = total + (found * cells).sum(axis=0), count + cells.sum(axis=0)
        centres = (total / np.maximum(count, 1))[maps.ever_counted(0)]
        network.get_layer("spheres").centres.assign(centres.astype(np.float32))

    def loss(self, network: keras.Model, counted: list[Any]) -> keras.Model:
        loss = SphereLoss(name="loss")(network.output, counted[0])
        return keras.Model([*network.inputs, *counted], loss)

    def optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.AdamW(self.lr, weight_decay=5e-4)

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        squared = self.run(self.scaled(self.inputs(features)))[0][..., :_NEAREST]
        distance = np.sqrt(np.maximum(squared, 0))
        # Softmin: a patch near to one centre alone is more certain than one between several.
        certainty = np.exp(distance[..., :1] - distance).sum(axis=-1)
        return distance[..., 0] / certainty

    def feature_graph(self, features: list[Any]) -> Any:
        maps = graphs.at_half_precision(graphs.patches(features))
        squared = self.network_graph([maps])[0][..., :_NEAREST]
        distance = ops.sqrt(ops.maximum(squared, 0))
        certainty = ops.sum(ops.exp(distance[..., :1] - distance), axis=-1)
        return distance[..., 0] / certainty


@keras.saving.register_keras_serializable("anomaly")
class WithPosition(layers.Layer):
    """Appends each position's column and row, -1 to 1 (CoordConv, Liu et al. 2018)."""

    def build(self, input_shape: tuple) -> None:
        height, width = int(input_shape[1]), int(input_shape[2])
        row, column = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        self._place = np.stack([column, row], axis=-1).astype(np.float32)
        self.built = True

    def call(self, maps: Any) -> Any:
        place = ops.convert_to_tensor(self._place)[None]
        place = ops.broadcast_to(place, (ops.shape(maps)[0], *self._place.shape))
        return ops.concatenate([maps, place], axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*tuple(input_shape)[:-1], input_shape[-1] + 2)


@keras.saving.register_keras_serializable("anomaly")
class Hyperspheres(layers.Layer):
    """Squared distances of every descriptor to its nearest centres, nearest first.

    Args:
        count: How many centres there are; None is one for each position.
    """

    def __init__(self, count: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.count = count

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"count": self.count}

    def build(self, input_shape: tuple) -> None:
        cells = self.count or int(input_shape[1]) * int(input_shape[2])
        self.centres = self.add_weight(
            shape=(cells, int(input_shape[-1])),
            trainable=False,
            initializer="zeros",
            name="centres",
        )
        self.built = True

    def call(self, maps: Any) -> Any:
        """Maps (B, h, w, c) to (B, h, w, 6)."""
        squares = ops.sum(ops.square(maps), axis=-1, keepdims=True)
        lengths = ops.sum(ops.square(self.centres), axis=-1)
        distance = squares + lengths - 2 * ops.matmul(maps, ops.transpose(self.centres))
        return -ops.top_k(-distance, _NEAREST + _NEXT)[0]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*tuple(input_shape)[:-1], _NEAREST + _NEXT)


@keras.saving.register_keras_serializable("anomaly")
class SphereLoss(layers.Layer):
    """Attraction to the nearest centres, repulsion from the next ones; the radius is learnt.

    Source: arXiv:2206.04325, equations 2 to 4.
    """

    def build(self, squared_shape: tuple, counted_shape: tuple) -> None:
        self.radius = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(1e-5), name="radius"
        )
        self.built = True

    def call(self, squared: Any, counted: Any) -> Any:
        """Squared distances (B, h, w, 6), nearest first, and cells (B, h, w) of 1 or 0 to (B,)."""
        sphere = ops.square(self.radius)
        attraction = ops.relu(squared[..., :_NEAREST] - sphere)
        repulsion = ops.relu(sphere - squared[..., _NEAREST:] - _MARGIN)
        mean = ops.mean(attraction, axis=-1) + ops.mean(repulsion, axis=-1)
        return mean_counted(mean, counted) / _NU

    def compute_output_shape(self, squared_shape: tuple, counted_shape: tuple) -> tuple:
        return (squared_shape[0],)
