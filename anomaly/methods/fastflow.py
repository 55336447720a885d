"""FastFlow: one flow of two-dimensional couplings on each stage of a backbone.

Source: Yu et al. 2021, arXiv:2111.07677.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from anomaly.features.extractor import FeatureExtractor, graphs
from anomaly.features.maps import enlarged
from anomaly.methods.base import TrainedMethod, mean_counted
from anomaly.methods.parts.coupling_flow import CouplingFlow
from inspection.errors import InputError


class FastFlow(TrainedMethod):
    """FastFlow on the middle stages of a backbone.

    Args:
        extractor: The stages, finest first.
        steps: Coupling steps on each stage, 3 x 3 and 1 x 1 in turn.
        ratio: Width inside a step, as a multiple of half the stage's channels.
        layer_norm: Begin with a normalisation over each whole map, as the paper does. On
            features that light up where something is odd, it dims the rest of that image.
        epochs: Passes over the normal images.
        batch_size: Views per step.
        lr: Learning rate of Adam.
    """

    name = "fastflow"
    raw = True
    OPTIONS = ("steps", "ratio", "layer_norm", *TrainedMethod.OPTIONS)

    def __init__(
        self,
        extractor: FeatureExtractor,
        steps: int = 8,
        ratio: float = 1.0,
        layer_norm: bool = True,
        epochs: int = 500,
        batch_size: int = 32,
        lr: float = 1e-3,
    ) -> None:
        super().__init__(extractor, epochs, batch_size, lr)
        if steps < 1 or not ratio > 0:
            raise InputError(
                "fastflow: needs steps of at least 1 and ratio over 0; given were "
                f"{steps} and {ratio}"
            )
        self.steps, self.ratio, self.layer_norm = steps, ratio, layer_norm

    def build(self, shapes: Sequence[tuple[int, ...]], seed: int) -> keras.Model:
        inputs, outputs = [], []
        for index, shape in enumerate(shapes):
            one = keras.Input(tuple(shape), name=f"stage_{index}")
            even = one
            if self.layer_norm:
                even = layers.LayerNormalization(axis=(1, 2, 3), name=f"norm_{index}")(one)
            flow = CouplingFlow(
                tuple(3 if step % 2 == 0 else 1 for step in range(self.steps)),
                self.ratio,
                seed=seed + index,
                name=f"flow_{index}",
            )
            inputs.append(one)
            outputs += flow(even)
        return keras.Model(inputs, outputs)

    def loss(self, network: keras.Model, counted: list[Any]) -> keras.Model:
        total = 0.0
        stages = zip(network.outputs[::2], network.outputs[1::2], counted, strict=True)
        for latent, change, cells in stages:
            squares = ops.sum(ops.square(latent), axis=-1)
            # Per dimension; Adam does not see the factor, and the numbers can be read.
            total = total + mean_counted(0.5 * squares - change, cells) / latent.shape[-1]
        return keras.Model([*network.inputs, *counted], total)

    def optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.lr, weight_decay=1e-5)

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        latent = self.run(self.scaled(features))[::2]
        size = latent[0].shape[1:3]
        stages = [-np.exp(-0.5 * np.square(one).mean(axis=-1)) for one in latent]
        return np.mean([enlarged(one, size) for one in stages], axis=0)

    def feature_graph(self, features: list[Any]) -> Any:
        latent = self.network_graph(features)[::2]
        size = latent[0].shape[1:3]
        stages = [
            -ops.exp(-0.5 * ops.mean(ops.square(one), axis=-1, keepdims=True)) for one in latent
        ]
        return sum(graphs.enlarged(one, size) for one in stages)[..., 0] / len(stages)
