"""What every command line of this project shares: errors, progress, plain lines."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inspection.cli.last_handler import reported
from inspection.errors import printable


def plain_console(**options: Any) -> Console:
    """A console that shows text as it is: a class named `[red]` or `:bug:` is a name."""
    return Console(highlight=False, markup=False, emoji=False, **options)


# A file has no width of its own, and rich's 80 columns would fold class names.
console = plain_console(width=None if sys.stdout.isatty() else 120)
stderr = plain_console(stderr=True)


def reports_errors(command: Callable[..., Any]) -> Callable[..., None]:
    """Ends a command by a line for each problem and a status, see `last_handler.reported`."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(reported(error)) from None

    return wrapper


@contextmanager
def progress(text: str) -> Iterator[Callable[..., None]]:
    """A bar with ETA on a terminal; a callback (done, total, text where it changes) feeds it."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    ) as bar:
        task = bar.add_task(text, total=None)

        def update(done: int, total: int, stage: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=stage)

        yield update


def counted(number: int, noun: str) -> str:
    """A number and its noun: `1 image`, `2 images`, `3 boxes`."""
    plural = f"{noun}es" if noun.endswith(("x", "ss")) else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def say(text: str) -> None:
    """Prints one line as it is."""
    console.print(printable(text), soft_wrap=True)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """One bar that changes its text from stage to stage; a callback (stage, done, total)."""
    with progress("starting") as bar:
        try:
            yield lambda what, done, total: bar(done, total, what)
        except KeyboardInterrupt:
            say("Interrupted. What was finished is kept: the same command goes on from there.")
            raise
