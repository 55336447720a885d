"""Where a model looks, and boxes from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from classification.cli.shared import Images, Layer, Method, MinArea, Model, Most, Smooth, Threshold
from inspection.cli.commands import command_line
from inspection.cli.console import counted, progress, reports_errors, say
from inspection.cli.options import Output
from inspection.errors import InputError


@reports_errors
def cam(
    model: Model,
    folder: Images,
    method: Method = "grad-cam",
    layer: Layer = None,
    smooth: Smooth = "none",
    target: Annotated[
        str, typer.Option(help="Class to explain: predicted, known (the folder's), or a name.")
    ] = "predicted",
    threshold: Threshold = "0.5",
    min_area: MinArea = 25,
    most: Most = 0,
    split: Annotated[
        str | None,
        typer.Option(
            help="Only this part of the run's split: train, val or test.", show_default="all"
        ),
    ] = None,
    road: Annotated[bool, typer.Option("--road", help="Measure ROAD too (slow).")] = False,
    randomise: Annotated[
        bool, typer.Option("--randomise", help="Compare with maps of shuffled weights.")
    ] = False,
    output: Output = Path("cams"),
) -> None:
    """Where the model looks: overlays, and figures where there are masks."""
    from classification.cam.boxes import BoxRule
    from classification.cli.arguments import check_maps, found_images

    check_maps(method, smooth)
    images = found_images(model, folder)
    if split is not None:
        from classification.evaluation.measure import images_of_part

        images = images_of_part(model, split, images, folder)
    from classification.cam.explain import ExplainRequest, explain_folder
    from classification.models.classifier import Classifier

    loaded = Classifier.load(model)
    rule = BoxRule(threshold, min_area, most)
    request = ExplainRequest(method, layer, smooth, target, rule, road, randomise)
    with progress("explaining") as bar:
        summary, problems = explain_folder(
            loaded, images, output, request, lambda what, done, total: bar(done, total, what)
        )
    say(
        f"{output}: {counted(summary['pictures'], 'image')}, {summary['method']} at "
        f"{summary['layer']}."
    )
    if summary["empty_maps"]:
        say(
            f"{counted(summary['empty_maps'], 'map')} are empty: nothing in this layer speaks for "
            "the class. Another --layer, --method or a better model helps."
        )
    names = {
        "pointing": "pointing game",
        "energy": "energy inside the mask",
        "iou": "IoU with the mask",
        "road": "ROAD",
    }
    figures = [
        f"{text} {summary[key]:.3f}" for key, text in names.items() if summary[key] is not None
    ]
    if figures:
        say(f"On {counted(summary['with_masks'], 'image')} with a mask: {', '.join(figures)}.")
    if randomise:
        alike = summary["alike_with_shuffled_weights"]
        say(
            "Maps of shuffled weights were not compared: no image could be read, or every map "
            "is the same everywhere."
            if math.isnan(alike)
            else f"Correlation with maps of shuffled weights (Spearman): {alike:.2f}; near 1 a map "
            "would not show what was learnt."
        )
    for iou in (0.3, 0.5):
        found = summary.get(f"boxes_at_iou_{iou}")
        if found:
            right = found["precision"]
            told = "no box found" if math.isnan(right) else f"precision {right:.3f}"
            say(f"Boxes at IoU {iou:g}: recall {found['recall']:.3f}, {told}.")
    if problems:
        raise InputError(problems)


@reports_errors
def boxes(
    model: Model,
    folder: Images,
    method: Method = "grad-cam",
    layer: Layer = None,
    smooth: Smooth = "none",
    target: Annotated[
        str, typer.Option(help="known (the folder's class, else the predicted), or predicted.")
    ] = "known",
    threshold: Threshold = "0.5",
    min_area: MinArea = 25,
    most: Most = 0,
    output: Annotated[Path, typer.Option(help="Folder of the proposals.")] = Path("proposals"),
) -> None:
    """Proposes boxes by what the model looks at, for a person to correct in labelImg."""
    from classification.cam.boxes import CSV_NAME, BoxRule, check_folder, write_proposals
    from classification.cli.arguments import check_maps, found_images

    check_maps(method, smooth)
    images = found_images(model, folder)
    check_folder(output, [one.image for one in images])  # better refused before the work
    from classification.cam.explain import ExplainRequest, propose
    from classification.models.classifier import Classifier

    loaded = Classifier.load(model)
    request = ExplainRequest(
        method, layer, smooth, target, BoxRule(threshold, min_area, most), False
    )
    with progress("proposing") as bar:
        found, problems = propose(
            loaded, images, request, lambda what, done, total: bar(done, total, what)
        )
    write_proposals(output, found)
    count = sum(len(one.boxes) for one in found)
    with_boxes = sum(bool(len(one.boxes)) for one in found)
    say(
        f"{output}: {count} boxes in {counted(with_boxes, 'image')}, {CSV_NAME} lists all; "
        f"{len(found) - with_boxes} got none, as they are normal or their map is empty. Correct "
        f"them with: {command_line('detection', 'label', folder, '--proposals', output)}"
    )
    from inspection.data.masks import MASK_FOLDERS

    if any((folder / name).is_dir() for name in MASK_FOLDERS):
        say("Masks lie in that folder, and labelImg shows them too: label one class at a time.")
    if problems:
        raise InputError(problems)
