"""What keeps the images of one part together: a regular expression or a table."""

from __future__ import annotations

import re
import signal
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from inspection.errors import InputError, few, first_line, shortened
from inspection.files.tables import Table

_SECONDS = 5  # that a regular expression may take for one image


def grouping_by(group_by: str | Path | None) -> Callable[[str], str]:
    """From an image to the name of its group, its own name where it has none.

    Args:
        group_by: A regular expression with one capture group, searched in the file name, then
            in the path; or a CSV file with the columns `image` and `group` (another name will
            do), whose images are found by path, by name, or by name without folder and suffix;
            None makes every image a group of its own.

    Raises:
        InputError: It is no such expression or file; every bad line is named.
    """
    if group_by is None:
        return lambda image: image
    if _is_table(group_by):
        return _grouping_by_table(Path(group_by))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            pattern = re.compile(str(group_by))
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        raise InputError(
            f"--group-by {group_by!r}: is no regular expression ({first_line(error)}); an example "
            r"that takes all before the last underscore is '(.+)_\d+'"
        ) from error
    if pattern.groups != 1:
        raise InputError(
            f"--group-by {group_by!r}: has {pattern.groups} capture groups and needs one; put "
            "round brackets around the part's name, and (?:...) around anything else"
        )

    def group(image: str) -> str:
        try:
            with _time_limit():
                found = pattern.search(PurePosixPath(image).name) or pattern.search(image)
        except TimeoutError as error:
            raise InputError(
                f"--group-by {group_by!r}: takes more than {_SECONDS} s on {image!r}, as a repeat "
                r"inside a repeat such as (a+)+ does; write it simpler, such as '(.+)_\d+'"
            ) from error
        return (found.group(1) if found else None) or image

    return group


def stem_note(group_by: str | Path | None, images: Iterable[str]) -> str:
    """A sentence where a table names images by other suffixes or folders than they have; else "".

    Args:
        group_by: As for `grouping_by`.
        images: The images to be grouped.

    Raises:
        InputError: As `grouping_by`.
    """
    if group_by is None or not _is_table(group_by):
        return ""
    table = _grouping_by_table(Path(group_by))
    found = sorted(image for image in images if table.is_by_stem(image))
    if not found:
        return ""
    number = "1 image is" if len(found) == 1 else f"{len(found)} images are"
    return (
        f"--group-by {group_by}: {number} named there as before `resize`, with another suffix or "
        f"folder, and matched by the name without them ({few(found, 3)})."
    )


def _is_table(group_by: str | Path) -> bool:
    return isinstance(group_by, Path) or group_by.lower().endswith(".csv")


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raises TimeoutError after a while: the one thing that stops a search that never ends.

    Only where there are alarms, which Windows and threads other than the first lack.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


class _Table:
    """Groups by the image's path, else by its name, else by its name without folder and suffix."""

    def __init__(self, groups: Mapping[str, str]) -> None:
        self._groups = groups
        self._by_stem: dict[str, str] = {}
        several = set()
        for image, group in groups.items():
            if self._by_stem.setdefault(_stem(image), group) != group:
                several.add(_stem(image))
        for stem in several:  # it does not say which group
            del self._by_stem[stem]

    def __call__(self, image: str) -> str:
        return self._named(image) or self._by_stem.get(_stem(image)) or image

    def is_by_stem(self, image: str) -> bool:
        """Whether only the stem says where an image belongs."""
        return not self._named(image) and _stem(image) in self._by_stem

    def _named(self, image: str) -> str | None:
        return self._groups.get(image) or self._groups.get(PurePosixPath(image).name)


def _stem(image: str) -> str:
    # A Mac stores Korean names decomposed.
    return unicodedata.normalize("NFC", PurePosixPath(image).stem).casefold()


def _grouping_by_table(path: Path) -> _Table:
    table = Table.read(path)
    others = [name for name in table.columns if name != "image"]
    if "image" not in table.columns or ("group" not in others and len(others) != 1):
        raise InputError(
            f"{path}, line 1: must name the columns image and group (or one other column)"
        )
    value = "group" if "group" in others else others[0]
    groups: dict[str, str] = {}
    problems: list[str] = []
    for where, row in table.records(("image", value), problems):
        image, group = row["image"].replace("\\", "/"), row[value]
        if groups.setdefault(image, group) != group:
            problems.append(
                f"{where}: puts {shortened(image)} into the group {group!r}, a line above into "
                f"{groups[image]!r}; keep one"
            )
    if problems:
        raise InputError(problems)
    return _Table(groups)
