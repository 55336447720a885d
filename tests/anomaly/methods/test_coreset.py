"""The fast greedy k-center chooses what the plain loop chooses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.methods.parts.coreset import greedy_k_center, random_projection


def plain(vectors: np.ndarray, count: int, first: int) -> list[int]:
    """Roth et al. 2022, algorithm 1, word for word."""
    chosen: list[int] = []
    pick = first
    nearest = np.full(len(vectors), np.inf)
    for _ in range(count):
        chosen.append(pick)
        nearest = np.minimum(nearest, ((vectors - vectors[pick]) ** 2).sum(axis=1))
        nearest[chosen] = -1
        pick = int(nearest.argmax())
    return chosen


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 12), st.integers(0, 10_000), st.data())
def test_it_chooses_as_the_plain_loop(number, width, seed, data):
    vectors = np.random.default_rng(seed).standard_normal((number, width))
    count = data.draw(st.integers(1, number))
    first = data.draw(st.integers(0, number - 1))
    assert greedy_k_center(vectors, count, first).tolist() == plain(vectors, count, first)


def test_duplicates_are_each_chosen_once():
    vectors = np.repeat(np.eye(3), 5, axis=0)
    chosen = greedy_k_center(vectors, 15)
    assert sorted(chosen.tolist()) == list(range(15))
    assert {int(index) // 5 for index in chosen[:3]} == {0, 1, 2}


def test_the_first_choices_cover_best():
    """Every vector is nearer to the chosen than the last choice was when it was made."""
    vectors = np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32)
    chosen = greedy_k_center(vectors, 101)
    distance = np.linalg.norm(vectors[:, None] - vectors[chosen[:-1]][None], axis=2).min(axis=1)
    assert distance.max() == pytest.approx(distance[chosen[-1]], rel=1e-4)


def test_counts_out_of_range():
    for count, first in ((0, 0), (4, 0), (2, 3)):
        with pytest.raises(ValueError, match="cannot be chosen"):
            greedy_k_center(np.zeros((3, 2)), count, first)


def test_a_projection_nearly_keeps_distances():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 1000)).astype(np.float32)
    small = random_projection(vectors, 256, rng)
    assert small.shape == (60, 256)
    pairs = np.triu_indices(60, 1)
    ratio = np.linalg.norm(small[pairs[0]] - small[pairs[1]], axis=1) / np.linalg.norm(
        vectors[pairs[0]] - vectors[pairs[1]], axis=1
    )
    assert abs(ratio - 1).max() < 0.25
    assert random_projection(vectors, 1000, rng) is not None
