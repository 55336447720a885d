"""PaDiM: a Gaussian of feature vectors for every position.

Source: Defard et al. 2020, arXiv:2011.08785.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from anomaly.features.extractor import FeatureExtractor, Source, graphs
from anomaly.features.maps import patches
from anomaly.methods.base import FeatureMethod, State
from inspection.errors import InputError
from inspection.progress import StageProgress, silent

_RIDGE = 0.01
_COLUMNS = 1024  # positions inverted at once


class PaDiM(FeatureMethod):
    """PaDiM; its memory and its file grow with cells x dimensions squared.

    Args:
        extractor: The stages, finest first.
        dimensions: Channels taken at random; all where there are fewer.
    """

    name = "padim"
    OPTIONS = ("dimensions",)

    def __init__(self, extractor: FeatureExtractor, dimensions: int = 100) -> None:
        super().__init__(extractor)
        if dimensions < 1:
            raise InputError(f"padim: dimensions {dimensions}: must be at least 1")
        self.dimensions = dimensions
        self.chosen = np.zeros(0, np.int64)
        self.mean = self.whitening = np.zeros(0, np.float32)

    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        first = patches(source.features(0, self.extractor), pool=1)
        grid, width = first.shape[1:3], first.shape[-1]
        rng = np.random.default_rng(seed)
        self.chosen = np.sort(rng.permutation(width)[: self.dimensions])
        # Of every position, in how many views it counts.
        total, count, views = 0.0, 0.0, 0
        for index in range(len(source)):
            found = self._vectors(source, index)
            cells = _counted(source, index, grid)
            total = total + (found * cells).sum(axis=0, dtype=np.float64)
            # Where none is masked, one row stands for all views.
            count = count + cells.sum(axis=0) * (len(found) / len(cells))
            views += len(found)
            on_progress("means", index + 1, len(source))
        if views < 2:
            raise InputError("padim: needs at least two normal images or tiles; add some")
        self.mean = (total / np.maximum(count, 1)).astype(np.float32)
        # A second pass over small differences loses no digits in float32.
        spread = np.zeros((*self.mean.shape, len(self.chosen)), np.float32)
        for index in range(len(source)):
            found = self._vectors(source, index) - self.mean
            for vectors in found * _counted(source, index, grid):
                spread += vectors[:, :, None] * vectors[:, None, :]
            on_progress("covariances", index + 1, len(source))
        self.whitening = _whitening(spread / np.maximum(count - 1, 1)[:, :, None])
        # Of a position that counts nowhere nothing is known, and nothing is odd.
        self.whitening[count[:, 0] < 2] = 0

    def _vectors(self, source: Source, index: int) -> np.ndarray:
        found = patches(source.features(index, self.extractor), pool=1)[..., self.chosen]
        return found.reshape(len(found), -1, found.shape[-1])

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        found = patches(features, pool=1)[..., self.chosen]
        height, width = found.shape[1:3]
        vectors = found.reshape(len(found), height * width, -1) - self.mean
        white = np.matmul(vectors[:, :, None, :], self.whitening)[:, :, 0]
        return np.sqrt(np.square(white).sum(axis=-1)).reshape(-1, height, width)

    def feature_graph(self, features: list[Any]) -> Any:
        found = graphs.patches(features, pool=1)
        height, width = found.shape[1:3]
        found = ops.take(found, self.chosen, axis=-1)
        flat = ops.reshape(found, (-1, height * width, len(self.chosen)))
        flat = (flat - graphs.constant(self.mean))[:, :, None, :]
        white = ops.matmul(flat, graphs.constant(self.whitening))
        distance = ops.sqrt(ops.sum(ops.square(white), axis=(2, 3)))
        return ops.reshape(distance, (-1, height, width))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"chosen": self.chosen, "mean": self.mean, "whitening": self.whitening}

    def restore(self, state: State) -> None:
        arrays = state.arrays
        self.chosen, self.mean, self.whitening = (
            arrays[name] for name in ("chosen", "mean", "whitening")
        )


def _counted(source: Source, index: int, grid: tuple[int, int]) -> np.ndarray:
    """(V or 1, positions, 1) float32, 1 where a position is learnt, else 0."""
    cells = source.counted(index, grid)
    cells = np.ones((1, *grid), bool) if cells is None else cells
    return cells.reshape(len(cells), -1, 1).astype(np.float32)


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """(P, d, d) whose product with its transpose is the inverse of covariance + ridge."""
    found = np.empty_like(covariance)
    ridge = _RIDGE * np.eye(covariance.shape[-1])
    for start in range(0, len(covariance), _COLUMNS):
        block = covariance[start : start + _COLUMNS].astype(np.float64) + ridge
        found[start : start + _COLUMNS] = np.linalg.cholesky(np.linalg.inv(block))
    return found
