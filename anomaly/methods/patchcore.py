"""PatchCore: the distance of every patch to the nearest of a few patches of normal pictures.

Source: Roth et al. 2022, Towards Total Recall in Industrial Anomaly Detection, arXiv:2106.08265.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from anomaly import graphs
from anomaly.coreset import greedy_k_center, random_projection
from anomaly.features import FeatureExtractor, Source
from anomaly.maps import patches
from anomaly.methods.base import FeatureMethod, Progress, State, silent
from inspection.errors import InputError

_ROWS = 4096


class PatchCore(FeatureMethod):
    """PatchCore with bounded memory: pictures are taken in by blocks, each merged and reduced.

    Args:
        extractor: Two middle stages of a backbone, finer first.
        ratio: Share of the patches of normal pictures that the bank keeps.
        most: The bank never grows over this many patches.
        block: Patches held in memory at once while it is fitted.
        dimensions: Of the random projection in which patches are chosen.
    """

    name = "patchcore"
    stages = 2
    OPTIONS = ("ratio", "most", "block", "dimensions")

    def __init__(
        self,
        extractor: FeatureExtractor,
        ratio: float = 0.01,
        most: int = 10_000,
        block: int = 100_000,
        dimensions: int = 128,
    ) -> None:
        super().__init__(extractor)
        if not 0 < ratio <= 1:
            raise InputError(f"patchcore: ratio {ratio}: must be over 0 and at most 1")
        if min(most, dimensions) < 1 or block < 2 * most:
            raise InputError(
                f"patchcore: block {block}: must be at least twice most ({most}), and most and "
                "dimensions at least 1"
            )
        self.ratio, self.most, self.block, self.dimensions = ratio, most, block, dimensions
        self.bank = np.zeros((0, 0), np.float32)
        self.seen = 0

    def fit(self, source: Source, seed: int = 0, on_progress: Progress = silent) -> None:
        self.bank, self.seen = np.zeros((0, 0), np.float32), 0
        self.extend(source, seed, on_progress)

    def extend(self, source: Source, seed: int = 0, on_progress: Progress = silent) -> None:
        """Takes in more normal pictures; what the bank holds stays a candidate.

        Args:
            source: The pictures that are new.
            seed: Decides the projection and the first choice.
            on_progress: As for `fit`.
        """
        rng = np.random.default_rng(seed)
        held = [self.bank] if len(self.bank) else []
        count = len(self.bank)
        for index in range(len(source)):
            found = patches(source.features(index, self.extractor))
            found = found.reshape(-1, found.shape[-1])
            if count and count + len(found) > self.block:
                held = [self._reduced(np.concatenate(held), rng)]
                count = len(held[0])
            self.seen += len(found)
            held.append(found)
            count += len(found)
            on_progress("taking in pictures", index + 1, len(source))
        self.bank = self._reduced(np.concatenate(held), rng)

    def _reduced(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = min(self.most, max(1, round(self.ratio * self.seen)), len(vectors))
        projected = random_projection(vectors, self.dimensions, rng)
        return vectors[greedy_k_center(projected, count, int(rng.integers(len(vectors))))]

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        found = patches(features)
        distance = nearest_distance(found.reshape(-1, found.shape[-1]), self.bank)
        return distance.reshape(found.shape[:3])

    def feature_graph(self, features: list[Any]) -> Any:
        found = graphs.patches(features)
        centre = self.bank.mean(axis=0)
        bank = self.bank - centre
        found = found - graphs.constant(centre)
        squared = ops.min(
            graphs.constant(np.square(bank).sum(axis=1))
            - 2 * ops.matmul(found, graphs.constant(bank.T)),
            axis=-1,
        )
        return ops.sqrt(ops.maximum(squared + ops.sum(ops.square(found), axis=-1), 0))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"bank": self.bank, "seen": np.array(self.seen)}

    def restore(self, state: State) -> None:
        self.bank, self.seen = state.arrays["bank"], int(state.arrays["seen"])


def nearest_distance(vectors: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Euclidean distance of each vector to the nearest in a bank.

    Args:
        vectors: (N, D) float32.
        bank: (M, D) float32.

    Returns:
        (N,) float32.
    """
    # Around the bank's mean, the difference of squares loses fewer digits.
    centre = bank.mean(axis=0)
    bank, vectors = bank - centre, vectors - centre
    squares = np.einsum("md,md->m", bank, bank)
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        block = squares - 2 * (rows @ bank.T)
        found[start : start + _ROWS] = block.min(axis=1) + np.einsum("nd,nd->n", rows, rows)
    return np.sqrt(np.maximum(found, 0))
