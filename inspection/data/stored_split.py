"""The split of a set of images, made once, stored, and only ever extended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspection.cli.console import counted
from inspection.data.grouping import stem_note
from inspection.data.split import (
    PARTS,
    Allowed,
    Labelled,
    Split,
    check_grouping,
    extend_split,
    load_split,
    make_split,
    save_split,
)
from inspection.errors import InputError
from inspection.files.writing import may_write


def split_path(source: Path, runs: Path, purpose: str) -> Path:
    """Where the split of a source is stored.

    Args:
        source: A data root.
        runs: Folder of the runs.
        purpose: What it is for; what may be learnt differs from one purpose to another, and so
            do the splits.
    """
    return runs / "splits" / f"{_stem(source)}-{purpose}.csv"


def shared_split_path(source: Path, runs: Path) -> Path:
    """Where the split of a source was stored as long as all purposes shared one."""
    return runs / "splits" / f"{_stem(source)}.csv"


def _stem(source: Path) -> str:
    place = source.resolve()
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    return f"{place.stem}-{digest}"


@dataclass(frozen=True)
class Judge:
    """What makes a split useless for a purpose, asked before anything is stored.

    Args:
        problem: From a split to a sentence without its full stop; empty where it will do.
        flag: Another value of it has a split of its own; empty where there is no such flag.
    """

    problem: Callable[[Split], str] = lambda split: ""
    flag: str = ""

    def refuse(self, split: Split, stored: Path | None) -> None:
        """Raises where a split is useless.

        Args:
            split: The split.
            stored: Its file; None while it is stored nowhere.

        Raises:
            InputError: Names the way out.
        """
        problem = self.problem(split)
        if not problem:
            return
        if stored is None:
            raise InputError(
                f"{problem}; add images, or give other --fractions or another --group-by (no "
                "split was stored)"
            )
        other = f", or give another {self.flag}" if self.flag else ""
        raise InputError(
            f"{problem} in the split {stored}; add images, or delete that file for a new split"
            f"{other}"
        )


def stored_split(
    items: Sequence[Labelled],
    path: Path,
    *,
    fractions: Sequence[float],
    seed: int = 0,
    group_by: str | None = None,
    allowed: Allowed | None = None,
    elsewhere: Path | None = None,
    before: Path | None = None,
    judge: Judge | None = None,
    called: Mapping[str, str] | None = None,
    of_run: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[Split, Path]:
    """The split of a file, extended by what is new; a new one where there is no file.

    Nothing is stored that the judge refuses.

    Args:
        items: All images.
        path: The split's file.
        fractions: Shares of train, val and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the images of one part together.
        allowed: The parts that an image may stand in, see `inspection.data.split.make_split`.
        elsewhere: Where an extended split goes whose folder is read-only.
        before: A split that serves in place of a new one if the judge has nothing against it.
        judge: Of what the split is for; nothing is refused where left out.
        called: Part to what it is called in a line; `train`, `val` and `test` where left out.
        of_run: The file is a run's own: what joins is stored with the run's record, not here.
        say: Receives lines about what was made.

    Returns:
        The split and where it is stored.

    Raises:
        InputError: The split cannot be made, read or extended, or is refused.
    """
    called = called or {part: part for part in PARTS}
    judge = judge or Judge()
    if note := stem_note(group_by, [item.image for item in items]):
        say(note)
    options: dict[str, Any] = {
        "fractions": fractions,
        "seed": seed,
        "group_by": group_by,
        "allowed": allowed,
    }
    source = path
    if not path.is_file() and before is not None and _serves(before, judge, group_by):
        source = before
    if not source.is_file():
        split = make_split(items, **options)
        judge.refuse(split, None)
        save_split(split, path)
        say(f"There was no split: made one, {_counts(split, called)}, stored in {path}.")
        return split, path
    split = load_split(source)
    new = [item for item in items if item.image not in split.assignments]
    with _named(source):
        if group_by is not None:
            check_grouping(split, group_by)
        if new:
            split = extend_split(split, items, **options)
    judge.refuse(split, source)
    if new and elsewhere is not None and not may_write(path.parent):
        path = elsewhere
    if (new or source != path) and not of_run:
        save_split(split, path)
    if new:
        joined = counted(len(new), "new image")
        say(f"{joined} joined the split, now {_counts(split, called)}; none moved.")
    if allowed is None and _far_from(split, fractions):
        say(
            f"The stored split stays, {_counts(split, called)}: --fractions decide about new "
            f"images only. For another split delete {path}."
        )
    return split, path


def _serves(path: Path, judge: Judge, group_by: str | None) -> bool:
    try:
        split = load_split(path)
        if group_by is not None:
            check_grouping(split, group_by)
        judge.refuse(split, path)
    except InputError:
        return False
    return True


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the split's file before what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError([f"{path}: {problem}" for problem in error.problems]) from error


def _far_from(split: Split, fractions: Sequence[float]) -> bool:
    """Whether a split was surely not made with these fractions."""
    total = sum(split.parts.values())
    room = max(0.1, 2 / total)
    shares = (count / total for count in split.parts.values())
    return any(abs(share - wanted) > room for share, wanted in zip(shares, fractions, strict=True))


def _counts(split: Split, called: Mapping[str, str]) -> str:
    return ", ".join(f"{called[part]} {count}" for part, count in split.parts.items())
