"""Stored train/val/test splits: stratified by class, grouped by part, never reshuffled."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from inspection.data.grouping import grouping_by
from inspection.data.stratify import NORMAL, Stratum, distribute
from inspection.errors import InputError, few
from inspection.files.tables import read_rows, table_text
from inspection.files.writing import file_hash, write_text_atomic

PARTS = ("train", "val", "test")
HEADER = ("image", "group", "part")


class Labelled(Protocol):
    """What a split must know of an image: its name, and its classes, none where it is normal."""

    @property
    def image(self) -> str: ...

    @property
    def label(self) -> Sequence[str]: ...


Allowed = Callable[[Any], Collection[str]]
_Item = TypeVar("_Item", bound=Labelled)


@dataclass(frozen=True)
class Split:
    """Which part every image belongs to.

    Args:
        assignments: Image to "train", "val" or "test".
        groups: Image to the name of its group; a group never stands in two parts.
    """

    assignments: Mapping[str, str]
    groups: Mapping[str, str]

    @property
    def parts(self) -> dict[str, int]:
        """Number of images in each part."""
        count = Counter(self.assignments.values())
        return {part: count[part] for part in PARTS}

    @property
    def hash(self) -> str:
        """SHA-256 of the assignments, whatever order they are stored in."""
        return hashlib.sha256(_text(self).encode()).hexdigest()

    def images(self, part: str) -> tuple[str, ...]:
        """The images of one part, sorted."""
        return tuple(sorted(name for name, side in self.assignments.items() if side == part))

    def select(self, labels: Sequence[_Item], part: str) -> list[_Item]:
        """The labels of one part, in their order.

        Raises:
            InputError: An image has no part yet.
        """
        unknown = [item.image for item in labels if item.image not in self.assignments]
        if unknown:
            raise InputError(
                f"{len(unknown)} images have no place in the split yet "
                f"({few(sorted(unknown), 3)}); a training gives each image one"
            )
        return [item for item in labels if self.assignments[item.image] == part]


def make_split(
    labels: Sequence[Labelled],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_by: str | Path | None = None,
    allowed: Allowed | None = None,
) -> Split:
    """Divides images into train, val and test.

    Groups are assigned by iterative stratification on the box counts of each class, normal
    images being a class of their own. Every class gets into every part where it has groups
    enough. The result depends on the seed, the names and the labels, not on their order.

    Args:
        labels: The images.
        fractions: Shares of train, val and test; one may be 0.
        seed: Chooses among equally good splits.
        group_by: What keeps exposures of one part together: a regular expression with one
            capture group, searched in the file name, then in the path; or a CSV file with the
            columns `image` and `group` (another name will do). An image it does not name is a
            group of its own.
        allowed: The parts that an image may stand in, out of `PARTS`; all where left out. A
            group stands where each of its normal images may, and whatever else is in it comes
            along; a group without a normal image stands where each of its images may. The
            fractions then divide what may stand in the same parts.

    Returns:
        The split.

    Raises:
        InputError: There are fewer groups than parts, an image occurs twice, the fractions do
            not sum to 1, or `group_by` cannot be used.

    Source:
        Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data, 2011.
    """
    _check_labels(labels)
    shares = _shares(fractions)
    grouping = grouping_by(group_by)
    groups = {item.image: grouping(item.image) for item in labels}
    if group_by is not None:
        _check_named(group_by, grouping, groups)
    count, needed = len(set(groups.values())), len(shares)
    if count < needed:
        raise InputError(
            f"a split into {', '.join(shares)} needs at least {needed} groups of images, here are "
            f"{count}; add images, or group less coarsely"
        )
    placed = _distribute(labels, groups, shares, seed, {}, allowed)
    return Split({image: placed[group] for image, group in groups.items()}, groups)


def extend_split(
    split: Split,
    labels: Sequence[Labelled],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_by: str | Path | None = None,
    allowed: Allowed | None = None,
) -> Split:
    """Finds a part for the images that have none; no image that has one moves.

    A new image follows its group where that has a part already. Images that are no longer
    labelled keep their place, in case they come back.

    Args:
        split: The stored split.
        labels: All images, old and new.
        fractions: As for `make_split`.
        seed: As for `make_split`.
        group_by: As for `make_split`.
        allowed: As for `make_split`.

    Returns:
        A split that contains the old one.

    Raises:
        InputError: As `make_split`; or `group_by` joins images that stand in different parts.
    """
    _check_labels(labels)
    shares = _shares(fractions)
    grouping = grouping_by(group_by)
    new = {item.image for item in labels if item.image not in split.assignments}
    joined = next((f"{g!r} ({i})" for i, g in sorted(split.groups.items()) if g != i), "")
    if new and joined and group_by is None:
        raise InputError(
            f"the stored split has groups, such as {joined}, and {len(new)} new images "
            f"({few(sorted(new), 3)}) may belong to them; give the same --group-by as before"
        )
    current = {image: grouping(image) for image in split.assignments}
    current |= {item.image: grouping(item.image) for item in labels}
    # A stored group holds its images together even if today's grouping no longer does.
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for image, part in split.assignments.items():
        sides[current[image]].setdefault(part, image)
        sides[split.groups[image]].setdefault(part, image)
    torn = [
        f"the group {group!r} already stands in {' and '.join(sorted(found))} "
        f"({few(sorted(found.values()), 3)}), so {image} cannot be placed; make a new split "
        "with this grouping"
        for image in sorted(new)
        if len(found := sides.get(group := current[image], {})) > 1
    ]
    if torn:
        raise InputError(torn)
    fixed = {group: next(iter(found)) for group, found in sides.items() if len(found) == 1}
    groups = dict(split.groups) | {image: current[image] for image in new}
    # Old images count where they stand, whatever their group is called now.
    names = {i.image: current[i.image] if i.image in new else f"\0{i.image}" for i in labels}
    standing = {f"\0{image}": part for image, part in split.assignments.items()}
    placed = _distribute(labels, names, shares, seed, standing | fixed, allowed)
    assignments = dict(split.assignments) | {image: placed[current[image]] for image in new}
    return Split(assignments, groups)


def check_grouping(split: Split, group_by: str | Path) -> None:
    """Whether a stored split keeps together what a grouping names.

    Raises:
        InputError: `group_by` cannot be used or names the group of no image, or one of its
            groups stands in two parts.
    """
    grouping = grouping_by(group_by)
    _check_named(group_by, grouping, split.assignments)
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for image, part in sorted(split.assignments.items()):
        sides[grouping(image)].setdefault(part, image)
    torn = {group: found for group, found in sides.items() if len(found) > 1}
    if torn:
        group, found = min(torn.items())
        raise InputError(
            f"--group-by {group_by}: the stored split was made without it and tears {len(torn)} "
            f"groups apart, such as {group!r} ({few(sorted(found.values()), 3)}); delete the "
            "split's file for a new split, and train anew"
        )


def save_split(split: Split, path: str | Path) -> None:
    """Writes a split atomically as CSV `image,group,part`, sorted by image."""
    write_text_atomic(path, _text(split))


def load_split(path: str | Path) -> Split:
    """Reads a split.

    Raises:
        InputError: The file is missing or no CSV, a part is unknown, an image occurs twice or
            a group stands in two parts; each with its line.
    """
    path = Path(path)
    assignments: dict[str, str] = {}
    groups: dict[str, str] = {}
    sides: dict[str, str] = {}
    problems: list[str] = []
    rows = read_rows(path)
    if not rows or tuple(rows[0][1]) != HEADER:
        raise InputError(
            f"{path}, line 1: must read {','.join(HEADER)}; delete the file for a new split"
        )
    for line, cells in rows[1:]:
        where = f"{path}, line {line}"
        if len(cells) != 3 or not cells[0] or not cells[1] or cells[2] not in PARTS:
            problems.append(
                f"{where}: must hold an image, its group, and train, val or test; correct it"
            )
            continue
        image, group, part = cells
        if image in assignments:
            problems.append(f"{where}: {image} occurs twice; remove one of the lines")
        if sides.setdefault(group, part) != part:
            problems.append(
                f"{where}: the group {group!r} stands in {sides[group]} and in {part}; put it "
                "into one part"
            )
        assignments[image], groups[image] = part, group
    if problems:
        raise InputError(problems)
    return Split(assignments, groups)


def leakage(split: Split, images_dir: str | Path) -> list[str]:
    """Images of different parts with the same content, and groups that stand in two parts.

    Only files of equal size are read. Images that are not there are passed over.

    Args:
        split: The split.
        images_dir: The images folder.

    Returns:
        One sentence for each finding; none if training and test are clean.
    """
    folder = Path(images_dir)
    found: list[str] = []
    sides: dict[str, set[str]] = defaultdict(set)
    for image, part in split.assignments.items():
        sides[split.groups[image]].add(part)
    found.extend(
        f"the group {group!r} stands in {' and '.join(sorted(parts))}; delete the split's file "
        "for a new one"
        for group, parts in sorted(sides.items())
        if len(parts) > 1
    )
    paths = {image: folder / image for image in split.assignments}
    present = [image for image in sorted(paths) if paths[image].is_file()]
    for same in equal_files({image: paths[image] for image in present}):
        parts = {split.assignments[image] for image in same}
        if len(parts) > 1:
            places = ", ".join(f"{image} ({split.assignments[image]})" for image in same)
            found.append(f"the same image stands in {' and '.join(sorted(parts))}: {places}")
    return found


def equal_files(paths: Mapping[str, Path]) -> list[tuple[str, ...]]:
    """Files with equal content, found by size first, then by SHA-256.

    Args:
        paths: Name to file; every file exists.

    Returns:
        The names of each set of two or more equal files, sorted.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for name, path in paths.items():
        by_size[path.stat().st_size].append(name)
    by_content: dict[str, list[str]] = defaultdict(list)
    for names in by_size.values():
        for name in names if len(names) > 1 else ():
            by_content[file_hash(paths[name])].append(name)
    return sorted(tuple(sorted(names)) for names in by_content.values() if len(names) > 1)


