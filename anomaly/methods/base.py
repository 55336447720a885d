"""What every method can do: learn from normal images, score, and be stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from anomaly.features.extractor import FeatureExtractor, Source, graphs
from anomaly.methods.fitting import MapSet, checkpoint_path, compile_loss, run_epochs, train_step
from inspection.data.preparation import Prepared
from inspection.errors import InputError
from inspection.models.gradients import compiled_model
from inspection.progress import StageProgress, silent

_DEAD = 1e-2  # of the most varying channel's deviation: what varies less never fires


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
    raw: ClassVar[bool] = False
    """An image's score comes from the maps as they are; else, as its source has it, from the
    smoothed one."""
    aggregation: ClassVar[str] = "max"
    """How its source makes an image's score of the map; a name of `AGGREGATIONS`."""
    places: ClassVar[bool] = True
    """Its map says where, and not only that."""

    @property
    def options(self) -> dict[str, Any]:
        """What it was made with."""
        return {name: getattr(self, name) for name in self.OPTIONS}

    @abstractmethod
    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        """Learns from normal images.

        Args:
            source: Normal images only.
            seed: Decides everything random.
            on_progress: Called with what is being done, how far it is, and the whole.

        Raises:
            InputError: There are too few images for this method.
        """

    @abstractmethod
    def score_views(self, views: np.ndarray) -> np.ndarray:
        """Maps (V, S, S, 3) uint8 to (V, h, w) float32 scores."""

    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """`score_views`, and the factor of the image's score where a cell is the highest.

        Returns:
            (V, h, w) float32 scores, and weights of that shape or None, which is 1.
        """
        return self.score_views(views), None

    def weighted(
        self, source: Source, index: int, prepared: Prepared | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """`weighted_views` of an image; the same numbers.

        Args:
            source: Images.
            index: Which.
            prepared: The image where it has been prepared already.
        """
        return self.weighted_views((prepared or source.prepared(index)).views)

    def score(self, source: Source, index: int) -> np.ndarray:
        """Score maps of the views of an image; the same numbers as `score_views`."""
        return self.weighted(source, index)[0]

    def weighted_graph(self, views: Any) -> tuple[Any, Any]:
        """The same as `weighted_views` in `keras.ops`, for export."""
        return self.graph(views), None

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
            f"{self.name}: cannot be exported, since it works on the image outside of a network; "
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
    """How many of a backbone's stages it looks at, counted back from the coarsest."""
    coarsest: ClassVar[int | None] = None
    """Stride of the coarsest stage that it looks at; None is that of the backbone's third."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.extractor = extractor

    @classmethod
    def taps_of(cls, stages: Sequence[str]) -> tuple[str, ...]:
        """The taps this method wants, given the stages it looks at, finest first."""
        return tuple(stages)

    def score_views(self, views: np.ndarray) -> np.ndarray:
        return self.score_features(self.extractor(views))

    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.weighted_features(self.extractor(views))

    def weighted(
        self, source: Source, index: int, prepared: Prepared | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return self.weighted_features(source.features(index, self.extractor, prepared))

    @abstractmethod
    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        """Maps one (V, h, w, c) array per tap to (V, h, w) float32 scores."""

    def weighted_features(self, features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """`score_features` with the weights of `weighted_views`."""
        return self.score_features(features), None

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
        epochs: Passes over the normal images.
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
        self.live: list[np.ndarray] = []
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
        """The live channels with mean 0 and deviation 1 over normal images.

        Without that a network first learns the units.
        """
        return [
            (one[..., live].astype(np.float32) - mean) / deviation
            for one, live, (mean, deviation) in zip(maps, self.live, self.moments, strict=True)
        ]

    def live_channels(self, deviations: list[np.ndarray]) -> list[np.ndarray]:
        """Numbers of the channels that vary over normal images, for each kind of map.

        One that never fires says nothing there, and divided by next to nothing it says anything.
        """
        return [np.flatnonzero(_varies(one)) for one in deviations]

    @abstractmethod
    def build(self, shapes: Sequence[tuple[int, ...]], seed: int) -> keras.Model:
        """The network for maps of these shapes (h, w, c)."""

    @abstractmethod
    def loss(self, network: keras.Model, counted: list[Any]) -> keras.Model:
        """The same weights; from the maps and `counted` to each view's loss, (B,).

        Args:
            network: Made by `build`.
            counted: An input of (B, h, w) for each kind of map: 1 where a cell is learnt, else 0.
        """

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Made anew for each training."""
        return keras.optimizers.Adam(self.lr)

    def check(self, maps: MapSet) -> None:
        """Refuses maps that it cannot learn, and notes what `build` needs of them."""

    def prepare(self, network: keras.Model, maps: MapSet) -> None:
        """Whatever must be known of the normal images before training."""

    def finish(self, maps: MapSet, on_progress: StageProgress) -> None:
        """Whatever must be known of the normal images after training."""

    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        def read(index: int) -> list[np.ndarray]:
            return self.inputs(source.features(index, self.extractor))

        maps = MapSet(len(source), read, on_progress, source.counted)
        self.check(maps)
        moments = maps.moments()
        self.live = self.live_channels([deviation for _, deviation in moments])
        if min(len(live) for live in self.live) < 2:
            raise InputError(
                f"{self.name}: the backbone's features hardly vary over the normal images; give "
                "other --weights or images that differ"
            )
        self.moments = [
            (mean[live], deviation[live])
            for live, (mean, deviation) in zip(self.live, moments, strict=True)
        ]
        shapes = [
            (*shape[:2], len(live)) for shape, live in zip(maps.shapes, self.live, strict=True)
        ]
        keras.utils.set_random_seed(seed)
        self.network, self._run = self.build(shapes, seed), None
        self.prepare(self.network, maps)
        counted = [keras.Input(shape[:2], name=f"counted_{i}") for i, shape in enumerate(shapes)]
        trained = compile_loss(self.loss(self.network, counted), self.optimizer())

        def epoch(rng: np.random.Generator) -> float:
            losses = [
                train_step(
                    trained,
                    [*self.scaled(maps[numbers]), *maps.counted(numbers)],
                    len(numbers),
                )
                for numbers in maps.batches(self.batch_size, rng)
            ]
            return float(np.mean(losses))

        state = checkpoint_path(source, self.name, self.options, self.extractor.key, seed)
        run_epochs({"network": trained}, epoch, self.epochs, seed, self.name, on_progress, state)
        self.finish(maps, on_progress)

    def network_graph(self, maps: list[Any]) -> list[Any]:
        """The network's outputs in `keras.ops`, for maps that have not been scaled."""
        scaled = [
            (ops.take(one, live, axis=-1) - graphs.constant(mean)) / graphs.constant(deviation)
            for one, live, (mean, deviation) in zip(maps, self.live, self.moments, strict=True)
        ]
        return graphs.outputs(self.network, scaled)

    def run(self, maps: list[np.ndarray]) -> list[np.ndarray]:
        """The network's outputs for maps that have been scaled."""
        if self._run is None:
            self._run = compiled_model(self.network)
        found = self._run(_alone(maps))
        return [np.asarray(one) for one in (found if isinstance(found, list | tuple) else [found])]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {}
        for index, (mean, deviation) in enumerate(self.moments):
            found |= {f"mean_{index}": mean, f"deviation_{index}": deviation}
            found[f"live_{index}"] = self.live[index]
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
        # Without them it was stored when all channels were used.
        self.live = [
            state.arrays.get(f"live_{index}", np.arange(len(mean)))
            for index, (mean, _) in enumerate(self.moments)
        ]


def mean_counted(values: Any, counted: Any) -> Any:
    """Mean over the cells that count, (B, h, w) both, to (B,)."""
    total = ops.sum(values * counted, axis=(1, 2))
    return total / ops.maximum(ops.sum(counted, axis=(1, 2)), 1.0)


def _varies(deviation: np.ndarray) -> np.ndarray:
    return deviation > _DEAD * deviation.max(initial=0)


def _alone(maps: list[np.ndarray]) -> list[np.ndarray] | np.ndarray:
    """As Keras wants the inputs of a model: a single one not in a list."""
    return maps[0] if len(maps) == 1 else maps
