"""Deciding on new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import reports_errors
from inspection.cli.options import BatchSize, Output, Paths, Restart


@reports_errors
def predict(
    run: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A run's folder, or a file that export wrote."),
    ],
    paths: Paths,
    output: Output = Path("predictions"),
    heat_maps: Annotated[bool, typer.Option(help="Write images with heat maps.")] = True,
    batch_size: BatchSize = 1,
    restart: Restart = False,
) -> None:
    """Decides on new images: a table and heat maps."""
    from anomaly.cli.arguments import check_prediction

    owner = check_prediction(run, paths, output, restart)
    import anomaly
    from anomaly.export.exported import graph_file
    from anomaly.prediction.files import HeatPredictor
    from inspection.prediction.command import predict_and_say
    from inspection.prediction.journal import refuse_replaced
    from inspection.training.run import MODEL

    graph = graph_file(run)
    model = anomaly.load(run if graph else run / MODEL)
    refuse_replaced(graph or run / MODEL, owner)
    predictor = HeatPredictor(model, heat_maps)
    predict_and_say(predictor, model.card, paths, output, owner, restart, batch_size)
