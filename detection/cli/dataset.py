"""What a training will be given: the split, the anchors, a page that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from detection.settings import LABELS, TrainSettings
from inspection.cli.console import console, reports_errors, say
from inspection.cli.options import Config, takes_settings
from inspection.errors import InputError
from inspection.settings import read_settings


@reports_errors
@takes_settings(
    TrainSettings,
    only=(
        *LABELS,
        "snapshots",
        "fractions",
        "group_by",
        "seed",
    ),
)
def split(
    given: dict[str, Any],
) -> None:
    """Makes the stored split, or lets new images join it; no image ever changes side."""
    from detection.data.dataset import boxes_per_class, dataset_of
    from inspection.data.split import PARTS, leakage

    settings = read_settings(TrainSettings, None, given)
    dataset = dataset_of(settings, say=say)
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
    findings = leakage(dataset.split, settings.images)
    if findings:
        raise InputError(findings)


@reports_errors
@takes_settings(
    TrainSettings,
    only=(
        *LABELS,
        "size",
        "fit",
        "crop",
        "augment",
    ),
)
def anchors(
    given: dict[str, Any],
) -> None:
    """How many boxes the paper's anchors and the fitted ones can reach, as training shows them."""
    from detection.data.dataset import read_labels
    from detection.models.anchors import best_ious, best_possible_recall

    settings = read_settings(TrainSettings, None, given)
    labels = read_labels(
        settings.annotations, settings.images, settings.one_based, settings.unlabelled, say
    )
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
    side = settings.size
    say(
        f"{len(shown.labelled)} boxes in {len(labels)} images, fitted to {side} x {side}; reached "
        f"as the recipe {settings.augment} shows them: {shown.how}."
    )


@reports_errors
@takes_settings(
    TrainSettings,
    only=(
        *LABELS,
        "size",
        "fit",
        "bits",
        "crop",
        "augment",
        "anchors",
        "seed",
    ),
)
def show(
    given: dict[str, Any],
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("snapshots/show.html"),
    limit: Annotated[int, typer.Option(min=1, help="Images of each kind.")] = 12,
    config: Config = None,
) -> None:
    """Draws annotations, anchors and augmented samples into one HTML page."""
    from detection.data.dataset import read_labels
    from detection.data.table import classes_of

    settings = read_settings(TrainSettings, config, given)
    labels = read_labels(
        settings.annotations, settings.images, settings.one_based, settings.unlabelled, say
    )
    from detection.show.page import show as draw

    page = draw(labels, settings, classes_of(labels), output, limit)
    say(f"Written: {page}")
