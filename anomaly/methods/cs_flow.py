"""CS-Flow: how unlikely the features of three scales are under a flow fitted to normal pictures.

Source: Rudolph et al. 2022, arXiv:2110.02855.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from anomaly.cross_scale_flow import SCALES, CrossScaleFlow
from anomaly.features import FeatureExtractor, PyramidExtractor, Source
from anomaly.methods.base import FeatureMethod, Progress, State, silent
from inspection.errors import InputError

SIZES = {
    "full": {"hidden": 1024, "kernels": (3, 3, 3, 5)},
    "reduced": {"hidden": 512, "kernels": (5,)},
    "small": {"hidden": 64, "kernels": (3, 3)},
}
"""The paper's model, one of a quarter of its parameters, and one for a CPU."""


class CSFlow(FeatureMethod):
    """CS-Flow on one stage of a backbone at three picture sizes.

    Args:
        extractor: A `PyramidExtractor`.
        model: A name of `SIZES`.
        epochs: Passes over the normal pictures.
        batch_size: Views per step.
        lr: Learning rate of Adam.
    """

    name = "cs-flow"

    def __init__(
        self,
        extractor: FeatureExtractor,
        model: str = "small",
        epochs: int = 40,
        batch_size: int = 16,
        lr: float = 2e-4,
    ) -> None:
        super().__init__(extractor)
        if model not in SIZES or min(epochs, batch_size) < 1 or not lr > 0:
            raise InputError(
                f"CS-Flow: needs a model of {', '.join(SIZES)}, epochs and batch_size of at least "
                f"1 and lr over 0; given were {model}, {epochs}, {batch_size} and {lr}"
            )
        self.model, self.epochs, self.batch_size, self.lr = model, epochs, batch_size, lr
        self.network: keras.Model | None = None
        self.mean = self.deviation = np.zeros(0, np.float32)

    @classmethod
    def extractor_of(cls, backbone: keras.Model, taps: Sequence[str]) -> FeatureExtractor:
        return PyramidExtractor(backbone, taps[-1], SCALES)

    def fit(self, source: Source, seed: int = 0, on_progress: Progress = silent) -> None:
        maps = self._all_maps(source, on_progress)
        self._standardise(maps)
        keras.utils.set_random_seed(seed)
        shapes = [one.shape[1:] for one in maps]
        self.network = flow_network(shapes, SIZES[self.model], seed)
        trained = likelihood_network(self.network)
        optimizer = keras.optimizers.Adam(
            self.lr, epsilon=1e-4, weight_decay=1e-5, global_clipnorm=1.0
        )
        trained.compile(optimizer, loss=lambda wanted, found: ops.mean(found))
        rng = np.random.default_rng(seed)
        count = len(maps[0])
        for epoch in range(self.epochs):
            order, losses = rng.permutation(count), []
            for start in range(0, count, self.batch_size):
                # A last batch of its own size would build the graph anew; it is filled up.
                chosen = np.resize(order[start : start + self.batch_size], self.batch_size)
                batch = [self._scaled(one[chosen]) for one in maps]
                losses.append(trained.train_on_batch(batch, np.zeros(self.batch_size, np.float32)))
            if not np.isfinite(losses).all():
                raise InputError(
                    f"CS-Flow: the loss is no finite number in epoch {epoch + 1}; give a lower lr "
                    f"(now {self.lr:g})"
                )
            text = f"fitting the flow (loss {np.mean(losses):.3f})"
            on_progress(text, epoch + 1, self.epochs)

    def _all_maps(self, source: Source, on_progress: Progress) -> list[np.ndarray]:
        found: list[list[np.ndarray]] = []
        for index in range(len(source)):
            found.append(source.features(index, self.extractor))
            on_progress("taking in pictures", index + 1, len(source))
        maps = [np.concatenate(scale) for scale in zip(*found, strict=True)]
        sides = [one.shape[1:3] for one in maps]
        halves = all(
            fine == (2 * coarse[0], 2 * coarse[1]) for fine, coarse in itertools.pairwise(sides)
        )
        if not halves:
            raise InputError(
                f"CS-Flow: feature maps of {' and '.join(f'{h} x {w}' for h, w in sides)} cells do "
                "not halve from scale to scale; give a --size that is a multiple of 64"
            )
        return maps

    def _standardise(self, maps: list[np.ndarray]) -> None:
        """One mean and deviation per channel; without them a flow first learns the units."""
        cells = maps[0].astype(np.float32).reshape(-1, maps[0].shape[-1])
        self.mean, self.deviation = cells.mean(axis=0), cells.std(axis=0) + 1e-3

    def _scaled(self, one: np.ndarray) -> np.ndarray:
        return (one.astype(np.float32) - self.mean) / self.deviation

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        latent = self.network([self._scaled(one) for one in features], training=False)
        return np.asarray(ops.mean(ops.square(latent[0]), axis=-1))

    def state(self) -> State:
        settings = {
            "model": self.model,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "taps": self.extractor.taps,
        }
        arrays = {"mean": self.mean, "deviation": self.deviation}
        return State(settings, arrays, {"backbone": self.extractor.model, "flow": self.network})

    @classmethod
    def from_state(cls, state: State) -> CSFlow:
        values = dict(state.settings)
        extractor = PyramidExtractor(state.networks["backbone"], values.pop("taps")[0], SCALES)
        method = cls(extractor, **values)
        method.network = state.networks["flow"]
        method.mean, method.deviation = state.arrays["mean"], state.arrays["deviation"]
        return method


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
