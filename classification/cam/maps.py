"""Where a classifier looks: class activation maps, native in Keras 3."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from classification.cam.methods import (
    METHODS,
    SMOOTHINGS,
    WEIGHTINGS,
    first_component,
    weighted_map,
)
from classification.models.classifier import Classifier
from classification.models.layers import Tap, find_layer, map_layers, without_softmax
from inspection.errors import InputError
from inspection.finite import check_finite
from inspection.models.cells import Cells, measure_cells
from inspection.models.gradients import compiled, compiled_gradient
from inspection.progress import Progress, silent

_GAINS = (0.9, 1.0, 1.1)
_BATCH = 32


@dataclass(frozen=True)
class CamMaps:
    """Maps of a batch of images.

    Args:
        maps: (B, h, w) float32 of at least 0, in the layer's own cells.
        target: (B,) the class each one explains.
        logits: (B, K) float32.
        layer: Name of the layer.
        method: One of `classification.cam.methods.METHODS`.

    Raises:
        NotFinite: A logit or a value of a map is no finite number.
    """

    maps: np.ndarray
    target: np.ndarray
    logits: np.ndarray
    layer: str
    method: str

    def __post_init__(self) -> None:
        check_finite(logits=self.logits, map_values=self.maps)

    def scaled(self, top: float | None = None) -> np.ndarray:
        """(B, h, w) maps from 0 to 1.

        Args:
            top: What becomes 1; each map's own maximum where left out.
        """
        tops = self.maps.max(axis=(1, 2), keepdims=True) if top is None else top
        return np.divide(self.maps, tops, out=np.zeros_like(self.maps), where=np.asarray(tops) > 0)


class Explainer:
    """Class activation maps of one layer of a model.

    Works on any Keras model with a convolutional or token layer, nested models included: what
    the layer gives is looked at while the model runs, and the gradient is taken of what comes
    after it alone. A model that ends in softmax is explained by its logits.

    Args:
        model: A classifier, or a Keras model from (B, H, W, 3) to (B, K).
        layer: Name of the layer, `inner/layer` within nested models; the last one that holds a
            map where left out. See `classification.models.layers.map_layers`.

    Raises:
        InputError: The model has no such layer, or none with a map.

    Example:
        >>> explain = Explainer(classification.load("runs/first"))       # doctest: +SKIP
        >>> found = explain(views, method="layer-cam")                   # doctest: +SKIP
        >>> found.scaled()                                               # doctest: +SKIP
    """

    def __init__(self, model: Classifier | keras.Model, layer: str | None = None) -> None:
        self.model = model.model if isinstance(model, Classifier) else model
        if not self.model.built:
            raise InputError(f"the model {self.model.name} is not built; call it once, or load it")
        self.layer, self._layer = find_layer(self.model, layer)
        self._cells: dict[tuple[int, ...], Cells] = {}
        self._seen: tuple[bytes, np.ndarray, np.ndarray] | None = None
        self._forward = compiled(self._see)
        self._behind = compiled(self._finish)
        self._masked = compiled(self._run_masked)
        self._gradient = compiled_gradient(self._share)

    @property
    def layers(self) -> list[str]:
        """Names of all layers that can be explained."""
        return list(map_layers(self.model))

    def __call__(
        self,
        views: np.ndarray,
        target: Sequence[int] | int | None = None,
        method: str = "grad-cam",
        smooth: str = "none",
        on_progress: Progress = silent,
    ) -> CamMaps:
        """Explains a batch.

        Args:
            views: (B, H, W, 3), RGB 0 to 255 as the model takes them.
            target: The class to explain, for all or for each; the likeliest where left out.
            method: One of `classification.cam.methods.METHODS`.
            smooth: `augment` averages over mirrored and lighter and darker views; `pca` takes
                the first principal component instead of the sum over channels; `both`, `none`.
            on_progress: Called with passes done and in all, by score-cam and ablation-cam.

        Returns:
            The maps.

        Raises:
            InputError: Method, smoothing or class is unknown.
        """
        if method not in METHODS:
            raise InputError(f"--method {method}: must be one of {', '.join(METHODS)}")
        if smooth not in SMOOTHINGS:
            raise InputError(f"--smooth {smooth}: must be one of {', '.join(SMOOTHINGS)}")
        views = np.asarray(views, np.float32)
        _, logits = self._look(views)
        target = self._targets(target, logits)
        pca = smooth in ("pca", "both") or method == "eigen-cam"
        if smooth not in ("augment", "both"):
            maps = self._maps(views, target, method, pca, on_progress)
            return CamMaps(np.maximum(maps, 0), target, logits, self.layer, method)
        total, cells = 0.0, self.cells(views.shape[1:3])
        for flip in (False, True):
            for gain in _GAINS:
                changed = np.clip(views * gain, 0, 255)
                changed = changed[:, :, ::-1] if flip else changed
                maps = self._maps(np.ascontiguousarray(changed), target, method, pca, on_progress)
                maps = np.maximum(maps, 0)
                total = total + (cells.mirrored(maps, views.shape[2]) if flip else maps)
        return CamMaps(total / (2 * len(_GAINS)), target, logits, self.layer, method)

    def place(self, maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Maps in the network's own pixels, each cell where the layer sees it.

        Args:
            maps: (B, h, w) as `CamMaps` holds or scales them.
            size: (H, W) of the views.

        Returns:
            (B, H, W) float32.
        """
        return self.cells(size).place(maps, size)

    def cells(self, size: tuple[int, ...]) -> Cells:
        """Where the layer's cells lie in views of (H, W) pixels; measured at the first call."""
        if size not in self._cells:
            shape = (*size, 3)
            raw = self._see(np.zeros((1, *shape), np.float32))[0].shape
            places = np.arange(math.prod(raw[1:-1])).reshape(1, *raw[1:-1], 1)
            places = self._grid(places, (1, *shape))[0, ..., 0]
            self._cells[size] = measure_cells(
                self.model, lambda views: self._see(views)[0], places, size
            )
        return self._cells[size]

    def activations(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, h, w, C) activations of the layer and (B, K) logits."""
        raw, logits = self._look(np.asarray(views, np.float32))
        return self._grid(raw, views.shape), logits

    def gradients(self, views: np.ndarray, target: Sequence[int] | int) -> np.ndarray:
        """(B, h, w, C) gradient of each image's class logit by the layer's activations."""
        views = np.asarray(views, np.float32)
        raw, logits = self._look(views)
        return self._grid(self._slope(raw, views, self._targets(target, logits)), views.shape)

    def _targets(self, target: Sequence[int] | int | None, logits: np.ndarray) -> np.ndarray:
        if target is None:
            return logits.argmax(axis=1)
        found = np.broadcast_to(np.asarray(target, np.int64), (len(logits),)).copy()
        if found.size and not (found.min() >= 0 and found.max() < logits.shape[1]):
            raise InputError(f"class {found.max()} is explained, and there are {logits.shape[1]}")
        return found

    def _maps(
        self,
        views: np.ndarray,
        target: np.ndarray,
        method: str,
        pca: bool,
        on_progress: Progress,
    ) -> np.ndarray:
        raw, logits = self._look(views)
        a = self._grid(raw, views.shape)
        if method == "eigen-cam":
            weights = np.float32(1)
        elif method in WEIGHTINGS:
            g = self._grid(self._slope(raw, views, target), views.shape)
            weights = WEIGHTINGS[method](a, g)
        elif method == "score-cam":
            weights = self._score_weights(a, views, target, on_progress)
        else:
            weights = self._ablation_weights(raw, views, target, logits, on_progress)
        return first_component(a * weights) if pca else weighted_map(a, weights)

    def _score_weights(
        self, a: np.ndarray, views: np.ndarray, target: np.ndarray, on_progress: Progress
    ) -> np.ndarray:
        """What the class gains where only a channel's own places are left of the image.

        What is masked becomes the image's mean colour, which for a network that normalises
        inside is what zero is for one that does not.

        Source: Wang et al. 2020, Score-CAM, arXiv:1910.01279, algorithm 1.
        """
        low, high = a.min(axis=(1, 2), keepdims=True), a.max(axis=(1, 2), keepdims=True)
        masks = np.divide(a - low, high - low, out=np.zeros_like(a), where=high > low)
        shares = [
            one.astype(np.float32)
            for one in self.cells(views.shape[1:3]).shares(a.shape[1:3], views.shape[1:3])
        ]
        weights = np.zeros((len(a), 1, 1, a.shape[-1]), np.float32)
        for index, view in enumerate(views):
            # A channel that is the same everywhere tells no place.
            alive = np.flatnonzero((high > low)[index, 0, 0])
            mean = view.mean(axis=(0, 1), keepdims=True)
            scores = np.zeros(len(alive), np.float64)
            for start, rows in _chunks(len(alive)):
                chosen = masks[index][..., alive[rows]].transpose(2, 0, 1)
                logits = self._masked(_filled(chosen), view, mean, *shares)
                scores[rows] = np.asarray(logits)[: len(chosen), target[index]]
                on_progress(start + len(chosen), len(alive))
            if len(alive):
                powers = np.exp(scores - scores.max())
                weights[index, 0, 0, alive] = powers / powers.sum()
        return weights

    def _ablation_weights(
        self,
        raw: np.ndarray,
        views: np.ndarray,
        target: np.ndarray,
        logits: np.ndarray,
        on_progress: Progress,
    ) -> np.ndarray:
        """How much of the class's logit goes when a channel is set to zero.

        Source: Desai and Ramaswamy 2020, Ablation-CAM, WACV, equation 4.
        """
        channels = raw.shape[-1]
        weights = np.zeros((len(raw), 1, 1, channels), np.float32)
        for index in range(len(raw)):
            whole = float(logits[index, target[index]])
            for start, rows in _chunks(channels):
                numbers = np.arange(channels)[rows]
                # The last chunk is filled up: another size would build the graph anew.
                without = np.repeat(raw[index][None], _BATCH, axis=0)
                without[np.arange(len(numbers)), ..., numbers] = 0
                view = np.repeat(views[index][None], _BATCH, axis=0)
                left = np.asarray(self._behind(without, view))[: len(numbers), target[index]]
                weights[index, 0, 0, numbers] = (whole - left) / (abs(whole) + 1e-8)
                on_progress(start + len(numbers), channels)
        return weights

    # Traced as graphs: from tensors to tensors.

    def _look(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The same batch is asked for again by every other class and method.
        key = hashlib.sha256(repr(views.shape).encode() + views.tobytes()).digest()
        seen = self._seen  # read once: another visitor's thread may replace it at any time
        if seen is None or seen[0] != key:
            activations, logits = (np.asarray(v, np.float32) for v in self._forward(views))
            seen = self._seen = (key, activations, logits)
        return seen[1:]

    def _see(self, views: Any) -> tuple[Any, Any]:
        with Tap(self._layer) as tap:
            logits = self._run(views)
        return tap.output, logits

    def _run(self, views: Any) -> Any:
        with without_softmax(self.model):
            logits = self.model(views, training=False)
        # One output is the logit of the second of two classes.
        return ops.concatenate([-logits, logits], axis=-1) if logits.shape[-1] == 1 else logits

    def _finish(self, activations: Any, views: Any) -> Any:
        """Logits of images whose layer gives something else than it would."""
        with Tap(self._layer, activations):
            return self._run(views)

    def _share(self, activations: Any, views: Any, wanted: Any) -> Any:
        return ops.sum(self._finish(activations, views) * wanted)

    def _run_masked(self, masks: Any, view: Any, mean: Any, rows: Any, columns: Any) -> Any:
        masks = ops.matmul(ops.matmul(rows, masks), ops.transpose(columns))
        return self._run(mean + (view - mean) * masks[..., None])

    def _slope(self, raw: np.ndarray, views: np.ndarray, target: np.ndarray) -> np.ndarray:
        return self._gradient(raw, views, self._one_hot(target))

    def _one_hot(self, target: np.ndarray) -> np.ndarray:
        classes = self.model.output_shape[-1]
        return np.eye(2 if classes == 1 else classes, dtype=np.float32)[target]

    @staticmethod
    def _grid(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Tokens (B, N, C) on their grid (B, h, w, C); maps as they are."""
        if values.ndim == 4:
            return values
        count, ratio = values.shape[1], shape[1] / shape[2]
        for first in (0, 1):  # a class token comes before the others
            height = max(1, round(math.sqrt((count - first) * ratio)))
            if height * ((count - first) // height) == count - first and (
                abs((count - first) / height / height * ratio - 1) < 0.5
            ):
                tokens = values[:, first:]
                return tokens.reshape(len(values), height, -1, values.shape[-1])
        raise InputError(
            f"{count} tokens of a layer fit no grid over images of {shape[2]} x {shape[1]} "
            "pixels; choose another --layer"
        )


def _chunks(count: int) -> Iterator[tuple[int, slice]]:
    for start in range(0, count, _BATCH):
        yield start, slice(start, min(start + _BATCH, count))


def _filled(masks: np.ndarray) -> np.ndarray:
    """Masks filled up to a whole batch: another size would build the graph anew."""
    missing = _BATCH - len(masks)
    return np.concatenate([masks, np.zeros((missing, *masks.shape[1:]), masks.dtype)])
