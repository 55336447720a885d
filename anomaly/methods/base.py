"""What every method can do: learn from normal pictures, score, and be stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import keras
import numpy as np

from anomaly.features import FeatureExtractor, Source

Progress = Callable[[str, int, int], None]
SMOOTHING = 4.0  # standard deviation in pixels of a view, as PatchCore and PaDiM have it


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

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.extractor = extractor

    @classmethod
    def extractor_of(cls, backbone: keras.Model, taps: Sequence[str]) -> FeatureExtractor:
        """The features this method wants of a backbone, whose middle stages are `taps`."""
        return FeatureExtractor(backbone, taps)

    def score_views(self, views: np.ndarray) -> np.ndarray:
        return self.score_features(self.extractor(views))

    def score(self, source: Source, index: int) -> np.ndarray:
        return self.score_features(source.features(index, self.extractor))

    @abstractmethod
    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        """Maps one (V, h, w, c) array per tap to (V, h, w) float32 scores."""


def patches(features: list[np.ndarray], pool: int = 3) -> np.ndarray:
    """Features of all taps on the finest tap's grid, each the mean of its neighbourhood.

    Args:
        features: (V, h, w, c) for each tap, finest first.
        pool: Side of the neighbourhood in cells of each tap.

    Returns:
        (V, h, w, sum of c) float32.

    Source: Roth et al. 2022, arXiv:2106.08265, section 3.1.
    """
    height, width = features[0].shape[1:3]
    found = []
    for tap in features:
        views = [_pooled(view.astype(np.float32), pool, (width, height)) for view in tap]
        found.append(np.stack(views))
    return np.concatenate(found, axis=-1)


def _pooled(view: np.ndarray, pool: int, size: tuple[int, int]) -> np.ndarray:
    # OpenCV filters and scales any number of channels only in groups of four.
    groups = [view[..., start : start + 4] for start in range(0, view.shape[-1], 4)]
    done = []
    for group in groups:
        mean = (
            cv2.blur(group, (pool, pool), borderType=cv2.BORDER_REFLECT_101) if pool > 1 else group
        )
        if (group.shape[1], group.shape[0]) != size:
            mean = cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR)
        done.append(mean.reshape(size[1], size[0], -1))
    return np.concatenate(done, axis=-1)


def smooth(maps: np.ndarray, side: int) -> np.ndarray:
    """Score maps with a Gaussian of `SMOOTHING` pixels of a view over them, on their own grid.

    Args:
        maps: (V, h, w) float32.
        side: Side of a view in pixels.

    Returns:
        (V, h, w) float32.
    """
    sigma = SMOOTHING * maps.shape[1] / side
    return np.stack([cv2.GaussianBlur(one, (0, 0), max(sigma, 0.3)) for one in maps])
