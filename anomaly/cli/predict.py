"""Deciding on new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import reports_errors
from inspection.cli.options import BatchSize, Output, Paths, Restart


@reports_errors
def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A run's folder, its .anomaly file, or an exported file."
        ),
    ],
    paths: Paths,
    output: Output = Path("predictions"),
    heat_maps: Annotated[bool, typer.Option(help="Write images with heat maps.")] = True,
    batch_size: BatchSize = 1,
    restart: Restart = False,
) -> None:
    """Decides on new images: a table and heat maps."""
    from anomaly.cli.arguments import check_prediction, model_path

    owner = check_prediction(model, paths, output, restart)
    import anomaly
    from anomaly.prediction.files import HeatPredictor
    from inspection.prediction.command import predict_and_say
    from inspection.prediction.journal import refuse_replaced

    loaded = anomaly.load(model)
    refuse_replaced(model_path(model), owner)
    predictor = HeatPredictor(loaded, heat_maps)
    predict_and_say(predictor, loaded.card, paths, output, owner, restart, batch_size)
