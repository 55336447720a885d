"""What methods that train a network share: maps in batches, epochs, and going on after a stop."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from anomaly.features.extractor import Source
from inspection.errors import InputError
from inspection.files.writing import atomic_path
from inspection.progress import StageProgress

_SAVE_SECONDS = 20.0


class MapSet:
    """Maps of all views of a source, as batches for training.

    What fits stays in memory; the rest is read again each time, so memory does not grow with
    the number of images.

    Args:
        count: Number of images.
        read: From an image's number to (V, h, w, c) arrays, one for each kind of map.
        on_progress: Called after each image.
        counted: From an image's number and (h, w) to the (V, h, w) bool cells that are learnt, or
            None for all; None counts all everywhere. A view without any is left out.
        most_bytes: Held in memory at the most.
    """

    def __init__(
        self,
        count: int,
        read: Callable[[int], list[np.ndarray]],
        on_progress: StageProgress,
        counted: Callable[[int, tuple[int, int]], np.ndarray | None] | None = None,
        most_bytes: float = 1e9,
    ) -> None:
        self._count, self._read, self._left = count, read, most_bytes
        self._held: dict[int, list[np.ndarray]] = {}
        self._cells: dict[int, list[np.ndarray]] = {}
        self._places: list[tuple[int, int]] = []
        for index in range(count):
            maps = self._maps(index)
            self.shapes = [one.shape[1:] for one in maps]
            cells = [counted(index, one.shape[1:3]) if counted else None for one in maps]
            views = range(len(maps[0]))
            if cells[0] is not None:
                self._cells[index] = cells
                views = [view for view in views if cells[0][view].any()]
            self._places += [(index, view) for view in views]
            on_progress("taking in images", index + 1, count)

    def __len__(self) -> int:
        """How many views there are."""
        return len(self._places)

    def __getitem__(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """One (B, h, w, c) float32 array for each kind of map."""
        views = []
        for number in numbers:
            index, view = self._places[int(number)]
            views.append([one[view] for one in self._maps(index)])
        return [np.stack(parts).astype(np.float32) for parts in zip(*views, strict=True)]

    def counted(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """(B, h, w) float32 for each kind of map, 1 where a cell is learnt, else 0."""
        found = []
        for kind, shape in enumerate(self.shapes):
            one = np.ones((len(numbers), *shape[:2]), np.float32)
            for row, number in enumerate(numbers):
                index, view = self._places[int(number)]
                if index in self._cells:
                    one[row] = self._cells[index][kind][view]
            found.append(one)
        return found

    def ever_counted(self, kind: int) -> np.ndarray:
        """(h, w) bool, the cells of a kind of map that are learnt in some view."""
        if len(self._cells) < self._count:
            return np.ones(self.shapes[kind][:2], bool)
        return np.any([cells[kind].any(axis=0) for cells in self._cells.values()], axis=0)

    def _maps(self, index: int) -> list[np.ndarray]:
        if index in self._held:
            return self._held[index]
        maps = self._read(index)
        size = sum(one.nbytes for one in maps)
        if size <= self._left:
            self._held[index] = maps
            self._left -= size
        return maps

    def batches(self, size: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Numbers of the views of each step of an epoch, each view at least once.

        The last batch is filled up: one of its own size would build the network's graph anew.
        """
        order = rng.permutation(len(self))
        starts = range(0, len(order), size)
        return [np.resize(order[start : start + size], size) for start in starts]

    def moments(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Mean and standard deviation of each channel, (c,) float32, for each kind of map."""
        sums = [np.zeros((3, shape[-1])) for shape in self.shapes]
        for index in range(self._count):
            for kind, (total, one) in enumerate(zip(sums, self._maps(index), strict=True)):
                if index in self._cells:
                    one = one[self._cells[index][kind]]
                cells = one.astype(np.float64).reshape(-1, one.shape[-1])
                total += [np.full(len(cells.T), len(cells)), cells.sum(0), np.square(cells).sum(0)]
        found = []
        for count, first, second in sums:
            mean = first / np.maximum(count, 1)
            deviation = np.sqrt(np.maximum(second / np.maximum(count, 1) - mean**2, 0))
            found.append((mean.astype(np.float32), deviation.astype(np.float32)))
        return found


def checkpoint_path(source: Source, *what: Any) -> Path | None:
    """Where an unfinished training is kept; None without a cache.

    Args:
        source: What is trained on.
        *what: Everything else that decides the result.
    """
    if source.cache is None:
        return None
    digest = hashlib.sha256(repr((source.hash, *what)).encode()).hexdigest()[:24]
    return source.cache / "unfinished" / f"{digest}.npz"


def run_epochs(
    networks: Mapping[str, keras.Model],
    epoch: Callable[[np.random.Generator], float],
    epochs: int,
    seed: int,
    name: str,
    on_progress: StageProgress,
    checkpoint: Path | None = None,
) -> None:
    """Trains, stores the state every `_SAVE_SECONDS`, and goes on from a state stored before.

    Args:
        networks: Compiled; with their optimizers they are all that changes.
        epoch: One pass with the given source of chance; returns its mean loss.
        epochs: How many.
        seed: Decides the source of chance of every epoch.
        name: Of what is trained, for messages.
        on_progress: Called after each epoch.
        checkpoint: The stored state; None stores nothing. Removed at the end.

    Raises:
        InputError: The loss is no finite number.
    """
    for network in networks.values():
        network.optimizer.build(network.trainable_variables)
    first = _restore(networks, checkpoint)
    stored = time.monotonic()
    for number in range(first, epochs):
        loss = epoch(np.random.default_rng([seed, number]))
        if not np.isfinite(loss):
            if checkpoint is not None:
                checkpoint.unlink(missing_ok=True)
            raise InputError(
                f"{name}: the loss is no finite number in epoch {number + 1}; give a lower lr"
            )
        if checkpoint is not None and time.monotonic() - stored > _SAVE_SECONDS:
            _store(networks, checkpoint, number + 1)
            stored = time.monotonic()
        on_progress(f"training {name} (loss {loss:.3f})", number + 1, epochs)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def _variables(networks: Mapping[str, keras.Model]) -> list[keras.Variable]:
    found: dict[int, keras.Variable] = {}
    for network in networks.values():
        for variable in [*network.variables, *network.optimizer.variables]:
            found.setdefault(id(variable), variable)
    return list(found.values())


def _store(networks: Mapping[str, keras.Model], path: Path, done: int) -> None:
    values = {f"{i:05d}": np.asarray(v) for i, v in enumerate(_variables(networks))}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, done=done, **values)


def _restore(networks: Mapping[str, keras.Model], path: Path | None) -> int:
    if path is None or not path.is_file():
        return 0
    variables = _variables(networks)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            values = [stored[f"{index:05d}"] for index in range(len(variables))]
            done = int(stored["done"])
        fits = [value.shape for value in values] == [tuple(one.shape) for one in variables]
        if not fits or done < 1 or not all(np.isfinite(value).all() for value in values):
            raise ValueError("of another training")
    except Exception:  # damaged in whatever way: the training begins anew
        path.unlink(missing_ok=True)
        return 0
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return done


def compile_loss(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """Compiles a network whose output is the loss of each sample already."""
    network.compile(optimizer, loss=lambda wanted, found: keras.ops.mean(found))
    return network


def train_step(network: keras.Model, batch: Any, size: int) -> float:
    """One step of what `compile_loss` made; returns the mean loss."""
    return float(network.train_on_batch(batch, np.zeros(size, np.float32)))
