"""Settings of a run: from flags and a YAML file, and back into the run's folder."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ValidationError

from inspection.errors import InputError
from inspection.runs import write_text_atomic


def _one_folder(value: str) -> str:
    if not value or value in (".", "..") or set(value) & set("/\\"):
        raise ValueError("a run is the name of one folder, without / or \\")
    return value


RunName = Annotated[str, AfterValidator(_one_folder)]
_Settings = TypeVar("_Settings", bound=BaseModel)


def read_settings(kind: type[_Settings], config: Path | None, given: dict[str, Any]) -> _Settings:
    """Settings from a YAML file and from flags, which win.

    Args:
        kind: The settings' class.
        config: YAML file of its fields, or None.
        given: Flags; None means not given.

    Returns:
        Complete settings.

    Raises:
        InputError: The file cannot be read or a value does not fit; names every field.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values.update(_read_yaml(config))
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        return kind(**values)
    except ValidationError as error:
        raise InputError(
            [f"{_place(item, config, given)}: {_sentence(kind, item)}" for item in error.errors()]
        ) from error


def save_settings(settings: BaseModel, path: Path) -> None:
    """Writes the complete settings as YAML that `read_settings` reads back."""
    values = settings.model_dump(mode="json")
    write_text_atomic(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _place(error: dict[str, Any], config: Path | None, given: dict[str, Any]) -> str:
    """The flag as typed, or the file and its field."""
    names = [str(part) for part in error["loc"]]
    if given.get(names[0]) is not None or config is None:
        return f"--{names[0].replace('_', '-')}"
    return f"{config}, {'.'.join(names)}"


def _sentence(kind: type[BaseModel], error: dict[str, Any]) -> str:
    if error["type"] != "extra_forbidden":
        text = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        return f"{text} (given: {error['input']!r})"
    near = difflib.get_close_matches(str(error["loc"][-1]), kind.model_fields, 1)
    return f"there is no such setting{f'; is {near[0]} meant?' if near else ''}"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be opened ({error.strerror}); correct the path of --config"
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not UTF-8"
        raise InputError(
            f"{path}{line}: cannot be read as YAML ({problem}); write one `name: value` a line"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold lines like `seed: 0`, one field each.")
    return {str(key).replace("-", "_"): value for key, value in content.items()}
