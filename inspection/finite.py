"""What is no finite number decides nothing: it is refused, never taken for OK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import InputError

if TYPE_CHECKING:
    import keras


class NotFinite(InputError):
    """A model gave NaN or infinity; on the line the part is a reject."""


def check_finite(**values: np.ndarray | float) -> None:
    """Refuses what no decision can rest on.

    Args:
        **values: Arrays of any shape, or numbers, by what they are.

    Raises:
        NotFinite: One of them holds NaN or infinity.
    """
    for name, value in values.items():
        finite = np.isfinite(value)
        if not finite.all():
            wrong = np.size(finite) - np.count_nonzero(finite)
            raise NotFinite(
                f"{wrong} of {np.size(finite)} {name.replace('_', ' ')} are not finite numbers, so "
                "nothing is decided (on the line: reject the part); the model is damaged or its "
                "training diverged: use another one, or train it again."
            )


def check_weights(model: keras.Model) -> None:
    """Refuses a network that holds a weight that is no finite number.

    It must be found before the network is used: where TensorFlow or OpenVINO run a convolution
    and its ReLU as one, NaN comes out as 0, and nothing of it is left in the outputs.

    Args:
        model: Built.

    Raises:
        NotFinite: A weight is NaN or infinite.
    """
    for weight in model.weights:
        check_finite(**{f"weights of {weight.path}": np.asarray(weight)})


@contextmanager
def names_file(file: object) -> Iterator[None]:
    """Puts a file's name before what is said of its values; an array has none.

    Args:
        file: A path (of a model, too), or the pixels.
    """
    try:
        yield
    except NotFinite as error:
        if isinstance(file, np.ndarray):
            raise
        raise NotFinite(f"{file}: {error}") from error
