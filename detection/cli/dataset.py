"""What a training will be given: the split, the anchors, a page that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from detection.cli.labels import (
    Annotations,
    Augment,
    Config,
    GroupBy,
    Images,
    OneBased,
    Unlabelled,
    three_fractions,
)
from inspection.cli.console import (
    console,
    reports_errors,
    say,
)
from inspection.errors import InputError

_SHOW_ONLY = ("output", "limit", "config")


@reports_errors
def split(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    snapshots: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("snapshots"),
    fractions: Annotated[
        str, typer.Option(help="Shares of train, val and test.")
    ] = "0.7,0.15,0.15",
    group_by: GroupBy = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    unlabelled: Unlabelled = "skip",
    one_based: OneBased = False,
) -> None:
    """Makes the stored split, or lets new images join it; no image ever changes side."""
    from detection.data.dataset import boxes_per_class, open_dataset
    from inspection.data.split import PARTS, leakage

    dataset = open_dataset(
        annotations,
        images,
        snapshots,
        fractions=three_fractions(fractions),
        seed=seed,
        group_by=group_by,
        one_based=one_based,
        unlabelled=unlabelled,
        say=say,
    )
    table = Table("", *PARTS)
    parts = [dataset.part(part) for part in PARTS]
    counts = [boxes_per_class(labels) for labels in parts]
    table.add_row("images", *(str(len(labels)) for labels in parts))
    normal = [sum(not len(item.xyxy) for item in labels) for labels in parts]
    table.add_row("normal images", *map(str, normal), end_section=True)
    for name in dataset.classes:
        table.add_row(f"{name} boxes", *(str(count[name]) for count in counts))
    console.print(table)
    say(f"Stored in {dataset.split_path}, hash {dataset.split.hash[:12]}.")
    findings = leakage(dataset.split, images)
    if findings:
        raise InputError(findings)


@reports_errors
def anchors(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    size: Annotated[int, typer.Option(min=64, help="Side that images are fitted to.")] = 900,
    fit: Annotated[str, typer.Option(help="letterbox or stretch.")] = "letterbox",
    crop: Annotated[int | None, typer.Option(help="Side of training windows.")] = None,
    augment: Augment = None,
    unlabelled: Unlabelled = "skip",
    one_based: OneBased = False,
) -> None:
    """How many boxes the paper's anchors and the fitted ones can reach, as training shows them."""
    given = dict(locals())
    from detection.data.dataset import read_labels
    from detection.models.anchors import best_ious, best_possible_recall
    from detection.settings import load_settings

    settings = load_settings(None, given)
    labels = read_labels(annotations, images, one_based=one_based, unlabelled=unlabelled, say=say)
    from detection.training.shown_boxes import find_shown_boxes

    shown = find_shown_boxes(labels, settings)
    boxes = shown.boxes
    table = Table(
        "anchors", "sizes", "scales", "ratios", "recall at IoU .4", ".5", ".7", "mean best IoU"
    )
    for name, kind in (("paper", "default"), ("fitted", "auto")):
        item = shown.choose_anchors(kind)
        ious = best_ious(item, boxes, shown.side, shown.side)
        table.add_row(
            name,
            ", ".join(f"{value:g}" for value in item.sizes),
            ", ".join(f"{value:.3g}" for value in item.scales),
            ", ".join(f"{value:g}" for value in item.ratios),
            *(f"{best_possible_recall(ious, at):.3f}" for at in (0.4, 0.5, 0.7)),
            f"{ious.mean():.3f}" if len(ious) else "-",
        )
    console.print(table)
    say(
        f"{len(shown.labelled)} boxes in {len(labels)} images, fitted to {size} x {size}; reached "
        f"as the recipe {settings.augment} shows them: {shown.how}."
    )


@reports_errors
def show(
    annotations: Annotated[Path | None, typer.Option(help="Folder of labelImg XML.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("snapshots/show.html"),
    size: Annotated[int | None, typer.Option(help="Side that images are fitted to.")] = None,
    fit: Annotated[str | None, typer.Option(help="letterbox or stretch.")] = None,
    bits: Annotated[int | None, typer.Option(help="Bits that a 16-bit camera fills.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of training windows.")] = None,
    augment: Augment = None,
    anchors: Annotated[str | None, typer.Option(help="auto (fitted) or default.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pictures of each kind.")] = 12,
    seed: Annotated[int | None, typer.Option(help="Decides the pictures drawn.")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="Images without XML: skip, or normal.")
    ] = None,
    one_based: Annotated[bool | None, typer.Option("--one-based", help="VOC-devkit XML.")] = None,
    config: Config = None,
) -> None:
    """Draws annotations, anchors and augmented samples into one HTML page."""
    given = {key: value for key, value in locals().items() if key not in _SHOW_ONLY}
    from detection.data.dataset import read_labels
    from detection.data.table import classes_of
    from detection.settings import load_settings

    settings = load_settings(config, given)
    labels = read_labels(
        settings.annotations, settings.images, settings.one_based, settings.unlabelled, say
    )
    from detection.show.page import show as draw

    page = draw(labels, settings, classes_of(labels), output, limit)
    say(f"Written: {page}")
