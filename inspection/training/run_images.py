"""A run's images wherever they lie now: found again, and placed by the run's own split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from inspection.cli.console import counted
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.data.split import PARTS, Labelled, Split, load_split
from inspection.errors import InputError
from inspection.files.writing import file_hash
from inspection.training.contents import CONTENTS, read_contents
from inspection.training.run import RUN_SPLIT, own_split, read_record

ALL = "all"
EVERY_PART = (*PARTS, ALL)
_Item = TypeVar("_Item", bound=Labelled)


@dataclass(frozen=True)
class Chosen(Generic[_Item]):
    """The images that a measurement is of.

    Args:
        part: `train`, `val` or `test` of the run's split, or `all`.
        items: The images.
        groups: Image to the name of its group, for those that are the run's.
        notes: What a reader must know of the choice, one sentence each.
    """

    part: str
    items: tuple[_Item, ...]
    groups: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def where_now(stored: Path, run_before: Path, run: Path) -> Path:
    """A folder of a training that may have been moved together with its run.

    Args:
        stored: As the run's settings name it.
        run_before: The run's folder as its settings name it.
        run: The run's folder now.

    Returns:
        The place that the run's settings name; where that is gone, the one that lies to the run
        as it did then; if that is gone too, the stored one. A relative place of a run that was
        moved is looked for beside the run first: here it may name other images.
    """
    way = os.path.relpath(stored.resolve(), run_before.resolve())
    beside = Path(os.path.normpath(run.resolve() / way))
    moved = run.resolve() != run_before.resolve()
    places = [beside, stored] if moved and not stored.is_absolute() else [stored, beside]
    return next((place for place in places if place.exists()), stored)


def still_there(place: Path, run: Path, flag: str) -> Path:
    """The place of a run's images.

    Args:
        place: Where they were.
        run: Its folder.
        flag: As for `choose_part`.

    Raises:
        InputError: Nothing is there any more; names the flag that says where they are now.
    """
    if not place.exists():
        raise InputError(f"{place}: the images of {run} are not there any more; {_way_out(flag)}")
    return place


def choose_part(
    items: Sequence[_Item],
    run: Path | None,
    part: str | None,
    *,
    where: object,
    flag: str,
    named: bool,
    path_of: Callable[[_Item], Path],
    hashed: Callable[[], str],
    instead: Split | None = None,
) -> Chosen[_Item]:
    """The images of a part of a run's own split, out of those that are there now.

    An image is the run's where it has the name and the content of one of them, or the content
    alone; of a run that holds no contents, where it has the name.

    Args:
        items: The images that are there now.
        run: The run's folder, in which its split lies; None where it is lost.
        part: The part to measure, or `all`; where left out `test`, or `all` if none of the
            images is the run's.
        where: Where the images are, for messages.
        flag: The flag by which the user names that place; empty where there is none.
        named: Whether the user did; else it is the training's own place.
        path_of: An image's file.
        hashed: Hash of all that is there now, as the run's record holds that of its images; asked
            only for images that the user named, of a run that holds no contents.
        instead: A split that serves where the run's own is lost.

    Raises:
        InputError: Nothing can be measured; names how many images are there, and the way out.
    """
    if not items:
        raise InputError(f"{where}: holds no labelled image; check the path and the labels")
    count = counted(len(items), "image")
    split, places, shared = _placed(items, run, path_of, instead)
    if split is None:
        _refuse_unknown(part, run / RUN_SPLIT if run else where, named)
        note = f"The run's split is missing: whether it was trained on any of {count} is not known."
        return Chosen(ALL, tuple(items), notes=(note,))
    parts = _parts(split, places)
    of_part = Counter(parts)
    known = len(items) - of_part[None]
    told = ", ".join(f"{name} {of_part[name]}" for name in PARTS)
    groups = {
        item.image: split.groups[place]
        for item, place in zip(items, places, strict=True)
        if place is not None and place in split.groups
    }
    notes = []
    by_name = run is None or not (run / CONTENTS).is_file()
    if named and known and by_name and not (run and hashed() == read_record(run).data_hash):
        notes.append(
            f"The run's images are recognised in {where} by their names alone: it holds no "
            "contents to compare."
        )
    if renamed := sum(
        place != item.image and item.image in split.assignments
        for item, place in zip(items, places, strict=True)
    ):
        names = _verb(renamed, "has the name", "have the names")
        others = _verb(renamed, "an image", "images")
        notes.append(
            f"{counted(renamed, 'image')} {names} of {others} of the run but different content."
        )
    if copies := sum(
        place in shared and place != item.image for item, place in zip(items, places, strict=True)
    ):
        verb = _verb(copies, "is a copy", "are copies")
        notes.append(
            f"{counted(copies, 'image')} {verb} of one that stands in several parts of the run; "
            "train counts before val, val before test."
        )
    if part == ALL or not known:
        if not known:
            _refuse_others(part, where, flag, named, count)
            notes.append(f"None of the {count} is the run's: all are measured.")
        else:
            notes.append(
                f"{known} of {count} are the run's ({told}); on those it was trained on figures "
                "look better than they are."
            )
        return Chosen(ALL, tuple(items), groups, tuple(notes))
    part = part or "test"
    chosen = tuple(item for item, place in zip(items, parts, strict=True) if place == part)
    more = of_part[None]
    others = (
        f"of {count} {known} {_verb(known, 'is', 'are')} the run's ({told}), {more} "
        f"{_verb(more, 'is another', 'are others')}"
    )
    if not chosen:
        raise InputError(
            f"{where}: the {part} part holds no image: {others}; choose another --split, or "
            "measure every image by --split all"
        )
    if more:
        notes.append(f"O{others[1:]} and left out; --split all measures every image.")
    if (absent := len(split.images(part)) - len(chosen)) > 0:
        verb = _verb(absent, "is", "are")
        notes.append(f"{counted(absent, 'image')} of the {part} part {verb} not there any more.")
    return Chosen(part, chosen, groups, tuple(notes))


def parts_of(
    items: Sequence[_Item],
    run: Path | None,
    *,
    path_of: Callable[[_Item], Path],
    instead: Split | None = None,
) -> list[str | None]:
    """The part of a run's own split that each image stands in; None of another image.

    Args:
        items: The images that are there now.
        run: As for `choose_part`, like the others.
        path_of: An image's file.
        instead: A split that serves where the run's own is lost.

    Raises:
        InputError: What the run knows of its images is damaged.
    """
    split, places, _ = _placed(items, run, path_of, instead)
    return _parts(split, places)


def _parts(split: Split | None, places: Sequence[str | None]) -> list[str | None]:
    return [_part(split, place) if split and place else None for place in places]


def _part(split: Split, image: str) -> str:
    """The part of an image of the run; what it holds beside its split it has learnt."""
    return split.assignments.get(image, "train")


def _placed(
    items: Sequence[_Item],
    run: Path | None,
    path_of: Callable[[_Item], Path],
    instead: Split | None,
) -> tuple[Split | None, list[str | None], frozenset[str]]:
    """The run's split; the name by which it knows each image; the names of several parts."""
    path = own_split(run) if run else None
    split = load_split(path) if path else instead
    if split is None:
        return None, [None] * len(items), frozenset()
    contents = read_contents(run) if run else {}
    if not contents:
        known = [item.image if item.image in split.assignments else None for item in items]
        return split, known, frozenset()
    names, shared = _by_content(contents, split)
    found = []
    for item in items:
        digest = file_hash(path_of(item))
        own = contents.get(item.image) == digest
        found.append(item.image if own else names.get(digest))
    return split, found, shared


