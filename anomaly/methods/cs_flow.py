"""CS-Flow: how unlikely the features of three scales are under a flow fitted to normal images.

Source: Rudolph et al. 2022, arXiv:2110.02855.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import reduce
from typing import Any

import keras
import numpy as np
from keras import ops

from anomaly.features.extractor import FeatureExtractor, graphs
from anomaly.features.maps import enlarged
from anomaly.methods.base import State, TrainedMethod
from anomaly.methods.parts.cross_scale_flow import CrossScaleFlow
from inspection.errors import InputError

SIZES = {
    "full": {"hidden": 1024, "kernels": (3, 3, 3, 5)},
    "reduced": {"hidden": 512, "kernels": (5,)},
    "small": {"hidden": 128, "kernels": (3, 3, 3, 3)},
}
"""The paper's model, one of a quarter of its parameters, and one for a CPU: as deep as the paper's
and, on the 64 channels of a backbone of one's own, of nearly its width for each channel."""
_SCALES = 3


class CSFlow(TrainedMethod):
    """CS-Flow on one stage of a backbone at three image sizes.

    Args:
        extractor: The last stage, on the view and on its half and quarter.
        model: A name of `SIZES`.
        epochs: Passes over the normal images.
        batch_size: Views per step.
        lr: Learning rate of Adam.
    """

    name = "cs-flow"
    stages = 1
    raw = True
    aggregation = "mean"
    OPTIONS = ("model", *TrainedMethod.OPTIONS)

    def __init__(
        self,
        extractor: FeatureExtractor,
        model: str = "small",
        epochs: int = 40,
        batch_size: int = 16,
        lr: float = 2e-4,
    ) -> None:
        if model not in SIZES:
            raise InputError(f"cs-flow: model {model}: must be {', '.join(SIZES)}")
        super().__init__(extractor, epochs, batch_size, lr)
        self.model = model
        self._scales = _SCALES

    @classmethod
    def taps_of(cls, stages: Sequence[str]) -> tuple[str, ...]:
        return stages[-1], f"{stages[-1]}/2", f"{stages[-1]}/4"

    def build(self, shapes: Sequence[tuple[int, ...]], seed: int) -> keras.Model:
        halves = all(
            fine[:2] == (2 * coarse[0], 2 * coarse[1])
            for fine, coarse in itertools.pairwise(shapes)
        )
        if not halves:
            cells = " and ".join(f"{height} x {width}" for height, width, _ in shapes)
            raise InputError(
                f"cs-flow: feature maps of {cells} cells do not halve from scale to scale; give a "
                "--size that is a multiple of 64 (of 128 with an EfficientNet)"
            )
        return flow_network(shapes, SIZES[self.model], seed)

    def live_channels(self, deviations: list[np.ndarray]) -> list[np.ndarray]:
        # The same of all scales: what varies on one alone cannot be told from the others.
        alive = super().live_channels(deviations)
        return [reduce(np.intersect1d, alive)] * len(alive)

    def loss(self, network: keras.Model, counted: list[Any]) -> keras.Model:
        return likelihood_network(network, counted)

    def optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.lr, epsilon=1e-4, weight_decay=1e-5, global_clipnorm=1.0)

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        """The mean of z^2 / 2 over all numbers of all scales is the mean of the map."""
        latent = self.run(self.scaled(features))[:_SCALES]
        if self._scales == 1:
            return np.square(latent[0]).mean(axis=-1)
        size = latent[0].shape[1:3]
        halves = [0.5 * np.square(one).mean(axis=-1) for one in latent]
        shares = [one[0].size for one in halves]
        total = sum(share * enlarged(one, size) for share, one in zip(shares, halves, strict=True))
        return (total / sum(shares)).astype(np.float32)

    def feature_graph(self, features: list[Any]) -> Any:
        latent = self.network_graph(features)[:_SCALES]
        if self._scales == 1:
            return ops.mean(ops.square(latent[0]), axis=-1)
        size = latent[0].shape[1:3]
        halves = [0.5 * ops.mean(ops.square(one), axis=-1, keepdims=True) for one in latent]
        shares = [one.shape[1] * one.shape[2] for one in halves]
        total = sum(
            share * graphs.enlarged(one, size) for share, one in zip(shares, halves, strict=True)
        )
        return total[..., 0] / sum(shares)

    def arrays(self) -> dict[str, np.ndarray]:
        return super().arrays() | {"scales": np.array(self._scales)}

    def restore(self, state: State) -> None:
        super().restore(state)
        # Without it, it was stored when scores came from the finest scale alone.
        self._scales = int(state.arrays.get("scales", 1))


def flow_network(shapes: Sequence[tuple[int, ...]], size: dict, seed: int = 0) -> keras.Model:
    """A flow as a model from the maps of all scales to their latent maps and log |det J|."""
    inputs = [keras.Input(tuple(shape), name=f"scale_{i}") for i, shape in enumerate(shapes)]
    latent, change = CrossScaleFlow(**size, seed=seed, name="flow")(inputs)
    return keras.Model(inputs, [*latent, change])


def likelihood_network(network: keras.Model, counted: list[Any]) -> keras.Model:
    """The same weights; from the maps to the negative log-likelihood per dimension, (B,).

    Args:
        network: Made by `flow_network`.
        counted: As for `TrainedMethod.loss`.
    """
    inputs = [*network.inputs, *counted]
    return keras.Model(inputs, CellLikelihood(network.get_layer("flow"))(inputs))


class CellLikelihood(keras.layers.Layer):
    """Negative log-likelihood per dimension over the cells that count; only for training."""

    def __init__(self, flow: CrossScaleFlow) -> None:
        super().__init__(name="likelihood")
        self.flow = flow

    def build(self, input_shape: list[tuple]) -> None:
        self.built = True

    def call(self, given: list[Any]) -> Any:
        """Maps (B, h, w, c) of each scale, then cells (B, h, w) of 1 or 0, to (B,)."""
        maps, counted = given[:_SCALES], given[_SCALES:]
        latent, changes = self.flow.cells(maps)
        total = dimensions = 0.0
        for one, change, cells in zip(latent, changes, counted, strict=True):
            told = 0.5 * ops.sum(ops.square(one), axis=-1) - change
            total = total + ops.sum(told * cells, axis=(1, 2))
            dimensions = dimensions + one.shape[-1] * ops.sum(cells, axis=(1, 2))
        return total / ops.maximum(dimensions, 1.0)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return (input_shape[0][0],)
