"""Ctrl-C during long work: remembered, and acted on where nothing is half done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, raised at a point where the work can be saved and gone on with."""


class InterruptGuard:
    """While entered, the first Ctrl-C only sets a flag; a second one raises at once.

    Python raises KeyboardInterrupt between any two instructions: between a step's changed weights
    and its count, or inside a library's C++ callback. Long work calls `check()` between steps
    instead. In a thread other than the main one, or where Ctrl-C is ignored (a shell's
    background job), nothing is changed.

    Args:
        doing: What is finished first, for the sentence at the first Ctrl-C.
        say: Told that sentence; standard error where left out. It runs in a signal handler.
    """

    def __init__(self, doing: str = "this step", say: Callable[[str], None] | None = None) -> None:
        self._say = say or _to_stderr
        self._doing = doing
        self._before: Any = None
        self.wanted = False

    def __enter__(self) -> InterruptGuard:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        ):
            self._before = signal.signal(signal.SIGINT, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def check(self) -> None:
        """Raises `Interrupted` where Ctrl-C was pressed since."""
        if self.wanted:
            raise Interrupted

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        self._say(f"Ctrl-C: finishing {self._doing}; once more stops at once.")


def _to_stderr(text: str) -> None:
    # Not print: a handler may come in the midst of one, which Python's buffers do not bear.
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
