"""The one place that takes a gradient, or compiles, on the running Keras backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np


def value_and_gradients(
    function: Callable[..., Any], inputs: Sequence[Any]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A scalar function's value, and its gradient by each input.

    Args:
        function: From tensors of the inputs' shapes to a scalar tensor; `keras.ops` inside.
        inputs: Arrays.

    Returns:
        The value, and one array per input, of its shape; zeros where it has no influence.

    Raises:
        NotImplementedError: The backend is none of tensorflow, jax and torch.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(value) for value in inputs]
        with tf.GradientTape() as tape:
            for tensor in tensors:
                tape.watch(tensor)
            value = function(*tensors)
        found = tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    elif backend == "jax":
        import jax

        value, found = jax.value_and_grad(function, argnums=tuple(range(len(inputs))))(
            *(jax.numpy.asarray(item) for item in inputs)
        )
    elif backend == "torch":
        import torch

        tensors = [torch.tensor(np.asarray(item), requires_grad=True) for item in inputs]
        value = function(*tensors)
        found = torch.autograd.grad(value, tensors, allow_unused=True)
        found = [
            torch.zeros_like(tensor) if one is None else one
            for tensor, one in zip(tensors, found, strict=True)
        ]
        value = value.detach()
    else:
        raise NotImplementedError(f"no gradient on the backend {backend}")
    return np.asarray(value), [np.asarray(one) for one in found]


def wants_jit(asked: bool = False) -> bool:
    """What `jit_compile` of a training should be; JAX without it runs every operation alone."""
    return asked or keras.backend.backend() == "jax"


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as one graph: what does not reach its result is left out.

    Args:
        function: From arrays to tensors; `keras.ops` inside. What it closes over is taken as it
            is at the first call with new shapes.

    Returns:
        The same from arrays to arrays or tensors.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function


def compiled_model(model: keras.Model) -> Callable[[Any], Any]:
    """The model at inference, as a graph where the backend has one that follows its weights.

    Its batch, height and width may change from call to call.
    """
    if keras.backend.backend() != "tensorflow":
        return lambda inputs: model(inputs, training=False)
    import tensorflow as tf

    specs = [tf.TensorSpec((None, *one.shape[1:]), tf.float32) for one in model.inputs]
    signature = [specs if len(specs) > 1 else specs[0]]
    return tf.function(lambda inputs: model(inputs, training=False), signature, autograph=False)


def compiled_gradient(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The gradient of a scalar function by its first input, as one graph.

    Args:
        function: From arrays to a scalar tensor; `keras.ops` inside. See `compiled`.

    Returns:
        From the same arrays to an array of the first one's shape; zeros where it has no
        influence.

    Raises:
        NotImplementedError: The backend is none of tensorflow, jax and torch.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def gradient(first: Any, *rest: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(first)
                value = function(first, *rest)
            return tape.gradient(value, first, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        graph = tf.function(gradient, reduce_retracing=True)

        def run(first: np.ndarray, *rest: np.ndarray) -> np.ndarray:
            tensors = (tf.convert_to_tensor(value) for value in (first, *rest))
            return np.asarray(graph(*tensors))

        return run
    if backend == "jax":
        import jax

        derived = jax.jit(jax.grad(function))
        return lambda *arrays: np.asarray(derived(*(jax.numpy.asarray(a) for a in arrays)))

    def once(first: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        _, found = value_and_gradients(lambda value: function(value, *rest), [first])
        return found[0]

    return once
