"""One process at a time: a lock that says who holds it and that no kill leaves behind."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TextIO

from inspection.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_FAR = 1 << 30  # Windows lets nobody read what is locked, so a byte beyond the text is
_WAIT_SECONDS = 0.05
_LONGEST_HOLDER = 120  # characters


@contextlib.contextmanager
def locked(path: str | Path, instead: str, wait: bool = False) -> Iterator[None]:
    """Holds a lock file; the system lets go of it when the process ends, however it ends.

    The file holds the process, the machine and the time, for whoever finds it taken. It is
    removed at the end; one that a kill left behind is free.

    Args:
        path: The lock file, beside what it guards. Its folder is made where missing.
        instead: What to do where another process holds it, for the message.
        wait: True waits for it.

    Raises:
        InputError: Another process holds it; the message names which.
        OSError: The file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        file = _taken(path, instead, wait)
        if fcntl is None:  # an open file cannot be removed there
            stack.callback(_remove, path)
        stack.callback(file.close)
        if fcntl is not None:
            stack.callback(_remove, path)
        file.truncate(0)
        file.write(
            f"process {os.getpid()} on {platform.node()}, since {datetime.now():%Y-%m-%d %H:%M:%S}"
        )
        file.flush()
        yield


def _taken(path: Path, instead: str, wait: bool) -> TextIO:
    """The lock file, open and locked."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            if not _lock(file):
                if not wait:
                    raise InputError(
                        f"{path.parent}: is in use by {_holder(path)} ({path.name}); {instead}"
                    )
            elif _is_still(path, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        if wait:
            time.sleep(_WAIT_SECONDS)


def _lock(file: TextIO) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        # A network folder may know no locks; it is not a reason to refuse all work there.
        return error.errno not in _BUSY
    return True


def _is_still(path: Path, file: TextIO) -> bool:
    """Whether the name still leads to this file: its last holder may just have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _holder(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:_LONGEST_HOLDER]
    except OSError:
        text = ""
    return "".join(filter(str.isprintable, text)) or "another process"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
