"""CS-Flow: how unlikely the features of three scales are under a flow fitted to normal pictures.

Source: Rudolph et al. 2022, arXiv:2110.02855.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from anomaly.cross_scale_flow import CrossScaleFlow
from anomaly.features import FeatureExtractor
from anomaly.methods.base import TrainedMethod
from inspection.errors import InputError

SIZES = {
    "full": {"hidden": 1024, "kernels": (3, 3, 3, 5)},
    "reduced": {"hidden": 512, "kernels": (5,)},
    "small": {"hidden": 64, "kernels": (3, 3)},
}
"""The paper's model, one of a quarter of its parameters, and one for a CPU."""


class CSFlow(TrainedMethod):
    """CS-Flow on one stage of a backbone at three picture sizes.

    Args:
        extractor: The last stage, on the view and on its half and quarter.
        model: A name of `SIZES`.
        epochs: Passes over the normal pictures.
        batch_size: Views per step.
        lr: Learning rate of Adam.
    """

    name = "cs-flow"
    stages = 1
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

    def loss(self, network: keras.Model) -> keras.Model:
        return likelihood_network(network)

    def optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.lr, epsilon=1e-4, weight_decay=1e-5, global_clipnorm=1.0)

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        return np.square(self.run(self.scaled(features))[0]).mean(axis=-1)

    def feature_graph(self, features: list[Any]) -> Any:
        return ops.mean(ops.square(self.network_graph(features)[0]), axis=-1)


def flow_network(shapes: Sequence[tuple[int, ...]], size: dict, seed: int = 0) -> keras.Model:
    """A flow as a model from the maps of all scales to their latent maps and log |det J|."""
    inputs = [keras.Input(tuple(shape), name=f"scale_{i}") for i, shape in enumerate(shapes)]
    latent, change = CrossScaleFlow(**size, seed=seed, name="flow")(inputs)
    return keras.Model(inputs, [*latent, change])


def likelihood_network(flow: keras.Model) -> keras.Model:
    """The same weights; from the maps to the negative log-likelihood per dimension, (B,)."""
    *latent, change = flow.outputs
    dimensions = sum(int(np.prod(one.shape[1:])) for one in latent)
    squares = sum(ops.sum(ops.square(one), axis=(1, 2, 3)) for one in latent)
    return keras.Model(flow.inputs, (0.5 * squares - change) / dimensions)
