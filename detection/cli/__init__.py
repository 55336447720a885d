"""The command line: `python -m detection` with its verbs, in the order of a user's work."""

from __future__ import annotations

import typer

from detection.cli import dataset, evaluate, export, labels, predict, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From labelImg boxes to a RetinaNet and the numbers it can be trusted by.",
)
for verb in (
    labels.label,
    labels.resize,
    labels.convert,
    labels.check,
    dataset.split,
    dataset.anchors,
    dataset.show,
    train.train,
    evaluate.evaluate,
    predict.predict,
    export.export,
):
    app.command()(verb)
