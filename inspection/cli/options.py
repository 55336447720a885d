"""Flags made of settings, and the options that the verbs of several rooms share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from inspection.errors import InputError
from inspection.fields import HEADINGS, Flag
from inspection.settings import read_settings

Run = Annotated[Path, typer.Argument(help="A run's folder.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run.")]
Output = Annotated[Path, typer.Option(help="Folder of the results.")]
Beside = Annotated[
    Path | None,
    typer.Option(help="Folder of the results.", show_default="evaluation_SPLIT beside the model"),
]
Restart = Annotated[bool, typer.Option("--restart", help="Do finished images again.")]
Paths = Annotated[list[Path], typer.Argument(help="Image files and folders.")]
Split = Annotated[str, typer.Option(help="Part of the run's split: train, val or test.")]
OtherData = Annotated[
    Path | None,
    typer.Option(help="Other images, all of which are measured.", show_default="the run's own"),
]
Format = Annotated[str, typer.Option(help="openvino or onnx.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")]
Address = Annotated[
    str, typer.Option(help="Who may open the page; 0.0.0.0 lets the whole network, and save.")
]
Browser = Annotated[bool, typer.Option(help="Open the page in the browser.")]

_CONTEXT = "context"
_PLACED = "_placed"  # ends the name of a setting's positional twin


def takes_settings(
    kind: type[BaseModel],
    *,
    positional: Iterable[str] = (),
    only: Iterable[str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb a flag for each setting, beside its own parameters.

    The verb's first parameter becomes a dict of the settings that were typed, as
    `inspection.settings.read_settings` takes them.

    Args:
        kind: The settings' class; its fields carry an `inspection.fields.Flag`.
        positional: Fields that may be given without a flag, in this order.
        only: The fields this verb takes; all where left out.
        defaults: What a field left out means to this verb, where it is not the field's default.
    """
    wanted = set(kind.model_fields if only is None else (*only, *positional))
    flags = {name: flag_of(field) for name, field in kind.model_fields.items()}
    names = [name for name, flag in flags.items() if name in wanted and flag is not None]
    names.sort(key=lambda name: HEADINGS.index(flags[name].heading))
    fields = {name: kind.model_fields[name] for name in names}

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(verb, eval_str=True).parameters.values()
        made = {name: _argument(name, fields[name]) for name in positional}
        made = {f"{name}{_PLACED}": parameter for name, parameter in made.items()}
        for name, field in fields.items():
            if not (field.is_required() and name in positional):
                made[name] = _option(name, field, (defaults or {}).get(name))

        @functools.wraps(verb)
        def command(**values: Any) -> None:
            context, given = values.pop(_CONTEXT), {}
            for key, parameter in made.items():
                value, source = (
                    values.pop(parameter.name),
                    context.get_parameter_source(parameter.name),
                )
                if value is None or source is None or source.name != "COMMANDLINE":
                    continue
                name = key.removesuffix(_PLACED)
                if name in given:
                    raise InputError(
                        f"--{name}: is given with this flag and without; leave one out"
                    )
                given[name] = _value(name, fields[name], value)
            verb(given, **values)

        parameters = [
            inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *made.values(),
            *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own),
        ]
        # Typer looks at both.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def typed_settings(kind: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """What was typed, as the settings take it, and nothing else.

    Raises:
        InputError: A value does not fit.
    """
    settings = read_settings(kind, None, given)
    return {name: getattr(settings, name) for name in given}


def flag_of(field: FieldInfo) -> Flag | None:
    """How a field is shown; None where it is no flag, but only a line of a `--config`."""
    flags = [item for item in field.metadata if isinstance(item, Flag)]
    return flags[-1] if flags else None  # a room's own words come after the shared ones


def help_of(field: FieldInfo) -> str:
    """The help text of a field's flag: what it means, and its choices."""
    text, (kind, arguments) = flag_of(field).text, _kind(field)
    if kind is not Literal or all(choice in text for choice in arguments):
        return text
    *most, last = arguments
    return f"{text.removesuffix('.')}: {', '.join(most)} or {last}."


def _kind(field: FieldInfo) -> tuple[Any, tuple[Any, ...]]:
    """A field's type without None and limits, or its origin and what stands in its brackets."""
    kind = field.annotation
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = next(one for one in get_args(kind) if one is not NoneType)
    return get_origin(kind) or kind, get_args(kind)


def _option(name: str, field: FieldInfo, instead: str | None) -> inspect.Parameter:
    flag, (kind, _) = flag_of(field), _kind(field)
    names = [f"--{one.replace('_', '-')}" for one in (name, *flag.also)]
    if kind is bool and flag.typed:
        kind = str
    elif kind is bool:
        names = [f"{one}/--no-{one[2:]}" for one in names]
    elif kind in (tuple, Literal):
        kind = str
    usual = None if field.is_required() else field.default
    words = instead or flag.default
    option = typer.Option(
        *names,
        help=help_of(field),
        show_default=words if words is not None else True,
        rich_help_panel=flag.heading,
    )
    if words is None and isinstance(usual, tuple):
        usual = ",".join(f"{number:g}" for number in usual)
    elif words is None and flag.typed:
        usual = str(usual)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind | None, option],
        default=None if words is not None else usual,
    )


def _argument(name: str, field: FieldInfo) -> inspect.Parameter:
    required, (kind, _) = field.is_required(), _kind(field)
    option = typer.Argument(
        help=help_of(field) if required else f"The same as --{name.replace('_', '-')}.",
        metavar=name.upper(),
        show_default=False,
    )
    return inspect.Parameter(
        f"{name}{_PLACED}",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind if required else kind | None, option],
        default=inspect.Parameter.empty if required else None,
    )


def _value(name: str, field: FieldInfo, value: Any) -> Any:
    kind, arguments = _kind(field)
    return numbers_of(name, value, len(arguments)) if kind is tuple else value


def numbers_of(name: str, text: str, count: int) -> tuple[float, ...]:
    """The numbers of a setting such as `--roi 10,10,200,90`.

    Args:
        name: The setting's, for the message.
        text: As typed.
        count: How many there must be.

    Raises:
        InputError: It is not so many numbers with commas between them.
    """
    try:
        values = tuple(float(part) for part in text.replace("/", ",").split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        flag = f"--{name.replace('_', '-')}"
        raise InputError(f"{flag} {text}: give {count} numbers with commas between them")
    return values
