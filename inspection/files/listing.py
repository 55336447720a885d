"""The files that a user brings: found below a folder, with names that every output can hold."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from inspection.errors import InputError, few, one_line

# A lone "\r" in a CSV, say, is the end of a line for whoever reads it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def list_files(
    folder: str | Path,
    suffixes: Collection[str],
    holds: str,
    problems: list[str] | None = None,
) -> list[Path]:
    """All files of these suffixes in a folder and the folders below it, sorted by path.

    Hidden files are left out: they are half-written files or a Mac's shadow files.

    Args:
        folder: Where to look.
        suffixes: In lower case, with the dot.
        holds: What the folder holds, for the message.
        problems: Takes what `name_problems` finds, and such files are then left out.

    Raises:
        InputError: The folder does not exist; or, without `problems`, no table holds some names.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the folder that holds the {holds}")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    unreadable = name_problems(found, folder)
    if unreadable:
        if problems is None:
            raise InputError(unreadable)
        problems += unreadable
        found = [path for path in found if _is_utf8(path) and not _has_control(path)]
    return found


def name_problems(paths: Iterable[Path], folder: Path | None = None) -> list[str]:
    """What keeps names, or those of the folders above them, out of tables; none where nothing does.

    Linux keeps any bytes, and a zip made by a Korean Windows leaves such that are not UTF-8; but no
    CSV, JSON, XML or page can hold them, nor control characters.

    Args:
        paths: Files.
        folder: What they lie in.
    """
    paths = list(paths)
    problems = []
    if wrong := [path for path in paths if not _is_utf8(path)]:
        count = "1 name is" if len(wrong) == 1 else f"{len(wrong)} names are"
        place, names = _named(wrong, folder)
        problems.append(
            f"{place}: {count} not UTF-8 ({names}), so no table holds them; unpack their "
            "zip again by `unzip -O cp949` (Korean Windows), or rename them by `convmv -r --notest "
            "-f cp949 -t utf8 FOLDER`"
        )
    if wrong := [path for path in paths if _has_control(path)]:
        count = "1 name holds" if len(wrong) == 1 else f"{len(wrong)} names hold"
        place, names = _named(wrong, folder)
        problems.append(
            f"{place}: {count} control characters, such as the end of a line ({names}), so no "
            "table holds them; rename them"
        )
    return [one_line(problem) for problem in problems]


def _named(wrong: list[Path], folder: Path | None) -> tuple[Path, str]:
    if folder is None or not _is_utf8(folder) or _has_control(folder):
        names, place = list(map(str, wrong)), wrong[0].parent if folder is None else folder
    else:
        names, place = [path.relative_to(folder).as_posix() for path in wrong], folder
    return place, few(names, 3)


def _has_control(path: Path) -> bool:
    return bool(_CONTROL.search(os.path.abspath(path)))  # noqa: PTH100  resolve() would follow links


def _is_utf8(path: Path) -> bool:
    try:
        os.path.abspath(path).encode()  # noqa: PTH100  resolve() would follow links
    except UnicodeEncodeError:
        return False
    return True