def _by_content(contents: Mapping[str, str], split: Split) -> tuple[dict[str, str], frozenset[str]]:
    """SHA-256 to the image that stands for it, and those that stand for several parts.

    What was learnt is no test, also where the same image stands in the test part, too.
    """
    names: dict[str, str] = {}
    shared = set()
    for part in PARTS:
        for image, digest in contents.items():
            if _part(split, image) != part:
                continue
            first = names.setdefault(digest, image)
            if _part(split, first) != part:
                shared.add(first)
    return names, frozenset(shared)


def choose_labelled(
    images: LabelledImages, run: Path, part: str | None, source: Path | None, flag: str
) -> tuple[LabelledImages, Chosen[LabelledImage]]:
    """The images of a part as `choose_part` says, and what is told of the choice.

    Args:
        images: Those that are there now.
        run: The run's folder.
        part: See `choose_part`.
        source: Where the user says that they are; None where nothing was said.
        flag: As for `choose_part`.

    Raises:
        InputError: See `choose_part`.
    """
    chosen = choose_part(
        images.items,
        run,
        part,
        where=source or images.root,
        flag=flag,
        named=source is not None,
        path_of=lambda item: item.path,
        hashed=lambda: images.hash,
    )
    return replace(images, items=chosen.items), chosen


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def _way_out(flag: str) -> str:
    return f"say by {flag} where these are now" if flag else "put them back"


def _refuse_unknown(part: str | None, where: object, named: bool) -> None:
    if part == ALL or (part is None and named):
        return
    raise InputError(
        f"{where}: is missing, so nobody can tell what the run was trained on; put the run's "
        "split.csv back, or measure every image by --split all"
    )


def _refuse_others(part: str | None, where: object, flag: str, named: bool, count: str) -> None:
    if not named:
        raise InputError(f"{where}: none of the {count} is the run's; {_way_out(flag)}")
    if part not in (None, ALL):
        raise InputError(
            f"--split {part}: none of the {count} of {where} is the run's; leave --split out to "
            "measure all of them"
        )
