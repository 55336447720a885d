"""Measuring a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import (
    console,
    progress,
    reports_errors,
    say,
)


@reports_errors
def evaluate(
    snapshot: Annotated[Path, typer.Argument(help="A .keras file.")] = Path("snapshots/best.keras"),
    split: Annotated[
        str | None, typer.Option(help="train, val, test or all; test, or all for other folders.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    iou: Annotated[float, typer.Option(min=0.01, max=1.0, help="IoU that a hit needs.")] = 0.5,
    csv: Annotated[
        Path | None, typer.Option(help="Labels from this CSV (ours or keras-retinanet's).")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="Images without XML: skip, or normal; as in training.")
    ] = None,
    one_based: Annotated[
        bool | None, typer.Option("--one-based", help="VOC-devkit XML; as in training.")
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of defective parts made: escapes in PPM."),
    ] = None,
) -> None:
    """Prints AP per class, mAP, miss and overkill rates; writes a report beside the snapshot."""
    from detection.cli.arguments import check_model

    check_model(snapshot, split)
    from detection.evaluation.snapshot import EvaluationRequest, evaluate_snapshot

    request = EvaluationRequest(
        *(snapshot, split, annotations, images, csv, iou, batch_size, output),
        *(unlabelled, one_based, prevalence),
    )
    with progress("evaluating") as on_progress:
        evaluation, report = evaluate_snapshot(request, say, on_progress)
    from detection.evaluation.measure import print_evaluation

    print_evaluation(evaluation, console)
    say(f"Report: {report}")
