"""The split of a set of pictures, made once, stored, and only ever extended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inspection.console import counted
from inspection.runs import may_write
from inspection.split import (
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


def split_path(source: Path, runs: Path) -> Path:
    """Where the split of a source is stored."""
    place = source.resolve()
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    return runs / "splits" / f"{place.stem}-{digest}.csv"


def stored_split(
    items: Sequence[Labelled],
    path: Path,
    *,
    fractions: Sequence[float],
    seed: int = 0,
    group_by: str | None = None,
    allowed: Allowed | None = None,
    elsewhere: Path | None = None,
    called: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Split, Path]:
    """The split of a file, extended by what is new; a new one where there is no file.

    Args:
        items: All pictures.
        path: The split's file.
        fractions: Shares of train, val and test for a new split.
        seed: Decides a new split.
        group_by: Regex or CSV that keeps the pictures of one part together.
        allowed: The parts that a picture may stand in, see `inspection.split.make_split`.
        elsewhere: Where an extended split goes whose folder is read-only.
        called: Part to what it is called in a line; `train`, `val` and `test` where left out.
        say: Told what was made.

    Returns:
        The split and where it is stored.

    Raises:
        InputError: The split cannot be made, read or extended.
    """
    called = called or {part: part for part in PARTS}
    options = {"fractions": fractions, "seed": seed, "group_by": group_by, "allowed": allowed}
    if not path.is_file():
        split = make_split(items, **options)
        save_split(split, path)
        say(f"There was no split: made one, {_counts(split, called)}, stored in {path}.")
        return split, path
    split = load_split(path)
    if group_by is not None:
        check_grouping(split, group_by)
    new = [item for item in items if item.image not in split.assignments]
    if new:
        split = extend_split(split, items, **options)
        if elsewhere is not None and not may_write(path.parent):
            path = elsewhere
        save_split(split, path)
        joined = counted(len(new), "new image")
        say(f"{joined} joined the split, now {_counts(split, called)}; none moved.")
    if allowed is None and _far_from(split, fractions):
        say(
            f"The stored split stays, {_counts(split, called)}: --fractions decide about new "
            f"images only. For another split delete {path}."
        )
    return split, path


def _far_from(split: Split, fractions: Sequence[float]) -> bool:
    """Whether a split was surely not made with these fractions."""
    total = sum(split.parts.values())
    room = max(0.1, 2 / total)
    shares = (count / total for count in split.parts.values())
    return any(abs(share - wanted) > room for share, wanted in zip(shares, fractions, strict=True))


def _counts(split: Split, called: Mapping[str, str]) -> str:
    return ", ".join(f"{called[part]} {count}" for part, count in split.parts.items())
