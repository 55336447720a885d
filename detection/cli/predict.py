"""Boxes on new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import counted, progress, reports_errors, say
from inspection.cli.options import Output, Restart
from inspection.errors import InputError
from inspection.fields import BATCH_SIZE


@reports_errors
def predict(
    first: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .keras file or an exported model.")
    ],
    others: Annotated[
        list[Path] | None, typer.Argument(metavar="PATHS", help="Image files and folders.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Names the model instead; all else are then images.",
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
    batch_size: Annotated[int, typer.Option(min=1, help=BATCH_SIZE)] = 1,
    restart: Restart = False,
) -> None:
    """Boxes on raw camera files: CSV, JSON lines, VOC XML and overlay pictures."""
    from detection.cli.arguments import check_prediction, model_and_paths
    from detection.prediction.files import predict_files

    model, paths = model_and_paths(model, [first, *(others or [])])
    owner = check_prediction(model, paths, output)
    from detection.export.exported import load_any
    from inspection.models.card import model_line
    from inspection.prediction.folder import refuse_replaced

    detector = load_any(model)
    refuse_replaced(model, owner)
    say(model_line(detector.card))
    with progress("predicting") as on_progress:
        result = predict_files(
            detector,
            paths,
            output,
            threshold=threshold,
            batch_size=batch_size,
            resume=not restart,
            on_progress=on_progress,
            model_hash=owner.model_hash,
            run=owner.run,
        )
    done, before = counted(result.done, "image"), result.skipped
    say(f"{done} done, {before} were done before; results in {output}.")
    if threshold is None and detector.operating_point is None:
        say(
            "Warning: this model has no calibrated threshold; OK and NG were decided at "
            f"{result.threshold:g}, which nobody chose on pictures. Train longer, or give "
            "--threshold."
        )
    if result.problems:
        raise InputError(result.problems)
