"""How a user types a verb from where they are."""

from __future__ import annotations

import shlex
from pathlib import Path


def command_line(room: str, *arguments: object) -> str:
    """A command that works in the working directory.

    `python -m classification` is found there only if the package is; the folder itself can be
    run from anywhere.

    Args:
        room: The package that is run.
        *arguments: The verb and what follows.
    """
    place = Path(__file__).resolve().parents[2] / room
    here = Path.cwd() / place.name
    start = ["-m", place.name] if here.is_dir() and here.samefile(place) else [str(place)]
    return shlex.join(["python", *start, *map(str, arguments)])