def _distribute(
    labels: Sequence[Labelled],
    groups: Mapping[str, str],
    shares: Mapping[str, float],
    seed: int,
    fixed: Mapping[str, str],
    allowed: Allowed | None,
) -> dict[str, str]:
    """Group to part; groups that may stand in the same parts are divided among themselves."""
    strata = _strata(labels, groups)
    if allowed is None:
        return distribute(strata, shares, seed, fixed)
    parts = dict.fromkeys(strata, frozenset(shares))
    with_normals = {groups[item.image] for item in labels if not len(item.label)}
    for item in labels:
        group = groups[item.image]
        if not len(item.label) or group not in with_normals:
            parts[group] &= frozenset(allowed(item))
    nowhere = [group for group, here in parts.items() if not here and group not in fixed]
    if nowhere:
        raise InputError(
            [
                f"the group {group!r} holds images that may not stand in the same part, or in no "
                "part whose share is over 0; group otherwise, or give other fractions"
                for group in sorted(nowhere)
            ]
        )
    placed: dict[str, str] = {}
    for here in sorted(set(parts.values()), key=sorted):
        total = sum(shares[part] for part in here)
        within = {part: share / total for part, share in shares.items() if part in here}
        chosen = {group: strata[group] for group in strata if parts[group] == here}
        placed |= distribute(chosen, within or dict(shares), seed, fixed)
    return placed


