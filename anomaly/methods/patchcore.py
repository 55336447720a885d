"""PatchCore: the distance of every patch to the nearest of a few patches of normal images.

Source: Roth et al. 2022, Towards Total Recall in Industrial Anomaly Detection, arXiv:2106.08265.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from anomaly.features.extractor import FeatureExtractor, Source, graphs
from anomaly.features.maps import patches
from anomaly.methods.base import FeatureMethod, State
from anomaly.methods.parts.coreset import greedy_k_center, random_projection
from inspection.errors import InputError
from inspection.progress import StageProgress, silent

_ROWS = 4096
_NEIGHBOURS = 9
_STEEP = 80.0  # beyond it exp overflows in float32, and the weight is 1 long before


class PatchCore(FeatureMethod):
    """PatchCore with bounded memory: images are added in blocks, each merged and reduced.

    An image's score is its largest distance, times a weight that falls where the nearest patch has
    near neighbours in the bank itself (section 3.3, equation 7, b = 9).

    Args:
        extractor: Two middle stages of a backbone, finer first.
        ratio: Share of the patches of normal images that the bank keeps.
        most: The bank never grows over this many patches.
        block: Patches held in memory at once while it is fitted.
        dimensions: Of the random projection in which patches are chosen.
    """

    name = "patchcore"
    stages = 2
    coarsest = 16
    raw = True
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
        self.near: np.ndarray | None = None
        self.seen = 0

    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        self.bank, self.seen = np.zeros((0, 0), np.float32), 0
        self.extend(source, seed, on_progress)

    def extend(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        """Takes in more normal images; what the bank holds stays a candidate.

        Args:
            source: The images that are new.
            seed: Decides the projection and the first choice.
            on_progress: As for `fit`.
        """
        rng = np.random.default_rng(seed)
        held = [self.bank] if len(self.bank) else []
        count = len(self.bank)
        for index in range(len(source)):
            found = patches(source.features(index, self.extractor))
            inside = source.counted(index, found.shape[1:3])
            found = found.reshape(-1, found.shape[-1]) if inside is None else found[inside]
            if count and count + len(found) > self.block:
                held = [self._reduced(np.concatenate(held), rng)]
                count = len(held[0])
            self.seen += len(found)
            held.append(found)
            count += len(found)
            on_progress("taking in images", index + 1, len(source))
        self.bank = self._reduced(np.concatenate(held), rng)
        self.near = nearest_in_bank(self.bank)

    def _reduced(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = min(self.most, max(1, round(self.ratio * self.seen)), len(vectors))
        projected = random_projection(vectors, self.dimensions, rng)
        return vectors[greedy_k_center(projected, count, int(rng.integers(len(vectors))))]

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        return self.weighted_features(features)[0]

    def weighted_features(self, features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        found = patches(features)
        distance, weight = weighted_distance(
            found.reshape(-1, found.shape[-1]), self.bank, self.near
        )
        shape = found.shape[:3]
        return distance.reshape(shape), None if weight is None else weight.reshape(shape)

    def feature_graph(self, features: list[Any]) -> Any:
        return self._weighted_graph(features)[0]

    def weighted_graph(self, views: Any) -> tuple[Any, Any]:
        return self._weighted_graph(self.extractor.graph(views))

    def _weighted_graph(self, features: list[Any]) -> tuple[Any, Any]:
        found = graphs.patches(features)
        centre = self.bank.mean(axis=0)
        bank = self.bank - centre
        found = found - graphs.constant(centre)
        squared = graphs.constant(np.square(bank).sum(axis=1)) - 2 * ops.matmul(
            found, graphs.constant(bank.T)
        )
        lengths = ops.sum(ops.square(found), axis=-1)
        lowest, place = ops.top_k(-squared, 1)  # ONNX has no form of Keras' argmin
        distance = ops.sqrt(ops.maximum(lengths - lowest[..., 0], 0))
        if self.near is None or len(bank) == 1:
            return distance, None
        near = ops.take(self.near, place[..., 0], axis=0)
        others = ops.take_along_axis(squared, near, axis=-1) + lengths[..., None]
        further = ops.sqrt(ops.maximum(others, 0)) - distance[..., None]
        return distance, 1 - 1 / ops.sum(ops.exp(ops.minimum(further, _STEEP)), axis=-1)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"bank": self.bank, "seen": np.array(self.seen)}
        return found if self.near is None else found | {"near": self.near}

    def restore(self, state: State) -> None:
        self.bank, self.seen = state.arrays["bank"], int(state.arrays["seen"])
        self.near = state.arrays.get("near")


def nearest_in_bank(bank: np.ndarray) -> np.ndarray:
    """The `_NEIGHBOURS` nearest vectors of each one in a bank, itself among them.

    Args:
        bank: (M, D) float32.

    Returns:
        (M, at most M of them) int32, nearest first.
    """
    count = min(_NEIGHBOURS, len(bank))
    bank = bank - bank.mean(axis=0)
    squares = np.einsum("md,md->m", bank, bank)
    found = np.empty((len(bank), count), np.int32)
    for start in range(0, len(bank), _ROWS):
        rows = slice(start, start + _ROWS)
        block = squares - 2 * (bank[rows] @ bank.T)
        # Itself first, also where duplicates or rounding put another as near.
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        some = np.argpartition(block, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(block, some, axis=1), axis=1)
        found[rows] = np.take_along_axis(some, order, axis=1)
    return found


def weighted_distance(
    vectors: np.ndarray, bank: np.ndarray, near: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Euclidean distance of each vector to the nearest in a bank, and its weight.

    Args:
        vectors: (N, D) float32.
        bank: (M, D) float32.
        near: From `nearest_in_bank`; None gives no weights.

    Returns:
        (N,) float32 each. The weight is 1 - exp(d) / (sum of exp(distance) over the neighbours of
        the nearest), None without `near` and for a bank of one, which has no neighbours.
    """
    # Around the bank's mean, the difference of squares loses fewer digits.
    centre = bank.mean(axis=0)
    bank, vectors = bank - centre, vectors - centre
    squares = np.einsum("md,md->m", bank, bank)
    weighted = near is not None and len(bank) > 1
    found = np.empty(len(vectors), np.float32)
    weights = np.empty(len(vectors), np.float32) if weighted else None
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        block = squares - 2 * (rows @ bank.T)
        lengths = np.einsum("nd,nd->n", rows, rows)
        place = block.argmin(axis=1)
        lowest = np.take_along_axis(block, place[:, None], axis=1)[:, 0] + lengths
        distance = np.sqrt(np.maximum(lowest, 0))
        found[start : start + _ROWS] = distance
        if weighted:
            others = np.take_along_axis(block, near[place], axis=1) + lengths[:, None]
            further = np.sqrt(np.maximum(others, 0)) - distance[:, None]
            total = np.exp(np.minimum(further, _STEEP)).sum(axis=1)
            weights[start : start + _ROWS] = 1 - 1 / total
    return found, weights
