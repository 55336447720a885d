"""Deciding on new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import counted, reports_errors, say, stages
from inspection.cli.options import Output, Paths, Restart
from inspection.errors import InputError


@reports_errors
def predict(
    run: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A run's folder, or one that export wrote."),
    ],
    paths: Paths,
    output: Output = Path("predictions"),
    heat_maps: Annotated[bool, typer.Option(help="Write images with heat maps.")] = True,
    restart: Restart = False,
) -> None:
    """Decides on new pictures: a CSV and heat maps."""
    from anomaly.cli.arguments import check_prediction, exported_graph

    owner = check_prediction(run, paths, output, restart)
    import anomaly
    from anomaly.prediction.files import NOT_DECIDED, predict_files
    from inspection.models.card import model_line
    from inspection.prediction.folder import refuse_replaced
    from inspection.training.run import MODEL

    graph = exported_graph(run)
    model = anomaly.load(run if graph else run / MODEL)
    refuse_replaced(graph or run / MODEL, owner)
    with stages() as on_progress:
        found = predict_files(
            model,
            paths,
            output,
            heat_maps=heat_maps,
            restart=restart,
            owner=owner,
            on_progress=on_progress,
        )
    names = ("OK", "review", "NG", NOT_DECIDED)
    say(model_line(model.card))
    say(f"{found.table}: {', '.join(f'{found.decisions[name]} {name}' for name in names)}.")
    if found.skipped:
        say(f"{counted(found.skipped, 'image')} of these had been done before.")
    if found.problems:
        raise InputError(found.problems)