def _strata(labels: Sequence[Labelled], groups: Mapping[str, str]) -> dict[str, Stratum]:
    """Images and boxes per class of every group."""
    strata: dict[str, Stratum] = {}
    for item in labels:
        stratum = strata.setdefault(groups[item.image], Stratum())
        stratum.images += 1
        stratum.counts.update(item.label if len(item.label) else [NORMAL])
    return strata


def _shares(fractions: Sequence[float]) -> dict[str, float]:
    values = [float(value) for value in fractions]
    if len(values) != 3 or min(values) < 0 or not abs(sum(values) - 1) < 1e-6:
        raise InputError(
            f"the fractions {', '.join(f'{value:g}' for value in values)} must be three numbers "
            "of at least 0 (train, val, test) that sum to 1"
        )
    return {part: value for part, value in zip(PARTS, values, strict=True) if value > 0}


def _text(split: Split) -> str:
    rows = ((name, split.groups[name], part) for name, part in sorted(split.assignments.items()))
    return table_text([HEADER, *rows])


def _check_named(
    group_by: str | Path, grouping: Callable[[str], str], images: Iterable[str]
) -> None:
    images = sorted(images)
    if images and all(grouping(image) == image for image in images):
        raise InputError(
            f"--group-by {group_by}: names the group of no image (the first is {images[0]!r}); "
            "correct the expression or the file"
        )


def _check_labels(labels: Sequence[Labelled]) -> None:
    twice = [image for image, count in Counter(i.image for i in labels).items() if count > 1]
    if twice:
        raise InputError([f"{image}: occurs twice among the labels" for image in sorted(twice)])
