"""The layers of a model that hold a map, inner models included, and a look into one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from inspection.errors import InputError

# A layer's call is replaced while a model is traced; two threads would see each other's.
_LOCK = threading.RLock()
_NAMED = 12


def map_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """Layers whose output is a map (B, h, w, C) or tokens (B, N, C), by name, in their order.

    Those of inner models are named `model/layer`, as deep as they are nested. Maps of a single
    cell and whatever comes before the first weights are left out.

    Args:
        model: A built model.
    """
    return dict(_walk(model, ""))


def _walk(model: keras.Model, prefix: str) -> Iterator[tuple[str, keras.Layer]]:
    learnt = False
    for layer in model.layers:
        name = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model) and layer.layers:
            inner = list(_walk(layer, f"{name}/"))
            learnt = learnt or bool(inner)
            yield from inner
            continue
        learnt = learnt or bool(layer.weights)
        if learnt and _holds_map(layer):
            yield name, layer


def _holds_map(layer: keras.Layer) -> bool:
    try:
        output = layer.output
    except (AttributeError, ValueError):
        return False
    shape = getattr(output, "shape", None)  # several outputs are a list
    if shape is None or len(shape) not in (3, 4) or len(layer._inbound_nodes) == 0:
        return False
    cells = shape[1:-1]
    return any(length is None or length > 1 for length in cells)


def find_layer(model: keras.Model, name: str | None) -> tuple[str, keras.Layer]:
    """A layer by its name; the last one that holds a map where None.

    Raises:
        InputError: There is no such layer, or none at all; those that are there are named.
    """
    layers = map_layers(model)
    if not layers:
        raise InputError(
            f"the model {model.name} has no layer that holds a map, so no place can be shown; CAMs "
            "need a convolutional network or a transformer on patches"
        )
    if name is None:
        return list(layers.items())[-1]
    if name not in layers:
        names = list(layers)
        shown = ", ".join(names[-_NAMED:])
        before = f"the last {_NAMED} of {len(names)} are" if len(names) > _NAMED else "there are"
        raise InputError(f"--layer {name}: there is no such layer with a map; {before} {shown}")
    return name, layers[name]


class Tap:
    """While entered, keeps what a layer gives, or gives something else in its place.

    Args:
        layer: Any layer of a model, however deep.
        replacement: Given in place of the layer's output; None only looks.
    """

    def __init__(self, layer: keras.Layer, replacement: Any = None) -> None:
        self._layer, self._replacement = layer, replacement
        self.output: Any = None

    def __enter__(self) -> Tap:
        call = self._layer.call

        def tapped(*arguments: Any, **options: Any) -> Any:
            if self._replacement is None:
                self.output = call(*arguments, **options)
                return self.output
            return self._replacement

        _LOCK.acquire()
        self._layer.__dict__["call"] = tapped
        return self

    def __exit__(self, *_: object) -> None:
        self._layer.__dict__.pop("call")
        _LOCK.release()


@contextmanager
def without_softmax(model: keras.Model) -> Iterator[None]:
    """While entered, a model that ends in softmax or sigmoid gives logits.

    The gradient of a share that is nearly 1 is nearly 0, and carries the other classes in it.
    """
    last = model.layers[-1]
    while isinstance(last, keras.Model):
        last = last.layers[-1]
    ends = (keras.activations.softmax, keras.activations.sigmoid)
    with _LOCK:
        if isinstance(last, keras.layers.Softmax):
            last.__dict__["call"] = lambda inputs, *_, **__: inputs
            try:
                yield
            finally:
                last.__dict__.pop("call")
        elif getattr(last, "activation", None) in ends:
            before, last.activation = last.activation, keras.activations.linear
            try:
                yield
            finally:
                last.activation = before
        else:
            yield
