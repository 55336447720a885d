"""The last handler of every command line: one line for a person, the details in a file.

Only the standard library is imported, so that a missing package is one line too.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
import tempfile
import threading
import traceback
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any

from inspection.errors import InputError, first_line, group_alike, one_line

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells give it."""

_READER_LEFT = 1
_LONGEST = 200  # characters of another library's message
_PACKAGES = (
    *("tensorflow", "keras", "keras-cv", "numpy", "opencv-python-headless", "albumentations"),
    *("openvino", "onnxruntime", "streamlit", "typer", "rich", "pydantic"),
)
_OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError", "_ArrayMemoryError")


def run(module: str, command: str, *, alone: bool = False, **options: Any) -> None:
    """Imports a command and calls it, as an entry point's last act.

    However it ends, there is no traceback on the screen: see `reported`.

    Args:
        module: Full name of the command's module, imported here since importing may fail too.
        command: Its name there: a Typer app, or a function without arguments.
        alone: It is one verb of an app, called without the verb's name.
        **options: For the call.

    Raises:
        SystemExit: Wherever something went wrong.
    """
    threading.excepthook = _of_a_thread
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not UTF-8, or a console without Korean, must not end a command.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            called = getattr(importlib.import_module(module), command)
            if alone:
                import typer

                typer.run(called)
            else:
                called(**options)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        raise SystemExit(reported(error)) from None


def reported(error: BaseException) -> int:
    """Says on standard error what ended a command.

    Args:
        error: What was raised.

    Returns:
        The exit status: 130 after Ctrl-C, 1 where the reader of a pipe has left, else 2.
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _silence_output()
        return _READER_LEFT
    for line in _lines(error):
        # Where nobody listens any more there is nothing left to say.
        with contextlib.suppress(OSError, ValueError):
            print(f"Error: {line}", file=sys.stderr)
    return 2


def _lines(error: BaseException) -> tuple[str, ...]:
    if isinstance(error, InputError):
        return tuple(group_alike(error.problems))
    if isinstance(error, OSError) and error.filename is not None:
        text = (
            f"{_printable(error.filename)}: cannot be read or written "
            f"({error.strerror or error}); check the path, permissions and free disk space."
        )
        return (one_line(text),)
    what = f"{type(error).__name__}: {first_line(error)[:_LONGEST]}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        text = (
            f"the package {error.name.partition('.')[0]} is not installed; install what "
            "requirements.txt names."
        )
    elif type(error).__name__ in _OUT_OF_MEMORY:
        text = "out of memory; give a smaller --size, --crop or --batch-size, or fewer images."
    elif isinstance(error, OSError):
        text = f"the system refused ({what}); check permissions and free disk space."
    else:
        text = f"an unexpected error occurred ({what}); please report it with the details."
    return (f"{text} Details: {_written(error)}",)


def _printable(name: Any) -> str:
    if not isinstance(name, str | bytes | os.PathLike):
        return str(name)
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _written(error: BaseException) -> str:
    """Writes everything that helps to find the cause; the file's path, or why there is none."""
    lines = [f"command: {sys.argv!r}", f"folder: {_folder()}"]
    lines += [f"python: {sys.version}", f"system: {platform.platform()}"]
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{name}: {version(name)}")
    text = "\n".join([*lines, "", *traceback.format_exception(error)])
    try:
        handle, path = tempfile.mkstemp(prefix="inspection-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as refused:
        return f"could not be written ({refused.strerror or refused})"
    return path


def _folder() -> str:
    try:
        return str(os.getcwd())  # noqa: PTH109  as text, also where it cannot be resolved
    except OSError as error:
        return f"gone ({error.strerror})"


def _silence_output() -> None:
    """Standard output goes nowhere from here, or Python would complain once more at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _of_a_thread(args: threading.ExceptHookArgs) -> None:
    value: BaseException | None = args.exc_value
    trace: TracebackType | None = args.exc_traceback
    if value is not None and not isinstance(value, SystemExit):
        reported(value.with_traceback(trace))
