"""Measuring a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from detection.cli.labels import AS_TRAINED
from detection.settings import LABELS, TrainSettings
from inspection.cli.console import console, progress, reports_errors, say
from inspection.cli.options import Beside, Split, takes_settings, typed_settings
from inspection.fields import BATCH_SIZE


@reports_errors
@takes_settings(
    TrainSettings,
    only=LABELS,
    defaults=AS_TRAINED,
)
def evaluate(
    given: dict[str, Any],
    snapshot: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .keras file, or a run's folder.")
    ] = Path("snapshots/best.keras"),
    split: Split = None,
    iou: Annotated[float, typer.Option(min=0.01, max=1.0, help="IoU that a hit needs.")] = 0.5,
    csv: Annotated[
        Path | None, typer.Option(help="Labels from this CSV (ours or keras-retinanet's).")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help=BATCH_SIZE)] = 1,
    output: Beside = None,
    prevalence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of defective parts made: escapes in PPM."),
    ] = None,
) -> None:
    """Prints AP per class, mAP, miss and overkill rates; writes a report beside the snapshot."""
    from detection.cli.arguments import check_model
    from detection.evaluation.snapshot import EvaluationRequest, evaluate_snapshot

    check_model(snapshot, split)
    request = EvaluationRequest(
        snapshot=snapshot,
        split=split,
        csv=csv,
        iou=iou,
        batch_size=batch_size,
        output=output,
        prevalence=prevalence,
        **typed_settings(TrainSettings, given),
    )
    with progress("evaluating") as on_progress:
        evaluation, report = evaluate_snapshot(request, say, on_progress)
    from detection.evaluation.report import print_evaluation

    print_evaluation(evaluation, console)
    say(f"Page: {report}")
