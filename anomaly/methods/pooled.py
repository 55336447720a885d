"""Baselines on one vector an image: one-class SVM and Isolation Forest of scikit-learn.

Source: Schölkopf et al. 2001; Liu et al. 2008. What scikit-learn fitted is kept as plain arrays, so
    that a model's file holds nothing that could run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from anomaly.features.extractor import FeatureExtractor, Source, graphs
from anomaly.methods.base import FeatureMethod, State
from inspection.errors import InputError
from inspection.progress import StageProgress, silent


class PooledMethod(FeatureMethod):
    """Mean and deviation of every channel over a view, each with mean 0 and deviation 1.

    Its score map is one cell: it says that a view is unusual, not where.
    """

    raw = True
    places = False

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(extractor)
        self.fitted: dict[str, np.ndarray] = {}

    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        rows = []
        cells = _masked_alike(source, self.extractor)
        for index in range(len(source)):
            rows.append(pooled(source.features(index, self.extractor), cells))
            on_progress("taking in images", index + 1, len(source))
        vectors = np.concatenate(rows)
        if len(vectors) < 2:
            raise InputError(f"{self.name}: needs at least two normal images or tiles; add some")
        mean, deviation = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
        self.fitted = {"mean": mean, "deviation": deviation}
        self.fitted |= {f"cells_{index}": one for index, one in enumerate(cells)}
        self.fitted |= self.learn((vectors - mean) / deviation, seed)

    @abstractmethod
    def learn(self, vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Fits (N, d) vectors; returns the arrays that scoring needs."""

    @abstractmethod
    def rate(self, vectors: np.ndarray) -> np.ndarray:
        """(N, d) to (N,) scores, higher for what is less normal."""

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        vectors = pooled(features, self._cells(features)) - self.fitted["mean"]
        vectors = vectors / self.fitted["deviation"]
        return self.rate(vectors).astype(np.float32)[:, None, None]

    def _cells(self, features: list[Any]) -> list[np.ndarray]:
        names = [f"cells_{index}" for index in range(len(features))]
        return [self.fitted[name] for name in names if name in self.fitted]

    def feature_graph(self, features: list[Any]) -> Any:
        found = []
        cells = self._cells(features)
        for index, one in enumerate(features):
            flat = ops.reshape(one, (-1, one.shape[1] * one.shape[2], one.shape[3]))
            if cells:
                flat = ops.take(flat, np.flatnonzero(cells[index]), axis=1)
            mean = ops.mean(flat, axis=1, keepdims=True)
            spread = ops.sqrt(ops.mean(ops.square(flat - mean), axis=1))
            found += [mean[:, 0], spread]
        vectors = ops.concatenate(found, axis=-1) - graphs.constant(self.fitted["mean"])
        rated = self.rate_graph(vectors / graphs.constant(self.fitted["deviation"]))
        return rated[:, None, None]

    @abstractmethod
    def rate_graph(self, vectors: Any) -> Any:
        """The same as `rate` in `keras.ops`."""

    def arrays(self) -> dict[str, np.ndarray]:
        return self.fitted

    def restore(self, state: State) -> None:
        self.fitted = state.arrays


