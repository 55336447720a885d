"""Labels as one CSV row per box: from labelImg's XML, from keras-retinanet's CSV, and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import numpy as np

from detection.data.annotations import (
    ImageIndex,
    Unlabelled,
    add_unlabelled,
    boxes_within,
    list_annotations,
    read_annotations,
    report,
    to_voc,
)
from detection.data.rows import (
    HEADER,
    RETINANET_COLUMNS,
    TableRow,
    number_text,
    parse_row,
)
from detection.settings import ROOM
from inspection.cli.commands import command_line
from inspection.data.boxes import ImageLabels
from inspection.data.images import image_size
from inspection.data.voc import GUESSES
from inspection.errors import MOST_ECHOED, InputError
from inspection.files.tables import DELIMITERS, path_problem, read_rows, table_text
from inspection.files.writing import may_write, write_text_atomic

__all__ = [
    "HEADER",
    "classes_of",
    "labels_for",
    "read_annotations",
    "read_classes",
    "read_table",
    "to_voc",
    "write_table",
]

CSV_NAME = "annotations.csv"
_DIGITS = 9  # of a class's number


def read_table(
    csv_path: str | Path,
    classes_path: str | Path | None = None,
    images_dir: str | Path | None = None,
    warnings: list[str] | None = None,
) -> list[ImageLabels]:
    """Reads a CSV written by `write_table`, or keras-retinanet's without a header.

    keras-retinanet's rows are `path,x1,y1,x2,y2,class`, or `path,,,,,` for a normal image.

    Args:
        csv_path: The table, UTF-8.
        classes_path: Class names that may occur; every name may where left out.
        images_dir: Where the images lie. Given, a path relative to the table or one that has
            gone stale is put right by its file name, boxes are clipped to their image, and a path
            that leads out of the folder is refused. Left out, paths stay as written, with `/`
            between folders.
        warnings: Collects a sentence for each box that was clipped; where left out, logged.

    Returns:
        One entry per image, in the order of first appearance.

    Raises:
        InputError: A line does not read as above, its box is zero-sized, inverted or outside,
            or its class is unknown; every such line is one problem.
    """
    index = None if images_dir is None else ImageIndex(images_dir)
    known = None if classes_path is None else read_classes(classes_path)
    notes: list[str] = []
    labels = _read(Path(csv_path), index, notes, known)
    report(notes, warnings)
    return labels


def survey_table(
    path: Path, index: ImageIndex, problems: list[str]
) -> tuple[list[ImageLabels], list[ImageLabels]]:
    """What can be read of a table, whatever else is wrong with it.

    Args:
        path: The table.
        index: The images.
        problems: Takes a sentence for each line that does not read as a row.

    Returns:
        The labels whose images are there, and those whose images are not.

    Raises:
        InputError: The file is no CSV at all.
    """
    labels = _read(path, index, [], problems=problems)
    there = [item for item in labels if item.image in index]
    return there, [item for item in labels if item.image not in index]


def write_table(csv_path: str | Path, labels: Iterable[ImageLabels]) -> None:
    """Writes labels atomically: a header, a row per box, an empty-box row per normal image.

    Args:
        csv_path: The file to write, UTF-8.
        labels: What to write, in this order. Numbers keep float32's full precision.
    """
    rows: list[Sequence[object]] = [HEADER]
    for item in labels:
        if item.is_normal:
            rows.append([item.image, "", "", "", "", "", "", item.source])
        for box, name, difficult in zip(item.xyxy, item.label, item.difficult, strict=True):
            edges = [number_text(edge) for edge in box]
            rows.append([item.image, *edges, name, int(difficult), item.source])
    write_text_atomic(csv_path, table_text(rows))


def classes_of(labels: Iterable[ImageLabels]) -> tuple[str, ...]:
    """The class names that occur, sorted."""
    return tuple(sorted({name for item in labels for name in item.label}))


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Reads class names: one a line, or keras-retinanet's `name,id` with ids from 0.

    Args:
        path: The class file, UTF-8.

    Returns:
        The names in the order of their ids, or of the file.

    Raises:
        InputError: The file is empty, or a name or id is missing or occurs twice.
    """
    path = Path(path)
    numbered: dict[str, int] = {}
    problems: list[str] = []
    for line, cells in read_rows(path):
        where = f"{path}, line {line}"
        name, number = cells[0].strip(), cells[1].strip() if len(cells) > 1 else str(len(numbered))
        if not name or len(cells) > 2 or not number.isdecimal() or len(number) > _DIGITS:
            problems.append(f"{where}: must be a class name, or a name, a comma and a number")
        elif len(name) > MOST_ECHOED:
            problems.append(f"{where}: the name has {len(name)} characters; shorten it")
        elif name in numbered:
            problems.append(f"{where}: the class {name!r} occurs twice; remove one")
        elif int(number) in numbered.values():
            problems.append(f"{where}: the number {number} occurs twice; count from 0")
        else:
            numbered[name] = int(number)
    if not problems and not numbered:
        problems.append(f"{path}: holds no class name; write one a line")
    if not problems and max(numbered.values()) != len(numbered) - 1:
        problems.append(f"{path}: the numbers must count from 0 to {len(numbered) - 1}")
    if problems:
        raise InputError(problems)
    return tuple(sorted(numbered, key=numbered.__getitem__))


