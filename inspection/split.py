"""Stored train/val/test splits: stratified by class, grouped by part, never reshuffled."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from inspection.boxes import ImageLabels
from inspection.errors import InputError
from inspection.runs import file_hash, write_text_atomic
from inspection.stratify import NORMAL, Stratum, distribute

PARTS = ("train", "val", "test")
HEADER = ("image", "group", "part")


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

    def select(self, labels: Sequence[ImageLabels], part: str) -> list[ImageLabels]:
        """The labels of one part, in their order.

        Raises:
            InputError: An image has no part yet.
        """
        unknown = [item.image for item in labels if item.image not in self.assignments]
        if unknown:
            raise InputError(
                f"{len(unknown)} images have no place in the split yet ({_few(unknown)}); extend "
                "the split with `python -m detection split`"
            )
        return [item for item in labels if self.assignments[item.image] == part]


def make_split(
    labels: Sequence[ImageLabels],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_by: str | Path | None = None,
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
    grouping = _grouping(group_by)
    groups = {item.image: grouping(item.image) for item in labels}
    if group_by is not None:
        _check_named(group_by, grouping, groups)
    count, needed = len(set(groups.values())), len(shares)
    if count < needed:
        raise InputError(
            f"a split into {', '.join(shares)} needs at least {needed} groups of images, here are "
            f"{count}; add images, or group less coarsely"
        )
    placed = distribute(_strata(labels, groups), shares, seed, {})
    return Split({image: placed[group] for image, group in groups.items()}, groups)


def extend_split(
    split: Split,
    labels: Sequence[ImageLabels],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_by: str | Path | None = None,
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

    Returns:
        A split that contains the old one.

    Raises:
        InputError: As `make_split`; or `group_by` joins images that stand in different parts.
    """
    _check_labels(labels)
    shares = _shares(fractions)
    grouping = _grouping(group_by)
    new = {item.image for item in labels if item.image not in split.assignments}
    joined = next((f"{g!r} ({i})" for i, g in sorted(split.groups.items()) if g != i), "")
    if new and joined and group_by is None:
        raise InputError(
            f"the stored split has groups, such as {joined}, and {len(new)} new images "
            f"({_few(new)}) may belong to them; give the same --group-by as before"
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
        f"({_few(found.values())}), so {image} has no honest place; make a new split with "
        "this grouping"
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
    placed = distribute(_strata(labels, names), shares, seed, standing | fixed)
    assignments = dict(split.assignments) | {image: placed[current[image]] for image in new}
    return Split(assignments, groups)


def check_grouping(split: Split, group_by: str | Path) -> None:
    """Whether a stored split keeps together what a grouping names.

    Raises:
        InputError: `group_by` cannot be used or names the group of no image, or one of its
            groups stands in two parts.
    """
    grouping = _grouping(group_by)
    _check_named(group_by, grouping, split.assignments)
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for image, part in sorted(split.assignments.items()):
        sides[grouping(image)].setdefault(part, image)
    torn = {group: found for group, found in sides.items() if len(found) > 1}
    if torn:
        group, found = min(torn.items())
        raise InputError(
            f"--group-by {group_by}: the stored split was made without it and tears {len(torn)} "
            f"groups apart, such as {group!r} ({_few(found.values())}); delete the split's file "
            "for a new split, and train anew"
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
    rows = _read_csv(path)
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
            found.append(f"the same picture stands in {' and '.join(sorted(parts))}: {places}")
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


def _strata(labels: Sequence[ImageLabels], groups: Mapping[str, str]) -> dict[str, Stratum]:
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


def _grouping(group_by: str | Path | None) -> Callable[[str], str]:
    """From an image to the name of its group, its own name where it has none."""
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
    rows = _read_csv(path)
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


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
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


def _text(split: Split) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for image in sorted(split.assignments):
        writer.writerow([image, split.groups[image], split.assignments[image]])
    return text.getvalue()


def _check_named(
    group_by: str | Path, grouping: Callable[[str], str], images: Iterable[str]
) -> None:
    images = sorted(images)
    if images and all(grouping(image) == image for image in images):
        raise InputError(
            f"--group-by {group_by}: names the group of no image (the first is {images[0]!r}); "
            "correct the expression or the file"
        )


def _check_labels(labels: Sequence[ImageLabels]) -> None:
    twice = [image for image, count in Counter(i.image for i in labels).items() if count > 1]
    if twice:
        raise InputError([f"{image}: occurs twice among the labels" for image in sorted(twice)])


def _few(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
