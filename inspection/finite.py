"""What is no finite number decides nothing: it is refused, never taken for OK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from inspection.errors import InputError


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
                f"{wrong} of {np.size(finite)} {name.replace('_', ' ')} that the model gives are "
                "not finite numbers, so nothing is decided (on the line: reject the part); the "
                "model is damaged or its training diverged: use another one, or train it again."
            )


@contextmanager
def names_image(image: object) -> Iterator[None]:
    """Puts a file's name before what is said of its values; an array has none.

    Args:
        image: A path, or the pixels.
    """
    try:
        yield
    except NotFinite as error:
        if isinstance(image, np.ndarray):
            raise
        raise NotFinite(f"{image}: {error}") from error
