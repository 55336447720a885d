"""Where predictions may be written: never among what humans drew."""

from __future__ import annotations

from pathlib import Path

from detection.data.annotations import list_annotations
from detection.data.dataset import SPLIT_NAME
from detection.data.table import CSV_NAME as LABELS_NAME
from inspection.data.voc import PREDICTION, is_sealed, read_voc
from inspection.errors import InputError
from inspection.training.run import RECORD

XML = "xml"
"""Folder of the predictions that labelImg opens."""


def refuse_annotations(folder: Path) -> None:
    """Refuses a folder in which predictions would mix with what humans drew.

    Args:
        folder: The output folder, absolute; it need not exist.

    Raises:
        InputError: It, its `xml`, or a folder above holds annotations. XML of ours that was
            changed since counts as a human's.
    """
    fix = "give an output folder of its own, outside any annotations."
    problems = []
    for place in sorted({folder.resolve(), (folder / XML).resolve()}):
        if place.is_dir():
            theirs = [path for path in list_annotations(place) if not is_sealed(path, PREDICTION)]
            if theirs:
                more = f" and {len(theirs) - 1} more" if len(theirs) > 1 else ""
                problems.append(
                    f"{folder}: holds {theirs[0]}{more}, which predict did not write or a human "
                    f"changed; move it into an annotations folder, or {fix}"
                )
        for above in (place, *place.parents):
            if found := _sign_of_annotations(above, place):
                problems.append(
                    f"{folder}: lies in an annotations folder ({found}), where predictions would "
                    f"be taken for a human's; {fix}"
                )
    if problems:
        raise InputError(list(dict.fromkeys(problems)))


def _sign_of_annotations(folder: Path, output: Path) -> Path | None:
    run = (folder / RECORD).is_file()  # a training keeps a copy of its split
    for name in (LABELS_NAME,) if run else (LABELS_NAME, SPLIT_NAME):
        if (folder / name).is_file():
            return folder / name
    # Farther up, a stray XML file says nothing; right above, whoever reads it reads ours too.
    if folder != output.parent:
        return None
    xml = (path for path in sorted(folder.glob("*.[xX][mM][lL]")) if path.is_file())
    return next((path for path in xml if _is_annotation(path)), None)


def _is_annotation(path: Path) -> bool:
    try:
        read_voc(path)
    except InputError:
        return False
    return not is_sealed(path, PREDICTION)