def labels_for(
    annotations_dir: str | Path,
    images_dir: str | Path,
    one_based: bool = False,
    unlabelled: Unlabelled = "skip",
    warnings: list[str] | None = None,
) -> list[ImageLabels]:
    """The labels of a folder, converted from XML only where that is needed.

    `annotations.csv` is read if it is at least as new as every XML file, comes from exactly
    those files, and its images are there. Otherwise the XML files are converted and the CSV is
    written; rows in it that came from no XML file are kept. Where the folder cannot be written,
    nothing is stored.

    Args:
        annotations_dir: Folder of XML files or of an `annotations.csv` without any.
        images_dir: Folder of images.
        one_based: True for VOC-devkit files; these are converted each time.
        unlabelled: What an image without labels is: left out, or a normal image.
        warnings: Collects sentences as `read_annotations` does.

    Returns:
        One entry per image, sorted by image.

    Raises:
        InputError: As `read_annotations` and `read_table`; or there are no labels at all.
    """
    folder = Path(annotations_dir)
    path = folder / CSV_NAME
    names: list[str] = []
    files = list_annotations(folder, names)
    if not names and not files and not path.is_file():
        if unlabelled == "normal":
            return read_annotations(folder, images_dir, one_based, unlabelled, warnings)
        raise InputError(
            f"{folder}: holds no XML file and no {CSV_NAME}; label images first, with "
            f"`{command_line(ROOM, 'label')}`"
        )
    index = ImageIndex(images_dir, names)
    if names:
        raise InputError(names)
    if not files:
        labels = _stored(path, index, warnings)
    else:
        labels = None if one_based else _fresh(path, files, index, warnings)
        if labels is None:
            labels = _converted(path, index, one_based, warnings)
    found = {item.image: item for item in labels}
    if unlabelled == "normal":
        add_unlabelled(found, index.images)
    return [found[image] for image in sorted(found)]


def _read(
    path: Path,
    index: ImageIndex | None,
    notes: list[str],
    known: Sequence[str] | None = None,
    problems: list[str] | None = None,
) -> list[ImageLabels]:
    found: list[str] = []
    rows: list[TableRow] = []
    columns: Sequence[str] = ()
    for line, cells in read_rows(path, DELIMITERS):
        if not columns:
            names = [cell.strip().lower() for cell in cells]
            if set(RETINANET_COLUMNS) <= set(names) <= set(HEADER):
                if len(set(names)) < len(names):
                    raise InputError(f"{path}, line {line}: names a column twice; remove one")
                columns = names
                continue
            columns = RETINANET_COLUMNS
        row = parse_row(f"{path}, line {line}", line, cells, columns, known, found)
        if row is not None:
            rows.append(row)
    labels = _by_image(path, rows, index, found, notes)
    if found and problems is None:
        raise InputError(found)
    if found:
        problems += found
    return labels


def _stored(path: Path, index: ImageIndex, warnings: list[str] | None) -> list[ImageLabels]:
    """A table that no XML file stands behind, with its images found and boxes clipped."""
    notes: list[str] = []
    labels = _read(path, index, notes)
    missing = [
        f"{path}: the image {item.image!r} is not in {index.folder}; add it or remove its rows"
        for item in labels
        if item.image not in index
    ]
    if missing:
        raise InputError(missing)
    report(notes, warnings)
    return labels


