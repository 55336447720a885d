"""Greedy k-center: the few feature vectors that lie nearest to all others."""

from __future__ import annotations

import numpy as np

_AHEAD = 48  # candidates whose distances are computed in one matrix product
_ROWS = 16384  # vectors treated at once, so that the products stay in the cache's reach


def random_projection(vectors: np.ndarray, dimensions: int, rng: np.random.Generator) -> np.ndarray:
    """Projects to fewer dimensions, in which distances are nearly kept.

    Args:
        vectors: (N, D) float32.
        dimensions: Wanted; at least D leaves the vectors as they are.
        rng: Source of chance.

    Returns:
        (N, `dimensions`) float32.

    Source: Johnson and Lindenstrauss 1984; Gaussian as in Dasgupta and Gupta 2003.
    """
    width = vectors.shape[1]
    if dimensions >= width:
        return np.asarray(vectors, np.float32)
    matrix = rng.standard_normal((width, dimensions)) / np.sqrt(dimensions)
    return np.asarray(vectors, np.float32) @ matrix.astype(np.float32)


def greedy_k_center(vectors: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Chooses vectors one by one, each the farthest from those chosen before.

    The choice is that of the plain loop, found with fewer passes over memory: distances from
    the `_AHEAD` farthest vectors are computed in one matrix product, since the next choices are
    nearly always among them; where one is not, new candidates are taken.

    Args:
        vectors: (N, D) float32 or float64.
        count: How many to choose, 1 to N.
        first: Index of the first choice.

    Returns:
        (count,) int64 indices in the order of choice; equal distances go to the lower index.

    Raises:
        ValueError: `count` or `first` is out of range.

    Source: Gonzalez 1985; as PatchCore's coreset, Roth et al. 2022, arXiv:2106.08265, algorithm 1.
    """
    vectors = np.ascontiguousarray(vectors)
    if not 1 <= count <= len(vectors) or not 0 <= first < len(vectors):
        raise ValueError(f"{count} of {len(vectors)} vectors from {first} cannot be chosen.")
    # Around their mean the squares are small, and so is the rounding of their difference.
    vectors = vectors - vectors.mean(axis=0)
    squares = np.einsum("nd,nd->n", vectors, vectors)
    nearest = np.full(len(vectors), np.inf, vectors.dtype)
    chosen = np.empty(count, np.int64)
    candidates, distances = np.array([first]), _squared(vectors, squares, np.array([first]))
    for number in range(count):
        pick = first if number == 0 else int(nearest.argmax())
        found = np.flatnonzero(candidates == pick)
        if not len(found):
            ahead = min(_AHEAD, count - number, len(vectors))
            candidates = np.argpartition(-nearest, ahead - 1)[:ahead]
            if pick not in candidates:  # of equal distances the partition may take another
                candidates[-1] = pick
            distances = _squared(vectors, squares, candidates)
            found = np.flatnonzero(candidates == pick)
        place = int(found[0])
        np.minimum(nearest, distances[place], out=nearest)
        # Never again, also where rounding leaves a distance to itself or all are duplicates.
        nearest[pick] = -1
        chosen[number] = pick
    return chosen


def _squared(vectors: np.ndarray, squares: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(C, N) squared distances, at least 0."""
    found = np.empty((len(centres), len(vectors)), vectors.dtype)
    middle, lengths = vectors[centres], squares[centres][:, None]
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, start + _ROWS)
        block = middle @ vectors[rows].T
        block *= -2
        block += lengths
        block += squares[rows]
        np.maximum(block, 0, out=found[:, rows])
    return found
