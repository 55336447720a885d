"""The command line: `python -m classification` with its verbs."""

from __future__ import annotations

import typer

from classification.cli import dashboard, evaluate, explain, export, predict, show, submit, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a class per image to a classifier that shows where it looks.",
)
for verb in (
    train.train,
    show.show,
    evaluate.evaluate,
    predict.predict,
    export.export,
    submit.submit,
    explain.cam,
    explain.boxes,
    dashboard.dashboard,
):
    app.command()(verb)
