"""Settings of a run: from flags and a YAML file, and back into the run's folder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import ConstructorError

from inspection.errors import InputError, shortened
from inspection.files.writing import write_text_atomic

_LARGEST = 100_000  # bytes of a file of settings
_DEEPEST = 10  # levels of one
_TOO_MUCH = 2**32  # what seeds end at, and more than any size, count or rate

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
        values.update(read_yaml(config))
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        settings = kind(**values)
    except ValidationError as error:
        wrong = [(item["loc"], _sentence(kind, item)) for item in error.errors()]
        read = values
    else:
        wrong, read = [], dict(settings)
    named = {loc[:1] for loc, _ in wrong}
    wrong += [
        ((name,), f"must be a number below {_TOO_MUCH} (given: {_echoed(value)})")
        for name, value in read.items()
        if _is_too_much(value) and (name,) not in named
    ]
    if wrong:
        raise InputError([f"{_place(loc, config, given)}: {text}" for loc, text in wrong])
    return settings


def save_settings(settings: BaseModel, path: Path) -> None:
    """Writes the complete settings as YAML that `read_settings` reads back."""
    values = settings.model_dump(mode="json")
    write_text_atomic(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _is_too_much(value: Any) -> bool:
    """Whether it is, or holds, a number that no setting means, NaN and infinity included."""
    if isinstance(value, list | tuple):
        return any(map(_is_too_much, value))
    return isinstance(value, int | float) and not abs(value) < _TOO_MUCH


def _place(loc: Sequence[int | str], config: Path | None, given: dict[str, Any]) -> str:
    """The flag as typed, or the file and its field."""
    names = [str(part) for part in loc] or ["settings"]
    if given.get(names[0]) is not None or config is None:
        return f"--{names[0].replace('_', '-')}"
    return f"{config}, {shortened('.'.join(names))}"


def _sentence(kind: type[BaseModel], error: Mapping[str, Any]) -> str:
    if error["type"] != "extra_forbidden":
        text = "must be True or False" if error["type"] == "bool_parsing" else error["msg"]
        text = text.removeprefix("Value error, ").replace("Input should be", "must be")
        return f"{text} (given: {_echoed(error['input'])})"
    near = difflib.get_close_matches(str(error["loc"][-1]), kind.model_fields, 1)
    return f"there is no such setting{f'; is {near[0]} meant?' if near else ''}"


def _echoed(value: Any) -> str:
    try:
        return shortened(repr(value))
    except ValueError:  # a number of more digits than Python writes
        return "a number of thousands of digits"


class _Loader(yaml.SafeLoader):
    """YAML as a file of settings needs it: no references, no depth, no name twice."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise ConstructorError(
                None, None, "references such as *name are not read", event.start_mark
            )
        if self._depth == _DEEPEST:
            raise ConstructorError(
                None, None, f"more than {_DEEPEST} levels deep", event.start_mark
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            # As settings are named: batch-size and batch_size are the same.
            name = str(key.value).replace("-", "_")
            if name in seen:
                raise ConstructorError(
                    None, None, f"{shortened(name)!r} is set twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # PyYAML's constructors raise whatever Python does: `!!int abc`, a date of month 13.
        except Exception as error:
            reason = f"{shortened(str(node.value))!r} is no {node.tag.rpartition(':')[2]}"
            raise ConstructorError(None, None, reason, node.start_mark) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a YAML file of settings, not yet checked.

    Raises:
        InputError: It cannot be read as such.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise InputError(
                f"{path}: is larger than {_LARGEST // 1000} kB, which no settings are; correct the "
                "path of --config"
            )
        content = yaml.load(text.decode("utf-8-sig"), _Loader)
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
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path}: must hold lines like `seed: 0`, one field each.")
    return {key.replace("-", "_"): value for key, value in content.items()}


def choices_of(settings: BaseModel, name: str) -> tuple[str, ...]:
    """The values that a setting may have.

    Args:
        settings: Of any room.
        name: The setting; a `Literal`.
    """
    return get_args(type(settings).model_fields[name].annotation)
