"""The images of a prediction: each once, and each with a name of its own in all that is written."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from inspection.cli.console import counted
from inspection.data.images import list_images
from inspection.data.labelled import is_mask
from inspection.errors import InputError
from inspection.files.listing import name_problems
from inspection.prediction.journal import DRAWN, RECORD, Line

Listed = tuple[Path, str]
"""An image's absolute path, and its name below what was given."""


@dataclass(frozen=True)
class Place:
    """An image's name in the tables, and its place in the folders of what is drawn."""

    name: str
    stem: str


def list_given(
    paths: Iterable[str | Path],
    own: Iterable[Path],
    problems: list[str],
    notes: list[str],
    find: Callable[[Path, list[str]], list[Listed]],
) -> list[Listed]:
    """Every image once, in the order given; what predictions drew and masks are none.

    Args:
        paths: Image files, and folders that are searched recursively.
        own: Folders of what this prediction draws.
        problems: Takes a sentence for each path that is not there or holds no image.
        notes: Takes a sentence where masks, or what other predictions drew, were left out.
        find: As `images_of`, the images of a path that is there.

    Raises:
        InputError: Names are not UTF-8, or as `find`.
    """
    listed: dict[Path, str] = {}
    names: list[str] = []
    drawn = {folder.resolve() for folder in own}
    masks: set[Path] = set()
    others: set[Path] = set()
    for given in paths:
        path = Path(os.path.abspath(given))  # noqa: PTH100  resolve() would follow links
        if not path.exists():
            problems.append(f"{given}: there is no such file or folder; correct the path")
            continue
        found = find(path, names)
        folders = {image.parent for image, _ in found}
        if path.is_dir():
            folders -= {one for one in folders if not drawn.isdisjoint(_with_parents(one))}
            results = {one for one in folders if _is_drawn(one, path)}
            others |= {image for image, _ in found if image.parent in results}
            folders -= results
            found = [one for one in found if one[0].parent in folders]
            left_out = {image for image, name in found if is_mask(PurePosixPath(name))}
            found = [one for one in found if one[0] not in left_out]
            masks |= left_out
        for image, name in found:
            listed.setdefault(image, name)
        if not found and not names:
            problems.append(f"{given}: holds no PNG, JPEG, BMP or TIFF image; give another folder")
    if names := [*names, *name_problems(listed)]:
        raise InputError(names)
    if masks := masks - listed.keys():
        notes.append(f"Note: {counted(len(masks), 'image')} in folders of masks left out.")
    if others := others - listed.keys():
        notes.append(f"Note: {counted(len(others), 'image')} that predictions drew left out.")
    return list(listed.items())


def images_of(path: Path, names: list[str]) -> list[Listed]:
    """A file itself, or the images below a folder; `names` as `problems` of `list_images`."""
    if not path.is_dir():
        return [(path, path.name)]
    return [(image, image.relative_to(path).as_posix()) for image in list_images(path, names)]


def _with_parents(folder: Path) -> list[Path]:
    folder = folder.resolve()
    return [folder, *folder.parents]


def _is_drawn(folder: Path, below: Path) -> bool:
    """Whether a prediction drew what lies in a folder; unless just that folder was given."""
    inside = folder.relative_to(below)
    return any(
        one.name in DRAWN and (below / one.parent / RECORD).is_file()
        for one in (inside, *inside.parents)
    )


def place_images(listed: Sequence[Listed], lines: Iterable[Line]) -> dict[Path, Place]:
    """Gives every image a name and a place of its own; those of the journal keep theirs."""
    before = {line.file: Place(line.image, line.stem) for line in lines}
    names = {place.name for place in before.values()}
    stems = {_folded(place.stem) for place in before.values()}
    places = {}
    for path, relative in listed:
        if place := before.get(str(path)):
            places[path] = place
            continue
        longer = itertools.chain(_longer_names(path, relative), _numbered(relative))
        name = next(item for item in longer if item not in names)
        plain = PurePosixPath(name).with_suffix("").as_posix()
        nearest = itertools.chain((plain, name), _numbered(name))
        stem = next(item for item in nearest if _folded(item) not in stems)
        names.add(name)
        stems.add(_folded(stem))
        places[path] = Place(name, stem)
    return places


def _longer_names(path: Path, relative: str) -> Iterator[str]:
    """The name as given, then with one folder more before it, up to the whole path."""
    parts = path.parts[1:]
    for count in range(len(PurePosixPath(relative).parts), len(parts) + 1):
        yield "/".join(parts[-count:])


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}~{number}" for number in itertools.count(2))


def _folded(stem: str) -> str:
    # Windows and Mac file systems do not tell case apart, nor two ways to write Korean.
    return unicodedata.normalize("NFC", stem).casefold()
