"""Flags made of settings, and the options that the verbs of several rooms share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from inspection.errors import InputError
from inspection.fields import HEADINGS, Flag
from inspection.settings import read_settings

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its model.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a run.")]
Output = Annotated[Path, typer.Option(help="Folder of the results.")]
Beside = Annotated[
    Path | None,
    typer.Option(help="Folder of the results.", show_default="evaluation_SPLIT beside the model"),
]
Restart = Annotated[bool, typer.Option("--restart", help="Do finished images again.")]
Paths = Annotated[list[Path], typer.Argument(metavar="PATHS", help="Image files and folders.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that the model looks at together.")]
Split = Annotated[
    str | None,
    typer.Option(
        help="Part of the run's own split: train, val, test or all.",
        show_default="test; all of other images",
    ),
]
OtherData = Annotated[
    Path | None,
    typer.Option(
        help="Where the run's images are now, or other images to measure.",
        show_default="the run's own",
    ),
]
Format = Annotated[str, typer.Option(help="openvino or onnx.")]
Exported = Annotated[
    Path | None, typer.Option(help="File to write.", show_default="beside the model")
]
Compared = Annotated[
    Path | None,
    typer.Option(help="Other images to compare on.", show_default="the run's test part"),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")]
Address = Annotated[
    str,
    typer.Option(
        help="Who may open the page; 0.0.0.0 lets everyone on the network open it and save."
    ),
]
Browser = Annotated[bool, typer.Option(help="Open the page in the browser.")]

_CONTEXT = "context"
_PLACED = "_placed"  # ends the name of a setting's positional twin
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def takes_settings(
    kind: type[BaseModel],
    *,
    positional: Iterable[str] = (),
    only: Iterable[str] | None = None,
    without: Iterable[str] = (),
    optional: Iterable[str] = (),
    defaults: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb a flag for each setting, beside its own parameters.

    The verb's first parameter becomes a dict of the settings that were typed, as
    `inspection.settings.read_settings` takes them.

    Args:
        kind: The settings' class; its fields carry an `inspection.fields.Flag`.
        positional: Fields that may be given without a flag, in this order.
        only: The fields this verb takes beside them; all where left out.
        without: Fields it does not take.
        optional: Fields without a default that it can do without.
        defaults: What a field left out means to this verb, where it is not the field's default.
    """
    settings = settings_of(kind)
    wanted = set(settings if only is None else (*only, *positional)) - set(without)

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        # By the name of its parameter, in the order of `--help`.
        made = {f"{name}{_PLACED}": settings[name] for name in positional}
        shown = [settings[name].argument(name in optional) for name in positional]
        for name, setting in settings.items():
            if name in wanted and not (setting.field.is_required() and name in positional):
                made[name] = setting
                shown.append(setting.option((defaults or {}).get(name)))

        @functools.wraps(verb)
        def command(**values: Any) -> None:
            context, given = values.pop(_CONTEXT), {}
            for key, setting in made.items():
                value, source = values.pop(key), context.get_parameter_source(key)
                if value is None or source is None or source.name != "COMMANDLINE":
                    continue
                if setting.name in given:
                    raise InputError(f"{setting.typed}: is given with this flag and without")
                given[setting.name] = setting.value(value)
            verb(given, **values)

        _, *own = inspect.signature(verb, eval_str=True).parameters.values()
        parameters = [
            inspect.Parameter(_CONTEXT, _KEYWORD, annotation=typer.Context),
            *shown,
            *(one.replace(kind=_KEYWORD) for one in own),
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


def settings_of(kind: type[BaseModel]) -> dict[str, Setting]:
    """The settings that are flags, in the order of `--help`.

    A field without an `inspection.fields.Flag` is none, but only a line of a `--config`.
    """
    found = []
    for name, field in kind.model_fields.items():
        flags = [item for item in field.metadata if isinstance(item, Flag)]
        if flags:  # a room's own words come after the shared ones
            found.append(Setting(name, field, flags[-1]))
    found.sort(key=lambda one: HEADINGS.index(one.flag.heading))
    return {one.name: one for one in found}


@dataclass(frozen=True)
class Setting:
    """A field of a settings' class, and the flag that it is on a command line."""

    name: str
    field: FieldInfo
    flag: Flag

    @property
    def typed(self) -> str:
        """As it is typed: `--batch-size`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def help(self) -> str:
        """What it means, and its choices."""
        text, (kind, choices) = self.flag.text, self._kind
        if kind is not Literal or all(choice in text for choice in choices):
            return text
        *most, last = choices
        return f"{text.removesuffix('.')}: {', '.join(most)} or {last}."

    @property
    def _kind(self) -> tuple[Any, tuple[Any, ...]]:
        """Its type without None and limits, or that type's origin and what is in its brackets."""
        kind: Any = self.field.annotation
        while get_origin(kind) in (Annotated, Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not NoneType)
        return get_origin(kind) or kind, get_args(kind)

    def option(self, instead: str | None = None) -> inspect.Parameter:
        """The flag; `instead` is shown for its default."""
        kind, _ = self._kind
        names = [self.typed, *(f"--{name}" for name in self.flag.also)]
        if kind is bool and not self.flag.typed:
            names = [f"{one}/--no-{one[2:]}" for one in names]
        elif kind in (bool, tuple, Literal):
            kind = str
        words = instead or self.flag.default
        default = None if words or self.field.is_required() else self.field.default
        if isinstance(default, tuple):
            default = ",".join(f"{number:g}" for number in default)
        option = typer.Option(
            *names,
            help=self.help,
            show_default=words or True,
            rich_help_panel=self.flag.heading,
        )
        return inspect.Parameter(
            self.name,
            _KEYWORD,
            annotation=Annotated[kind | None, option],
            default=str(default) if self.flag.typed else default,
        )

    def argument(self, optional: bool = False) -> inspect.Parameter:
        """Its twin without a flag; the only way to give what has no default."""
        kind, _ = self._kind
        alone = self.field.is_required()
        required = alone and not optional
        argument = typer.Argument(
            help=self.help if alone else f"The same as {self.typed}.",
            metavar=self.name.upper(),
            show_default=False,
        )
        return inspect.Parameter(
            f"{self.name}{_PLACED}",
            _KEYWORD,
            annotation=Annotated[kind if required else kind | None, argument],
            default=inspect.Parameter.empty if required else None,
        )

    def value(self, typed: Any) -> Any:
        """What was typed, as the settings' class takes it.

        Raises:
            InputError: It is not as many numbers, with commas between them, as there must be.
        """
        kind, arguments = self._kind
        if kind is not tuple:
            return typed
        try:
            numbers = tuple(float(part) for part in typed.replace("/", ",").split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != len(arguments):
            raise InputError(
                f"{self.typed} {typed}: give {len(arguments)} numbers with commas between them"
            )
        return numbers
