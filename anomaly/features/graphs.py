"""The steps between pixels and score maps once more in `keras.ops`, for export."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


def shrunk(views: Any, factor: int) -> Any:
    """Views (V, S, S, 3) at 1 / factor of their side, whole grey levels as OpenCV's area mean."""
    if factor == 1:
        return views
    mean = ops.average_pool(views, factor, factor)
    # OpenCV rounds halves up where it halves, else to even.
    return ops.floor(mean + 0.5) if factor == 2 else ops.round(mean)


def at_half_precision(maps: Any) -> Any:
    """As feature maps are kept: float16."""
    return ops.cast(ops.cast(maps, "float16"), "float32")


def patches(features: list[Any], pool: int = 3) -> Any:
    """As `anomaly.features.maps.patches`."""
    size = tuple(features[0].shape[1:3])
    found = []
    for one in features:
        if pool > 1:
            reach = pool // 2
            border = [(0, 0), (reach, reach), (reach, reach), (0, 0)]
            one = ops.average_pool(ops.pad(one, border, mode="reflect"), pool, 1)
        found.append(enlarged(one, size))
    return ops.concatenate(found, axis=-1)


def enlarged(maps: Any, size: tuple[int, int]) -> Any:
    """(V, h, w, c) at another height and width, bilinear."""
    if tuple(maps.shape[1:3]) == tuple(size):
        return maps
    return ops.image.resize(maps, size, interpolation="bilinear")


def constant(values: np.ndarray) -> Any:
    """float32 values that stand in the graph."""
    return ops.convert_to_tensor(np.asarray(values, np.float32))


def outputs(network: keras.Model, inputs: list[Any]) -> list[Any]:
    """Outputs of a network at inference, always as a list."""
    found = network(inputs if len(inputs) > 1 else inputs[0], training=False)
    return list(found) if isinstance(found, list | tuple) else [found]
