"""Run folders: atomic writes, hashes, and the record that says what made a result."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# Asked once: it can only be read by being set, which other threads would notice.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place only when the block succeeds.

    The suffix is kept, because Keras and OpenCV choose a format by it. On any exception,
    also a full disk, the temporary file is removed and what stood at `path` stays.

    Args:
        path: The file to write. Its folder is made where missing.

    Yields:
        The path to write to.

    Raises:
        OSError: The file could not be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem[:40]}.", suffix=path.suffix, dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
        # mkstemp makes files private; a result should carry the user's usual permissions.
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def copy_atomic(source: str | Path, target: str | Path) -> None:
    """Copies a file's content so that a reader sees the old target or the whole new one."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def sweep_temporary(folder: str | Path, names: Iterable[str]) -> None:
    """Removes what `atomic_path` left of killed writes.

    Only for whoever holds the lock under which these files are written: a temporary file tells
    nobody whether its writer is alive.

    Args:
        folder: Where the files are.
        names: The files that were to be written, with `*` and `?` as in a shell.
    """
    for name in map(Path, names):
        for path in Path(folder).glob(f".{name.stem}.????????{name.suffix}"):
            path.unlink(missing_ok=True)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Writes UTF-8 text so that a reader sees the old file or the new one, never half of it."""
    with atomic_path(path) as temporary:
        # Names that are not UTF-8 are refused where they come in; an output must not fail late.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json_atomic(path: str | Path, value: Any) -> None:
    """Writes indented JSON atomically; non-ASCII stays readable, NaN and infinity become null."""
    write_text_atomic(path, json.dumps(_jsonable(value), indent=2, ensure_ascii=False) + "\n")


def peak_memory_mb() -> float:
    """The most memory this process has held, in 10^6 bytes; NaN where the system does not tell."""
    # What getrusage tells on Linux includes the process that started this one.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows has none
        return math.nan
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def may_write(folder: str | Path) -> bool:
    """Whether a folder is meant to be written to; its mode binds the administrator too.

    An archive that was made read-only stays as it is, also when a container runs as root.
    """
    folder = Path(folder)
    try:
        return bool(folder.stat().st_mode & 0o200) and os.access(folder, os.W_OK)
    except OSError:
        return False
