"""A room's verbs: as one command line, as a user types them, and in a process of their own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import typer

_ROOT = Path(__file__).resolve().parents[2]


def own_environment() -> dict[str, str]:
    """This process's environment, in which Python finds the rooms from any working directory."""
    environment = dict(os.environ)
    if _ROOT.name not in ("site-packages", "dist-packages"):
        places = [str(_ROOT), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return environment


def app(help: str, verbs: Iterable[Callable[..., None]]) -> typer.Typer:
    """The command line of a room.

    Args:
        help: What the room is for.
        verbs: In the order in which they are listed.
    """
    made = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=help
    )
    for verb in verbs:
        made.command()(verb)
    return made


def command_line(room: str, *arguments: object) -> str:
    """A command that works in the working directory.

    `python -m classification` is found there only if the package is; the folder itself can be
    run from anywhere.

    Args:
        room: The package that is run.
        *arguments: The verb and what follows.
    """
    place = _ROOT / room
    here = Path.cwd() / place.name
    start = ["-m", place.name] if here.is_dir() and here.samefile(place) else [str(place)]
    return shlex.join(["python", *start, *map(str, arguments)])


def flags(**given: object) -> list[str]:
    """Options as they are typed, without those that were left out.

    Args:
        **given: Name to value; True stands for the bare flag.
    """
    found = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is not None and value is not False:
            found += [flag] if value is True else [flag, str(value)]
    return found
