"""Feature maps of a backbone, computed once for each picture and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import keras
import numpy as np

from anomaly.preparation import Preparation, Prepared
from inspection import backbones  # noqa: F401  registers its layers, which loading needs
from inspection.runs import atomic_path, file_hash

_BATCH = 8


class FeatureExtractor:
    """A backbone that ends at one or more of its layers.

    Args:
        backbone: Maps (B, S, S, 3) RGB 0-255 to feature maps.
        taps: Names of the layers whose outputs are wanted, finest first.
    """

    def __init__(self, backbone: keras.Model, taps: Sequence[str]) -> None:
        self.taps = tuple(taps)
        self.model = keras.Model(
            backbone.inputs, [backbone.get_layer(tap).output for tap in self.taps]
        )
        self._run = _compiled(self.model)

    @cached_property
    def key(self) -> str:
        """Changes with the weights, the layers and nothing else."""
        digest = hashlib.sha256("\n".join(self.taps).encode())
        for weight in self.model.weights:
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
        found: list[list[np.ndarray]] = []
        for start in range(0, len(views), _BATCH):
            batch = views[start : start + _BATCH].astype(np.float32)
            maps = self._run(batch)
            maps = maps if isinstance(maps, list | tuple) else [maps]  # Keras unpacks a single one
            found.append([np.asarray(one, np.float16) for one in maps])
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _compiled(model: keras.Model) -> Callable[[np.ndarray], list]:
    if keras.backend.backend() != "tensorflow":
        return lambda batch: model(batch, training=False)
    import tensorflow as tf

    shape = tf.TensorSpec((None, None, None, model.inputs[0].shape[-1]), tf.float32)
    return tf.function(lambda batch: model(batch, training=False), [shape], autograph=False)


class PyramidExtractor(FeatureExtractor):
    """One tap of a backbone, on a view and on the same view at a half and a quarter of its size.

    Args:
        backbone: As for `FeatureExtractor`.
        tap: Name of the layer.
        scales: How many sizes.
    """

    def __init__(self, backbone: keras.Model, tap: str, scales: int = 3) -> None:
        super().__init__(backbone, [tap])
        self.scales = scales

    @cached_property
    def key(self) -> str:
        return f"{super().key}-{self.scales}"

    def __call__(self, views: np.ndarray) -> list[np.ndarray]:
        side = views.shape[1]
        found = []
        for scale in range(self.scales):
            size = (side >> scale, side >> scale)
            small = [cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in views]
            found += super().__call__(np.stack(small))
        return found


@dataclass(frozen=True)
class Source:
    """Prepared pictures in an order, read when they are asked for.

    Args:
        paths: The files.
        preparation: How they are prepared.
        cache: Folder of feature maps; None computes them each time.
    """

    paths: tuple[Path, ...]
    preparation: Preparation
    cache: Path | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def prepared(self, index: int) -> Prepared:
        """The picture at a place."""
        return self.preparation.read(self.paths[index])

    def features(self, index: int, extractor: FeatureExtractor) -> list[np.ndarray]:
        """Feature maps of the picture at a place, from the cache where they are there.

        Args:
            index: Which picture.
            extractor: Whose features.

        Returns:
            As `FeatureExtractor.__call__`.
        """
        if self.cache is None:
            return extractor(self.prepared(index).views)
        path = self.cache / extractor.key / f"{self._name(index)}.npz"
        if path.is_file():
            with np.load(path) as stored:
                return [stored[name] for name in stored.files]
        found = extractor(self.prepared(index).views)
        with atomic_path(path) as temporary:
            np.savez(temporary, *found)
        return found

    def _name(self, index: int) -> str:
        """By content: a picture that was replaced under its name is another picture."""
        text = f"{file_hash(self.paths[index])} {self.preparation}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]
