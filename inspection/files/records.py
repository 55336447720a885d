"""JSON that a program wrote and anyone may have changed since: read through a checked model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from inspection.errors import InputError

_MOST_BYTES = 64 * 2**20
_Model = TypeVar("_Model", bound=BaseModel)


def _plain(value: str) -> str:
    if value in ("", ".", "..") or set(value) & set("/\\:") or not value.isprintable():
        raise ValueError("must be the plain name of a file, without folders")
    return value


FileName = Annotated[str, AfterValidator(_plain)]
"""The name of a file beside the one that it stands in: no folder, no drive."""


def _below(value: str) -> str:
    path = Path(value)
    if not path.parts or path.anchor or ".." in path.parts or "\0" in value:
        raise ValueError("must lie below the folder")
    return value


PathBelow = Annotated[str, AfterValidator(_below)]
"""The path of a file below the folder of the one that it stands in."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


def read_json(path: Path, kind: type[_Model], instead: str) -> _Model:
    """A JSON file as a checked model.

    Args:
        path: The file.
        kind: What it must hold.
        instead: What to do where it does not, for the message.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It cannot be read or holds something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: is damaged (it is far too large); {instead}")
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {instead}") from error
    except ValidationError as error:
        raise InputError(f"{path}: is damaged ({first_problem(error)}); {instead}") from error


def first_problem(error: ValidationError) -> str:
    """Field and fault of the first problem that a model found, in at most 200 characters."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in found["loc"])
    text = found["msg"].removeprefix("Value error, ")
    return f"{place}: {text}"[:200] if place else text[:200]
