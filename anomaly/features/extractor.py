"""Feature maps of a backbone, computed once for each image and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from anomaly.features import graphs
from anomaly.features.augment import PLAIN, Augmentation
from inspection.data.images import read_image
from inspection.data.preparation import Preparation, Prepared
from inspection.files.writing import atomic_path, file_hash
from inspection.finite import check_finite
from inspection.models import layers  # noqa: F401  registers its layers, which loading needs
from inspection.models.gradients import compiled_model

_BATCH = 8
_VERSION = 2
"""Of what the cache holds: raise it with every change of what a view or its features are."""


class FeatureExtractor:
    """A backbone that ends at some of its layers.

    Args:
        backbone: Maps (B, S, S, 3) RGB 0-255 to feature maps.
        taps: Names of the layers whose outputs are wanted, finest first; `name/2` is that layer
            on the view at half its size.
        also: Taps that other methods will want of the same images: what the cache lacks is
            computed with these in one run of the backbone.
    """

    def __init__(
        self, backbone: keras.Model, taps: Sequence[str], also: Iterable[str] = ()
    ) -> None:
        self.taps = tuple(taps)
        self.together = tuple(dict.fromkeys([*self.taps, *also]))
        self._backbone = backbone
        self._runs: dict[tuple[str, ...], Callable] = {}
        self.model = _ending_at(backbone, _layers(self.taps))

    @cached_property
    def key(self) -> str:
        """Changes with the weights and nothing else."""
        digest = hashlib.sha256()
        for weight in self._backbone.weights:
            digest.update(np.ascontiguousarray(weight).tobytes())
        return digest.hexdigest()[:16]

    def __call__(self, views: np.ndarray) -> list[np.ndarray]:
        """Feature maps of some views.

        Args:
            views: (V, S, S, 3) uint8.

        Returns:
            One (V, h, w, c) array for each tap, float16: what is kept on disk and what is
            computed at prediction must be the same numbers.
        """
        found = self.maps(views, self.taps)
        return [found[tap] for tap in self.taps]

    def maps(self, views: np.ndarray, taps: Sequence[str]) -> dict[str, np.ndarray]:
        """As `__call__`, for any taps of the backbone, by name."""
        found: dict[str, np.ndarray] = {}
        names = _layers(taps)
        side = views.shape[1]
        for divisor in sorted({_divisor(tap) for tap in taps}):
            small = views
            if divisor > 1:
                size = (side // divisor, side // divisor)
                small = np.stack(
                    [cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in views]
                )
            maps = dict(zip(names, self._run(small, names), strict=True))
            found |= {tap: maps[_layer(tap)] for tap in taps if _divisor(tap) == divisor}
        return found

    def graph(self, views: Any) -> list[Any]:
        """As `__call__` in `keras.ops`, for export: (V, S, S, 3) float32 tensor to tensors."""
        found: dict[str, Any] = {}
        for divisor in sorted({_divisor(tap) for tap in self.taps}):
            maps = graphs.outputs(self.model, [graphs.shrunk(views, divisor)])
            named = dict(zip(_layers(self.taps), maps, strict=True))
            found |= {tap: named[_layer(tap)] for tap in self.taps if _divisor(tap) == divisor}
        return [graphs.at_half_precision(found[tap]) for tap in self.taps]

    def _run(self, views: np.ndarray, names: tuple[str, ...]) -> list[np.ndarray]:
        if names not in self._runs:
            model = self.model if names == _layers(self.taps) else _ending_at(self._backbone, names)
            self._runs[names] = compiled_model(model)
        found: list[list[np.ndarray]] = []
        for start in range(0, len(views), _BATCH):
            batch = views[start : start + _BATCH].astype(np.float32)
            maps = self._runs[names](batch)
            maps = maps if isinstance(maps, list | tuple) else [maps]  # Keras unpacks a single one
            with np.errstate(over="ignore"):  # what float16 cannot hold is refused below
                found.append([np.asarray(one, np.float16) for one in maps])
            # Here, since the nearest of distances that are NaN may be a number.
            check_finite(**dict(zip(names, found[-1], strict=True)))
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _kept(file: Path) -> np.ndarray | None:
    """Maps from the cache; None where they are missing or damaged, and made again."""
    try:
        with file.open("rb") as opened:
            maps = np.load(opened, allow_pickle=False)
    except Exception:  # NumPy raises many kinds
        return None
    return maps if maps.ndim == 4 and maps.dtype == np.float16 else None


def _layer(tap: str) -> str:
    return tap.partition("/")[0]


def _divisor(tap: str) -> int:
    return int(tap.partition("/")[2] or 1)


def _layers(taps: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_layer(tap) for tap in taps))


def _ending_at(backbone: keras.Model, names: Sequence[str]) -> keras.Model:
    return keras.Model(backbone.input, [backbone.get_layer(name).output for name in names])


@dataclass(frozen=True)
class Source:
    """Prepared images in an order, read when they are asked for.

    Args:
        paths: The files.
        preparation: How they are prepared.
        cache: Folder of feature maps; None computes them each time.
        augmentation: Changed copies that follow after the images themselves.
        seed: Decides how they are changed.
    """

    paths: tuple[Path, ...]
    preparation: Preparation
    cache: Path | None = None
    augmentation: Augmentation = PLAIN
    seed: int = 0

    def __len__(self) -> int:
        return len(self.paths) * (1 + self.augmentation.copies)

    @property
    def unchanged(self) -> Source:
        """The same images without changed copies."""
        return replace(self, augmentation=PLAIN)

    def prepared(self, index: int) -> Prepared:
        """The image at a place."""
        copy, place = divmod(index, len(self.paths))
        path = self.paths[place]
        if not copy:
            return self.preparation(path)
        rgb, inside = self.preparation.region(read_image(path, self.preparation.bits), str(path))
        rng = np.random.default_rng([self.seed, copy, place])
        changed = self.augmentation.apply(rgb, copy, rng)
        prepared = self.preparation.of_region()(changed, str(path))
        if inside is None:
            return prepared
        rng = np.random.default_rng([self.seed, copy, place])
        return replace(prepared, inside=self.augmentation.moved(inside, copy, rng))

    def counted(self, index: int, cells: tuple[int, int]) -> np.ndarray | None:
        """Which cells of the maps of the image at a place may be learnt.

        Args:
            index: Which image.
            cells: (h, w) of the maps.

        Returns:
            (V, h, w) bool, see `Prepared.counted`; None for all, known without reading a file.
        """
        whole = self.preparation.tile is not None or self.preparation.fit == "stretch"
        if self.preparation.roi_mask is None and whole:
            return None
        return self.prepared(index).counted(cells)

    def features(
        self, index: int, extractor: FeatureExtractor, prepared: Prepared | None = None
    ) -> list[np.ndarray]:
        """Feature maps of the image at a place, from the cache where they are there.

        Args:
            index: Which image.
            extractor: Whose features.
            prepared: The image where it has been prepared already; None reads it if need be.

        Returns:
            As `FeatureExtractor.__call__`.
        """
        if self.cache is None:
            return extractor((prepared or self.prepared(index)).views)
        folder = self.cache / f"{extractor.key}-{_VERSION}"
        name = self._name(index)
        files = {tap: folder / tap.replace("/", "@") / f"{name}.npy" for tap in extractor.together}
        kept = {tap: _kept(files[tap]) for tap in extractor.taps}
        if any(one is None for one in kept.values()):
            others = [tap for tap in files if tap not in kept and not files[tap].is_file()]
            missing = [tap for tap, one in kept.items() if one is None] + others
            views = (prepared or self.prepared(index)).views
            for tap, one in extractor.maps(views, missing).items():
                with atomic_path(files[tap]) as temporary, temporary.open("wb") as file:
                    np.save(file, one)
                kept[tap] = one
        return [kept[tap] for tap in extractor.taps]

    @property
    def hash(self) -> str:
        """Changes with the images' contents and how they are prepared."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(self._name(index).encode())
        return digest.hexdigest()

    def _name(self, index: int) -> str:
        """By content: an image that was replaced under its name is another image."""
        copy, place = divmod(index, len(self.paths))
        text = f"{file_hash(self.paths[place])} {self.preparation}"
        if copy:
            text += f" {self.augmentation} {self.seed} {copy} {place}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]
