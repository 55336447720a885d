"""The one place that takes a gradient on the running Keras backend."""

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
