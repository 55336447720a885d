"""In which order images are learnt: as they come, balanced, or class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Sampler(Protocol):
    """The order of each epoch, and how often each class is drawn."""

    def order(self, epoch: int) -> np.ndarray:
        """(N,) int64 indices of an epoch; the same for the same seed, whatever came before."""

    @property
    def prior(self) -> np.ndarray:
        """(K,) share of each class among what is drawn."""


class PlainSampling:
    """Every image once an epoch.

    Args:
        labels: (N,) class of each image.
        classes: How many classes there are.
        seed: Decides the order.
    """

    def __init__(self, labels: Sequence[int], classes: int, seed: int) -> None:
        self.labels = np.asarray(labels, np.int64)
        self.classes, self.seed = classes, seed

    def order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))

    @property
    def prior(self) -> np.ndarray:
        return np.bincount(self.labels, minlength=self.classes) / len(self.labels)


class BalancedSampling(PlainSampling):
    """Drawn with replacement, every class equally often on average."""

    def order(self, epoch: int) -> np.ndarray:
        counts = np.bincount(self.labels, minlength=self.classes)
        chance = 1 / counts[self.labels]
        rng = np.random.default_rng([self.seed, epoch])
        return rng.choice(len(self.labels), len(self.labels), p=chance / chance.sum())

    @property
    def prior(self) -> np.ndarray:
        return np.full(self.classes, 1 / self.classes)


class ClassAwareSampling(BalancedSampling):
    """Class by class, each going through its own images before one comes again.

    Source: Shen, Lin and Huang 2016, Relay Backpropagation, arXiv:1512.05830, section 3.2.
    """

    def order(self, epoch: int) -> np.ndarray:
        count = len(self.labels)
        positions = np.arange(epoch * count, (epoch + 1) * count)
        turns, places = positions // self.classes, positions % self.classes
        kinds = {turn: self._shuffled(self.classes, 0, turn) for turn in np.unique(turns)}
        order = np.empty(count, np.int64)
        for kind in range(self.classes):
            members = np.flatnonzero(self.labels == kind)
            # A class comes once in each turn, so its own count of images is the turn's.
            mine = np.array(
                [kinds[turn][place] == kind for turn, place in zip(turns, places, strict=True)]
            )
            cycles, steps = np.divmod(turns[mine], len(members))
            shuffled = {c: self._shuffled(len(members), 1 + kind, c) for c in np.unique(cycles)}
            order[mine] = [
                members[shuffled[cycle][step]] for cycle, step in zip(cycles, steps, strict=True)
            ]
        return order

    def _shuffled(self, length: int, stream: int, number: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 7, stream, int(number)]).permutation(length)


SAMPLERS = {
    "plain": PlainSampling,
    "balanced": BalancedSampling,
    "class-aware": ClassAwareSampling,
}
