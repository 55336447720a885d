"""Boxes on new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import reports_errors
from inspection.cli.options import BatchSize, Output, Restart


@reports_errors
def predict(
    first: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A .keras file, a run's folder, or an exported file."),
    ],
    others: Annotated[
        list[Path] | None, typer.Argument(metavar="PATHS", help="Image files and folders.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The model; all paths are then images.",
            show_default="snapshots/best.keras if no model is typed",
        ),
    ] = None,
    output: Output = Path("predictions"),
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Boxes of lower scores are not written; there are none under 0.05.",
            show_default="the model's operating point",
        ),
    ] = None,
    batch_size: BatchSize = 1,
    restart: Restart = False,
) -> None:
    """Boxes on raw camera files: tables, VOC XML and overlays."""
    from detection.cli.arguments import check_prediction, model_and_paths

    model, paths = model_and_paths(model, [first, *(others or [])])
    owner = check_prediction(model, paths, output, restart)
    import detection
    from detection.prediction.files import BoxPredictor
    from inspection.prediction.command import predict_and_say
    from inspection.prediction.journal import refuse_replaced

    detector = detection.load(model)
    refuse_replaced(model, owner)
    predictor = BoxPredictor(detector, threshold)
    predict_and_say(predictor, detector.card, paths, output, owner, restart, batch_size)