class OneClassSVM(PooledMethod):
    """One-class SVM with a Gaussian kernel.

    Args:
        extractor: The stages, finest first.
        nu: Share of normal images that may lie outside.
    """

    name = "oc-svm"
    OPTIONS = ("nu",)

    def __init__(self, extractor: FeatureExtractor, nu: float = 0.05) -> None:
        super().__init__(extractor)
        if not 0 < nu <= 1:
            raise InputError(f"oc-svm: nu {nu}: must be over 0 and at most 1")
        self.nu = nu

    def learn(self, vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        from sklearn.svm import OneClassSVM as Fitted

        gamma = 1 / (vectors.shape[1] * max(float(vectors.var()), 1e-12))
        fitted = Fitted(kernel="rbf", gamma=gamma, nu=self.nu).fit(vectors)
        return {
            "vectors": fitted.support_vectors_,
            "weights": fitted.dual_coef_[0],
            "gamma": np.array(gamma),
            "offset": fitted.intercept_,
        }

    def rate(self, vectors: np.ndarray) -> np.ndarray:
        held = self.fitted["vectors"]
        squared = np.square(vectors).sum(1)[:, None] + np.square(held).sum(1) - 2 * vectors @ held.T
        kernel = np.exp(-self.fitted["gamma"] * np.maximum(squared, 0))
        return -(kernel @ self.fitted["weights"] + self.fitted["offset"])

    def rate_graph(self, vectors: Any) -> Any:
        held = self.fitted["vectors"]
        squared = (
            ops.sum(ops.square(vectors), axis=1, keepdims=True)
            + graphs.constant(np.square(held).sum(axis=1))
            - 2 * ops.matmul(vectors, graphs.constant(held.T))
        )
        kernel = ops.exp(-float(self.fitted["gamma"]) * ops.maximum(squared, 0))
        weights = graphs.constant(self.fitted["weights"])
        return -(ops.sum(kernel * weights, axis=1) + float(self.fitted["offset"][0]))


class IsolationForest(PooledMethod):
    """Isolation Forest.

    Args:
        extractor: The stages, finest first.
        trees: How many.
    """

    name = "isolation-forest"
    OPTIONS = ("trees",)

    def __init__(self, extractor: FeatureExtractor, trees: int = 200) -> None:
        super().__init__(extractor)
        if trees < 1:
            raise InputError(f"isolation-forest: trees {trees}: must be at least 1")
        self.trees = trees

    def learn(self, vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        from sklearn.ensemble import IsolationForest as Fitted

        fitted = Fitted(n_estimators=self.trees, random_state=seed).fit(vectors)
        trees = [one.tree_ for one in fitted.estimators_]
        return {
            "roots": np.cumsum([0, *(tree.node_count for tree in trees[:-1])]),
            "left": np.concatenate([tree.children_left for tree in trees]),
            "right": np.concatenate([tree.children_right for tree in trees]),
            "feature": np.concatenate([tree.feature for tree in trees]),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "samples": np.concatenate([tree.n_node_samples for tree in trees]),
            "drawn": np.array(fitted.max_samples_),
        }

    def rate(self, vectors: np.ndarray) -> np.ndarray:
        tree = self.fitted
        vectors = vectors.astype(np.float32)  # as scikit-learn compares them
        depth = np.zeros(len(vectors))
        rows = np.arange(len(vectors))
        for root in tree["roots"]:
            node = np.full(len(vectors), root)
            while (inner := tree["left"][node] >= 0).any():
                goes_left = vectors[rows, tree["feature"][node]] <= tree["threshold"][node]
                below = np.where(goes_left, tree["left"][node], tree["right"][node]) + root
                node = np.where(inner, below, node)
                depth += inner
            depth += _mean_path(tree["samples"][node])
        mean = depth / len(tree["roots"])
        return 2.0 ** (-mean / _mean_path(tree["drawn"][None])[0])

    def rate_graph(self, vectors: Any) -> Any:
        raise InputError(
            "isolation-forest: cannot be exported, since trees cannot be written as a network; "
            "use its .anomaly file, or oc-svm"
        )


def _mean_path(samples: np.ndarray) -> np.ndarray:
    """Mean depth of an unsuccessful search in a binary tree; Liu et al. 2008, equation 1."""
    samples = np.asarray(samples, np.float64)
    big = np.maximum(samples, 3)
    path = 2 * (np.log(big - 1) + np.euler_gamma) - 2 * (big - 1) / big
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, path))


def pooled(features: list[np.ndarray], cells: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Maps of all taps, (V, h, w, c) each, to (V, twice the sum of c) float64.

    Args:
        features: The maps.
        cells: (h, w) bool for each, what is pooled over; empty pools over all.
    """
    found = []
    for index, one in enumerate(features):
        one = one.astype(np.float64).reshape(len(one), -1, one.shape[-1])
        if cells:
            one = one[:, cells[index].ravel()]
        found += [one.mean(axis=1), one.std(axis=1)]
    return np.concatenate(found, axis=-1)


def _masked_alike(source: Source, extractor: FeatureExtractor) -> list[np.ndarray]:
    """What a mask leaves of each tap's map, where that is the same in every view; else all."""
    preparation = source.preparation
    if preparation.roi_mask is None or preparation.tile or preparation.fit != "stretch":
        return []
    shapes = [one.shape[1:3] for one in source.features(0, extractor)]
    return [source.counted(0, shape)[0] for shape in shapes]
