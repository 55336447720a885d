"""What keeps the pictures of one part together: a regular expression or a table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from inspection.errors import InputError


def grouping_by(group_by: str | Path | None) -> Callable[[str], str]:
    """From an image to the name of its group, its own name where it has none.

    Args:
        group_by: A regular expression with one capture group, searched in the file name, then
            in the path; or a CSV file with the columns `image` and `group` (another name will
            do); None makes every image a group of its own.

    Raises:
        InputError: It is no such expression or file; every bad line is named.
    """
    if group_by is None:
        return lambda image: image
    if isinstance(group_by, Path) or group_by.lower().endswith(".csv"):
        return _grouping_by_table(Path(group_by))
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise InputError(
            f"--group-by {group_by!r}: is no regular expression ({error}); an example that takes "
            r"all before the last underscore is '(.+)_\d+'"
        ) from error
    if pattern.groups != 1:
        raise InputError(
            f"--group-by {group_by!r}: has {pattern.groups} capture groups and needs one; put "
            "round brackets around the part's name, and (?:...) around anything else"
        )

    def group(image: str) -> str:
        found = pattern.search(PurePosixPath(image).name) or pattern.search(image)
        return (found.group(1) if found else None) or image

    return group


def _grouping_by_table(path: Path) -> Callable[[str], str]:
    rows = read_csv_rows(path)
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    others = [name for name in header if name != "image"]
    if header.count("image") != 1 or ("group" not in others and len(others) != 1):
        raise InputError(
            f"{path}, line 1: must name the columns image and group (or one other column)"
        )
    key, value = header.index("image"), header.index("group" if "group" in others else others[0])
    groups: dict[str, str] = {}
    problems: list[str] = []
    for line, cells in rows[1:]:
        where = f"{path}, line {line}"
        if len(cells) != len(header) or not cells[key].strip() or not cells[value].strip():
            problems.append(f"{where}: must hold an image and its group; complete the line")
            continue
        image, group = cells[key].strip().replace("\\", "/"), cells[value].strip()
        if groups.setdefault(image, group) != group:
            problems.append(
                f"{where}: puts {image} into the group {group!r}, a line above into "
                f"{groups[image]!r}; keep one"
            )
    if problems:
        raise InputError(problems)
    return lambda image: groups.get(image) or groups.get(PurePosixPath(image).name) or image


def read_csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, with their line numbers.

    Raises:
        InputError: The file cannot be read, is not UTF-8 or no CSV.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        return [(reader.line_num, cells) for cells in reader if any(cells)]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8; save the file as CSV UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: is not CSV ({error})") from error