def _fresh(
    path: Path,
    files: Sequence[Path],
    index: ImageIndex,
    warnings: list[str] | None,
) -> list[ImageLabels] | None:
    """The stored table where it still says what the XML files say, else None."""
    try:
        if path.stat().st_mtime_ns < max(file.stat().st_mtime_ns for file in files):
            return None
        notes: list[str] = []
        labels = _read(path, index, notes)
    except (OSError, InputError):
        return None
    sources = {item.source for item in labels if item.source}
    if sources != {file.relative_to(path.parent).as_posix() for file in files}:
        return None
    if not all(item.image in index for item in labels) or any(map(_may_be_guessed, files)):
        return None
    report(notes, warnings)
    return labels


def _may_be_guessed(path: Path) -> bool:
    """Whether an XML names a program as its origin; only reading it tells whether that holds."""
    content = path.read_bytes()
    return any(origin.encode() in content for origin in GUESSES)


def _converted(
    path: Path, index: ImageIndex, one_based: bool, warnings: list[str] | None
) -> list[ImageLabels]:
    """The XML files' labels and a table's rows of other origin, stored where possible."""
    notes: list[str] = []
    newest = max(file.stat().st_mtime_ns for file in list_annotations(path.parent))
    labels = {
        item.image: item
        for item in read_annotations(path.parent, index.folder, one_based, "skip", notes)
    }
    for item in _own_rows(path, index, notes):
        if item.image not in labels:
            labels[item.image] = item
        elif not item.is_normal:
            notes.append(
                f"{path}: its rows of {item.image} come from no XML file and give way to "
                f"{labels[item.image].source}"
            )
    result = [labels[image] for image in sorted(labels)]
    # The table does not say how it was read, so only the usual reading is stored. The mode is
    # asked as well, because root may write into folders that are marked read-only.
    if not one_based and may_write(path.parent):
        with contextlib.suppress(OSError):
            write_table(path, result)
            # As old as what it was made from: an XML saved meanwhile is newer and read again.
            os.utime(path, ns=(newest, newest))
    report(notes, warnings)
    return result


def _own_rows(path: Path, index: ImageIndex, notes: list[str]) -> list[ImageLabels]:
    """What stands in a table without an XML file behind it: entered by hand, or normal."""
    if not path.is_file():
        return []
    kept = []
    for item in _read(path, index, []):
        if not item.source and item.image in index:
            kept.append(item)
        elif not item.source:
            notes.append(f"{path}: the rows of {item.image} are dropped, its image is gone")
    return kept


def _by_image(
    path: Path,
    rows: Iterable[TableRow],
    index: ImageIndex | None,
    problems: list[str],
    notes: list[str],
) -> list[ImageLabels]:
    """Rows gathered by image, with boxes that training may rely on."""
    grouped: dict[str, list[TableRow]] = {}
    for row in rows:
        image = row.image if index is None else _located(row.image, path.parent, index)
        lost = index is not None and image not in index
        if lost and (problem := path_problem(image)):
            problems.append(f"{path}, line {row.line}: the image {problem}")
            continue
        grouped.setdefault(image, []).append(row)
    labels = []
    for image, group in grouped.items():
        boxes = [row for row in group if row.box is not None]
        size = None
        if index is not None and boxes and image in index:
            try:
                size = image_size(index.folder / image)
            except InputError as error:
                problems.extend(error.problems)
        where = [f"{path}, line {row.line}" for row in boxes]
        xyxy = boxes_within([row.box for row in boxes], where, size, problems, notes)
        names = tuple(row.label for row in boxes)
        difficult = np.array([row.difficult for row in boxes], bool)
        labels.append(ImageLabels(image, xyxy, names, difficult, group[0].source))
    return labels


def _located(image: str, folder: Path, index: ImageIndex) -> str:
    """An image's path relative to the images folder, wherever the table thought it was."""
    # keras-retinanet takes a path relative to the table. Only words are compared, no file is
    # asked for: what stands in a table need not even be a possible path.
    written = os.path.relpath(folder / image, index.folder)
    for path in (image, PurePath(written).as_posix()):
        if path in index:
            return path
    found = index.find(image)
    return found[0] if len(found) == 1 else image
