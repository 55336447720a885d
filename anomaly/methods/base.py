"""What every method can do: learn from normal pictures, score, and be stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from anomaly import graphs
from anomaly.features import FeatureExtractor, Source, compiled
from anomaly.fitting import (
    MapSet,
    Progress,
    checkpoint_path,
    compile_loss,
    run_epochs,
    train_step,
)
from inspection.errors import InputError


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True)
class State:
    """What a fitted method consists of.

    Args:
        settings: Plain values its constructor takes.
        arrays: By name.
        networks: By name.
    """

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]
    networks: dict[str, keras.Model]


class Method(ABC):
    """Learns what is normal; scores every place of a view, higher where it is less normal."""

    name: ClassVar[str]
    OPTIONS: ClassVar[tuple[str, ...]]
    """Names of the plain values that its constructor takes, kept under the same names."""

    @property
    def options(self) -> dict[str, Any]:
        """What it was made with."""
        return {name: getattr(self, name) for name in self.OPTIONS}

    @abstractmethod
    def fit(self, source: Source, seed: int = 0, on_progress: Progress = silent) -> None:
        """Learns from normal pictures.

        Args:
            source: Normal pictures only.
            seed: Decides everything random.
            on_progress: Called with what is being done, how far it is, and the whole.

        Raises:
            InputError: There are too few pictures for this method.
        """

    @abstractmethod
    def score_views(self, views: np.ndarray) -> np.ndarray:
        """Maps (V, S, S, 3) uint8 to (V, h, w) float32 scores."""

    def score(self, source: Source, index: int) -> np.ndarray:
        """Score maps of the views of a picture; the same numbers as `score_views`."""
        return self.score_views(source.prepared(index).views)

    def graph(self, views: Any) -> Any:
        """The same as `score_views` in `keras.ops`, for export.

        Args:
            views: (V, S, S, 3) float32 tensor, 0-255, S known.

        Returns:
            (V, h, w) float32 tensor.

        Raises:
            InputError: This method has no such form.
        """
        raise InputError(
            f"{self.name}: cannot be exported, since it works on the picture outside of a network; "
            "use its .anomaly file, or another method"
        )

    @abstractmethod
    def state(self) -> State:
        """Everything to store."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: State) -> Method:
        """A fitted method from what `state` gave."""


class FeatureMethod(Method):
    """A method on the feature maps of a fixed backbone.

    Args:
        extractor: Its features.
    """

    stages: ClassVar[int] = 3
    """How many of a backbone's middle stages it looks at, counted from the last."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.extractor = extractor

    @classmethod
    def taps_of(cls, stages: Sequence[str]) -> tuple[str, ...]:
        """The taps this method wants, given the stages it looks at, finest first."""
        return tuple(stages)

    def score_views(self, views: np.ndarray) -> np.ndarray:
        return self.score_features(self.extractor(views))

    def score(self, source: Source, index: int) -> np.ndarray:
        return self.score_features(source.features(index, self.extractor))

    @abstractmethod
    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        """Maps one (V, h, w, c) array per tap to (V, h, w) float32 scores."""

    def graph(self, views: Any) -> Any:
        return self.feature_graph(self.extractor.graph(views))

    @abstractmethod
    def feature_graph(self, features: list[Any]) -> Any:
        """The same as `score_features` in `keras.ops`."""

    def state(self) -> State:
        settings = {**self.options, "taps": self.extractor.taps}
        return State(settings, self.arrays(), {"backbone": self.extractor.model, **self.networks()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Fitted arrays by name."""
        return {}

    def networks(self) -> dict[str, keras.Model]:
        """Fitted networks by name, without the backbone."""
        return {}

    @classmethod
    def from_state(cls, state: State) -> FeatureMethod:
        values = dict(state.settings)
        extractor = FeatureExtractor(state.networks["backbone"], values.pop("taps"))
        method = cls(extractor, **values)
        method.restore(state)
        return method

    @abstractmethod
    def restore(self, state: State) -> None:
        """Takes over fitted arrays and networks."""


