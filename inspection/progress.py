"""How far something is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with what is done and the whole."""
StageProgress = Callable[[str, int, int], None]
"""Called with the name of the stage, and of it what is done and the whole."""


def silent(*_: object) -> None:
    """Progress of either kind that nobody sees."""
