"""Labels, made and checked; needs no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from inspection.cli.console import (
    console,
    counted,
    progress,
    reports_errors,
    say,
)
from inspection.errors import InputError, group_alike, printable

Annotations = Annotated[Path, typer.Option(help="Folder of labelImg XML files.")]

Images = Annotated[Path, typer.Option(help="Folder of the images.")]

OneBased = Annotated[bool, typer.Option("--one-based", help="XML is from a VOC devkit: minima 1.")]

GroupBy = Annotated[
    str | None,
    typer.Option(
        help="Regex with one group, or CSV image,group: keeps exposures of a part together."
    ),
]

Config = Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")]

Augment = Annotated[
    str | None,
    typer.Option(help="none, flip (never turned), basic or heavy.", show_default="basic"),
]

Unlabelled = Annotated[str, typer.Option(help="Images without XML: skip, or normal.")]


@reports_errors
def label(
    images: Annotated[Path, typer.Argument(help="Folder of the images to label.")] = Path(
        "images_900"
    ),
    annotations: Annotations = Path("annotations"),
    classes: Annotated[str | None, typer.Option(help="Class names, separated by commas.")] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="Folder of guessed boxes to correct and save.")
    ] = None,
) -> None:
    """Opens labelImg in Pascal-VOC mode, mended for today's Python."""
    from detection.labelling.launch import label as start

    names = [name.strip() for name in classes.split(",") if name.strip()] if classes else None
    status = start(images, annotations, names, proposals)
    if status:
        raise typer.Exit(status)


@reports_errors
def resize(
    source: Annotated[Path, typer.Argument(help="An image or a folder of images of any size.")],
    images: Images = Path("images_900"),
    annotations: Annotations = Path("annotations"),
    size: Annotated[int, typer.Option(min=64, help="Side of the square result.")] = 900,
    fit: Annotated[
        str, typer.Option(help="letterbox keeps the shape and pads; stretch fills.")
    ] = "letterbox",
    bits: Annotated[int, typer.Option(min=8, max=16, help="Bits that a 16-bit camera fills.")] = 16,
    source_annotations: Annotated[
        Path | None, typer.Option(help="Folder of the sources' XML; beside the images by default.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files this verb did not write.")
    ] = False,
    one_based: OneBased = False,
) -> None:
    """Brings pictures of any size and depth to 900 x 900, and their boxes with them."""
    from detection.data.resize import resize as bring

    if fit not in ("letterbox", "stretch"):
        raise InputError(f"--fit {fit}: must be letterbox or stretch.")
    with progress("resizing") as on_progress:
        result = bring(
            source,
            images,
            annotations,
            size,
            fit,
            bits,
            force,
            source_annotations,
            one_based,
            on_progress,
            say,
        )
    say(
        f"{counted(result.written, 'image')} written to {images}, {result.unchanged} up to date; "
        f"{counted(result.annotations, 'XML file')} carried along, {result.kept} of yours left as "
        "they are."
    )
    if result.problems:
        raise InputError(result.problems)


@reports_errors
def convert(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    output: Annotated[
        Path | None, typer.Option(help="CSV to write; annotations/annotations.csv by default.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Read this CSV (ours or keras-retinanet's) instead of XML.")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="keras-retinanet's class file.")] = None,
    xml: Annotated[Path | None, typer.Option(help="Write labelImg XML into this folder.")] = None,
    unlabelled: Unlabelled = "skip",
    one_based: OneBased = False,
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

    usual = annotations / CSV_NAME
    if csv is not None and not csv.is_file():
        raise InputError(f"--csv {csv}: there is no such file; correct the path.")
    if output is None and xml is None and (one_based or (csv is not None and usual.exists())):
        flag = "--one-based" if one_based else "--csv"
        raise InputError(
            f"{flag}: name the file to write by --output, or a folder for XML by --xml; {usual} is "
            "what training reads."
        )
    if unlabelled not in ("skip", "normal"):
        raise InputError(f"--unlabelled {unlabelled}: must be skip or normal.")
    notes: list[str] = []
    if csv is not None:
        labels = read_table(csv, classes, images_dir=images, warnings=notes)
    else:
        # As training reads them: rows of the usual table that no XML stands behind are labels.
        read = labels_for if output is None and not one_based else read_annotations
        labels = read(annotations, images, one_based, unlabelled, notes)
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
def check(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    classes: Annotated[
        str | None, typer.Option(help="Allowed class names, separated by commas.")
    ] = None,
    one_based: OneBased = False,
) -> None:
    """Lists everything that is wrong with labels and images; exits 2 if anything is."""
    from detection.data.check import check as look
    from detection.data.check import group_findings

    names = [name.strip() for name in classes.split(",")] if classes else None
    problems = look(annotations, images, names, one_based)
    table = Table(title=counted(len(problems), "finding"))
    for name in ("kind", "file", "where", "what, and the mend"):
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
    told = "; those marked repaired are put right whenever the files are read" if repaired else ""
    say(f"{counted(errors, 'problem')} to mend, {repaired} repaired{told}.")
    if errors:
        raise typer.Exit(2)


def three_fractions(text: str) -> tuple[float, float, float]:
    """Reads `0.7,0.15,0.15`.

    Raises:
        InputError: It is not three numbers.
    """
    try:
        values = tuple(float(part) for part in text.replace("/", ",").split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise InputError(f"--fractions {text}: give three shares like 0.7,0.15,0.15.")
    return values
