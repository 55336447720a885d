"""Ctrl-C and SIGTERM during long work: remembered, and acted on where nothing is half done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, raised at a point where the work can be saved and gone on with."""


class InterruptGuard:
    """While entered, the first Ctrl-C or SIGTERM only sets a flag; a second Ctrl-C raises at once.

    Python raises KeyboardInterrupt between any two instructions: between a step's changed weights
    and its count, or inside a library's C++ callback. Long work calls `check()` between steps
    instead. A second SIGTERM changes nothing: `timeout` and service managers send it twice. In a
    thread other than the main one, or where a signal is ignored (a shell's background job), it is
    left as it is.

    Args:
        doing: What is finished first, for the sentence at the first signal.
        say: Told that sentence; standard error where left out. It runs in a signal handler.
    """

    def __init__(self, doing: str = "this step", say: Callable[[str], None] | None = None) -> None:
        self._say = say or _to_stderr
        self._doing = doing
        self._before: dict[signal.Signals, Any] = {}
        self.wanted = False

    def __enter__(self) -> InterruptGuard:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None is a handler that Python cannot put back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def check(self) -> None:
        """Raises `Interrupted` where a signal came since."""
        if self.wanted:
            raise Interrupted

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        if self.wanted:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.wanted = True
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._say(f"{name}: finishing {self._doing}; Ctrl-C stops at once.")


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds off Ctrl-C and SIGTERM while something is saved."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not None:
                before[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _to_stderr(text: str) -> None:
    # Not print: a handler may come in the midst of one, which Python's buffers do not bear.
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
