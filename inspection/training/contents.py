"""The contents of the images that a run was given, by which they are known under any name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inspection.data.split import Split
from inspection.errors import InputError
from inspection.files.sheets import sheet_cell, sheet_text
from inspection.files.tables import read_rows
from inspection.files.writing import file_hash, write_text_atomic

CONTENTS = "contents.csv"
"""Every image of a run and its SHA-256."""
_HEADER = ["image", "sha256"]


def write_contents(
    folder: Path,
    files: Mapping[str, Path],
    hashes: Mapping[str, str] | None = None,
    gone_on: Split | None = None,
) -> None:
    """Keeps the contents of a run's images, by which they are known under any name.

    Args:
        folder: The run's.
        files: Every image and its file.
        hashes: SHA-256 of images whose files have been read already, so that they are not again.
        gone_on: The split of a run that goes on, of which the contents known before stay; what
            lies in place of one now, and is no test, is known under a name of its own.

    Raises:
        InputError: The contents known before are damaged.
    """
    hashes = hashes or {}
    now = {image: hashes.get(image) or file_hash(path) for image, path in files.items()}
    contents = dict(now)
    if gone_on is not None:
        known = read_contents(folder)
        contents |= known
        for image in now.keys() & known.keys():
            if now[image] != known[image] and gone_on.assignments.get(image) != "test":
                contents[f"{image} ({now[image]})"] = now[image]
    rows = [[image, contents[image]] for image in sorted(contents)]
    write_text_atomic(folder / CONTENTS, sheet_text([_HEADER, *rows]))


def read_contents(run: Path) -> dict[str, str]:
    """Image to SHA-256; nothing of a run that holds none.

    Raises:
        InputError: The file is damaged.
    """
    path = run / CONTENTS
    if not path.is_file():
        return {}
    rows = read_rows(path)
    if not rows or rows[0][1] != _HEADER or any(len(cells) != 2 for _, cells in rows):
        raise InputError(f"{path}: is damaged; remove it, and images are known by name alone")
    return {sheet_cell(image): digest for _, (image, digest) in rows[1:]}