class TrainedMethod(FeatureMethod):
    """A method that trains a network on the feature maps.

    Args:
        extractor: Its features.
        epochs: Passes over the normal pictures.
        batch_size: Views per step.
        lr: Learning rate.
    """

    OPTIONS = ("epochs", "batch_size", "lr")

    def __init__(
        self, extractor: FeatureExtractor, epochs: int, batch_size: int, lr: float
    ) -> None:
        super().__init__(extractor)
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.network: keras.Model | None = None
        self.moments: list[tuple[np.ndarray, np.ndarray]] = []
        self._run: Callable | None = None
        if min(epochs, batch_size) < 1 or not lr > 0:
            raise InputError(
                f"{self.name}: needs epochs and batch_size of at least 1 and lr over 0; given were "
                f"{epochs}, {batch_size} and {lr}"
            )

    def inputs(self, features: list[np.ndarray]) -> list[np.ndarray]:
        """What the network is given of the features, before `scaled`."""
        return features

    def scaled(self, maps: list[np.ndarray]) -> list[np.ndarray]:
        """Maps with mean 0 and deviation 1 in each channel over normal pictures.

        Without that a network first learns the units.
        """
        return [
            (one.astype(np.float32) - mean) / deviation
            for one, (mean, deviation) in zip(maps, self.moments, strict=True)
        ]

    @abstractmethod
    def build(self, shapes: Sequence[tuple[int, ...]], seed: int) -> keras.Model:
        """The network for maps of these shapes (h, w, c)."""

    @abstractmethod
    def loss(self, network: keras.Model) -> keras.Model:
        """The same weights; from the maps to each view's loss, (B,)."""

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Made anew for each training."""
        return keras.optimizers.Adam(self.lr)

    def prepare(self, network: keras.Model, maps: MapSet) -> None:
        """Whatever must be known of the normal pictures before training."""

    def finish(self, maps: MapSet, on_progress: Progress) -> None:
        """Whatever must be known of the normal pictures after training."""

    def fit(self, source: Source, seed: int = 0, on_progress: Progress = silent) -> None:
        def read(index: int) -> list[np.ndarray]:
            return self.inputs(source.features(index, self.extractor))

        maps = MapSet(len(source), read, on_progress)
        self.moments = maps.moments()
        keras.utils.set_random_seed(seed)
        self.network, self._run = self.build(maps.shapes, seed), None
        self.prepare(self.network, maps)
        trained = compile_loss(self.loss(self.network), self.optimizer())

        def epoch(rng: np.random.Generator) -> float:
            losses = [
                train_step(trained, _alone(self.scaled(maps[numbers])), len(numbers))
                for numbers in maps.batches(self.batch_size, rng)
            ]
            return float(np.mean(losses))

        state = checkpoint_path(source, self.name, self.options, self.extractor.key, seed)
        run_epochs({"network": trained}, epoch, self.epochs, seed, self.name, on_progress, state)
        self.finish(maps, on_progress)

    def network_graph(self, maps: list[Any]) -> list[Any]:
        """The network's outputs in `keras.ops`, for maps that have not been scaled."""
        scaled = [
            (one - graphs.constant(mean)) / graphs.constant(deviation)
            for one, (mean, deviation) in zip(maps, self.moments, strict=True)
        ]
        return graphs.outputs(self.network, scaled)

    def run(self, maps: list[np.ndarray]) -> list[np.ndarray]:
        """The network's outputs for maps that have been scaled."""
        if self._run is None:
            self._run = compiled(self.network)
        found = self._run(_alone(maps))
        return [np.asarray(one) for one in (found if isinstance(found, list | tuple) else [found])]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {}
        for index, (mean, deviation) in enumerate(self.moments):
            found |= {f"mean_{index}": mean, f"deviation_{index}": deviation}
        return found

    def networks(self) -> dict[str, keras.Model]:
        return {"network": self.network}

    def restore(self, state: State) -> None:
        self.network = state.networks["network"]
        count = sum(name.startswith("mean_") for name in state.arrays)
        self.moments = [
            (state.arrays[f"mean_{index}"], state.arrays[f"deviation_{index}"])
            for index in range(count)
        ]


def _alone(maps: list[np.ndarray]) -> list[np.ndarray] | np.ndarray:
    """As Keras wants the inputs of a model: a single one not in a list."""
    return maps[0] if len(maps) == 1 else maps
