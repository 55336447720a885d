"""Labels, made and checked; needs no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from detection.settings import LABELS, TrainSettings
from inspection.cli.console import console, counted, progress, reports_errors, say
from inspection.cli.options import takes_settings
from inspection.errors import InputError, group_alike, printable
from inspection.settings import read_settings

AS_TRAINED = dict.fromkeys(LABELS, "as in the training")
"""What a verb that measures a snapshot takes where nothing else is typed."""


@reports_errors
@takes_settings(TrainSettings, only=("annotations",), positional=("images",))
def label(
    given: dict[str, Any],
    classes: Annotated[str | None, typer.Option(help="Class names, separated by commas.")] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="Folder of guessed boxes to correct and save.")
    ] = None,
) -> None:
    """Opens labelImg in Pascal-VOC mode, fixed for today's Python."""
    from detection.labelling.launch import label as start

    settings = read_settings(TrainSettings, None, given)
    names = [name.strip() for name in classes.split(",") if name.strip()] if classes else None
    status = start(settings.images, settings.annotations, names, proposals)
    if status:
        raise typer.Exit(status)


@reports_errors
@takes_settings(
    TrainSettings,
    only=(
        "annotations",
        "images",
        "size",
        "fit",
        "bits",
        "one_based",
    ),
)
def resize(
    given: dict[str, Any],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="An image or a folder of images of any size.")
    ],
    source_annotations: Annotated[
        Path | None, typer.Option(help="Folder of the sources' XML.", show_default="beside them")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files this verb did not write.")
    ] = False,
) -> None:
    """Brings images of any size and depth to 900 x 900, and their boxes with them."""
    from detection.data.resize import resize as bring

    settings = read_settings(TrainSettings, None, given)
    with progress("resizing") as on_progress:
        result = bring(
            source,
            settings.images,
            settings.annotations,
            settings.size,
            settings.fit,
            settings.bits,
            force,
            source_annotations,
            settings.one_based,
            on_progress,
            say,
        )
    say(
        f"{counted(result.written, 'image')} written to {settings.images}, {result.unchanged} up "
        f"to date; {counted(result.annotations, 'XML file')} carried along, {result.kept} of yours "
        "left as they are."
    )
    if result.problems:
        raise InputError(result.problems)


@reports_errors
@takes_settings(
    TrainSettings,
    only=LABELS,
)
def convert(
    given: dict[str, Any],
    output: Annotated[
        Path | None,
        typer.Option(help="CSV to write.", show_default="annotations.csv in --annotations"),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Read this CSV (ours or keras-retinanet's) instead of XML.")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="keras-retinanet's class file.")] = None,
    xml: Annotated[Path | None, typer.Option(help="Write labelImg XML into this folder.")] = None,
) -> None:
    """Turns labelImg XML into a CSV with one row per box, or a CSV into XML."""
    from detection.data.dataset import similar_classes
    from detection.data.table import (
        CSV_NAME,
        labels_for,
        read_annotations,
        read_table,
        to_voc,
        write_table,
    )

    settings = read_settings(TrainSettings, None, given)
    annotations, images, one_based = settings.annotations, settings.images, settings.one_based
    usual = annotations / CSV_NAME
    if csv is not None and not csv.is_file():
        raise InputError(f"--csv {csv}: there is no such file; correct the path.")
    if output is None and xml is None and (one_based or (csv is not None and usual.exists())):
        flag = "--one-based" if one_based else "--csv"
        raise InputError(
            f"{flag}: name the file to write by --output, or a folder for XML by --xml; {usual} is "
            "what training reads."
        )
    notes: list[str] = []
    if csv is not None:
        labels = read_table(csv, classes, images_dir=images, warnings=notes)
    else:
        # As training reads them: rows of the usual table that no XML stands behind are labels.
        read = labels_for if output is None and not one_based else read_annotations
        labels = read(annotations, images, one_based, settings.unlabelled, notes)
    for note in group_alike([*notes, *similar_classes(labels)]):
        say(note)
    boxes = sum(len(item.xyxy) for item in labels)
    if xml is not None:
        to_voc(labels, images, xml)
        say(f"{counted(len(labels), 'XML file')} with {counted(boxes, 'box')} written to {xml}.")
    if xml is None or output is not None:
        path = output or usual
        write_table(path, labels)
        say(f"{counted(boxes, 'box')} in {counted(len(labels), 'image')} written to {path}.")


@reports_errors
@takes_settings(
    TrainSettings,
    only=(
        "annotations",
        "images",
        "one_based",
    ),
)
def check(
    given: dict[str, Any],
    classes: Annotated[
        str | None, typer.Option(help="Allowed class names, separated by commas.")
    ] = None,
) -> None:
    """Lists everything that is wrong with labels and images; exits 2 if anything is."""
    from detection.data.check import check as look
    from detection.data.check import group_findings

    names = [name.strip() for name in classes.split(",")] if classes else None
    settings = read_settings(TrainSettings, None, given)
    problems = look(settings.annotations, settings.images, names, settings.one_based)
    table = Table(title=counted(len(problems), "finding"))
    for name in ("kind", "file", "where", "what, and the fix"):
        table.add_column(name, overflow="fold")
    for item, places in group_findings(problems):
        kind = f"{item.kind} (repaired)" if item.repaired else item.kind
        file, where = Path(item.file).name, item.where
        if len(places) > 1:
            kind, file, where = f"{len(places)} x {kind}", ", ".join(places), ""
        table.add_row(kind, printable(file), where, item.message)
    errors = sum(not item.repaired for item in problems)
    if problems:
        console.print(table)
    repaired = len(problems) - errors
    told = "; those marked repaired are corrected whenever the files are read" if repaired else ""
    say(f"{counted(errors, 'problem')} to fix, {repaired} repaired{told}.")
    if errors:
        raise typer.Exit(2)
