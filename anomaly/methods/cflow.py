"""CFlow-AD: how likely each position's feature vector is, given where it stands.

Source: Gudovskiy et al. 2021, arXiv:2107.12571.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from anomaly.features.extractor import FeatureExtractor, graphs
from anomaly.features.maps import enlarged
from anomaly.methods.base import State, TrainedMethod, mean_counted
from anomaly.methods.fitting import MapSet
from anomaly.methods.parts.coupling_flow import CouplingFlow, PositionCode
from inspection.errors import InputError
from inspection.progress import StageProgress


class CFlow(TrainedMethod):
    """CFlow-AD on the middle stages of a backbone.

    Args:
        extractor: The stages, finest first.
        steps: Coupling steps on each stage.
        ratio: Width inside a step, as a multiple of what goes in.
        epochs: Passes over the normal images.
        batch_size: Views per step, all of whose positions are learnt.
        lr: Learning rate of Adam.
    """

    name = "cflow"
    raw = True
    coarsest = 32  # as its authors and anomalib: stages 2 to 4 of a ResNet
    OPTIONS = ("steps", "ratio", *TrainedMethod.OPTIONS)
    _CODE = 128  # channels that say where a position is
    _CLAMP = 1.9

    def __init__(
        self,
        extractor: FeatureExtractor,
        steps: int = 8,
        ratio: float = 2.0,
        epochs: int = 50,
        batch_size: int = 8,
        lr: float = 2e-4,
    ) -> None:
        super().__init__(extractor, epochs, batch_size, lr)
        if steps < 1 or not ratio > 0:
            raise InputError(
                f"cflow: needs steps of at least 1 and ratio over 0; given were {steps} and {ratio}"
            )
        self.steps, self.ratio = steps, ratio
        self.highest = np.zeros(0, np.float32)

    def build(self, shapes: Sequence[tuple[int, ...]], seed: int) -> keras.Model:
        inputs, outputs = [], []
        for index, shape in enumerate(shapes):
            one = keras.Input(tuple(shape), name=f"stage_{index}")
            flow = CouplingFlow(
                (1,) * self.steps,
                self.ratio,
                self._CLAMP,
                "rotate",
                seed + index,
                name=f"flow_{index}",
            )
            latent, change = flow(one, PositionCode(self._CODE, name=f"place_{index}")(one))
            # The logarithm of the likelihood per channel, at every position.
            squares = ops.sum(ops.square(latent), axis=-1)
            normal = 0.5 * shape[-1] * float(np.log(2 * np.pi))
            inputs.append(one)
            outputs.append((change - 0.5 * squares - normal) / shape[-1])
        return keras.Model(inputs, outputs)

    def loss(self, network: keras.Model, counted: list[Any]) -> keras.Model:
        means = [
            mean_counted(ops.softplus(-one), cells)
            for one, cells in zip(network.outputs, counted, strict=True)
        ]
        return keras.Model([*network.inputs, *counted], sum(means) / len(means))

    def finish(self, maps: MapSet, on_progress: StageProgress) -> None:
        """The highest likelihood on normal images, which scores are told from for good."""
        highest = np.full(len(maps.shapes), -np.inf, np.float32)
        for start in range(0, len(maps), self.batch_size):
            numbers = range(start, min(start + self.batch_size, len(maps)))
            found = self.run(self.scaled(maps[numbers]))
            tops = [
                one.max(where=cells > 0, initial=-np.inf)
                for one, cells in zip(found, maps.counted(numbers), strict=True)
            ]
            highest = np.maximum(highest, tops)
            on_progress("measuring what is most normal", numbers[-1] + 1, len(maps))
        self.highest = highest

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        found = self.run(self.scaled(features))
        size = found[0].shape[1:3]
        likely = [
            np.exp(np.minimum(one - top, 0)) for one, top in zip(found, self.highest, strict=True)
        ]
        return len(likely) - np.sum([enlarged(one, size) for one in likely], axis=0)

    def feature_graph(self, features: list[Any]) -> Any:
        found = self.network_graph(features)
        size = found[0].shape[1:3]
        likely = [
            ops.exp(ops.minimum(one - float(top), 0))[..., None]
            for one, top in zip(found, self.highest, strict=True)
        ]
        return len(likely) - sum(graphs.enlarged(one, size) for one in likely)[..., 0]

    def arrays(self) -> dict[str, np.ndarray]:
        return super().arrays() | {"highest": self.highest}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.highest = state.arrays["highest"]
