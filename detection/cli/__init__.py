"""The command line: `python -m detection` with its verbs, in the order of a user's work."""

from __future__ import annotations

import typer

from detection.cli import labels as cli_labels
from detection.cli import models as cli_models

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From labelImg boxes to a RetinaNet and the numbers it can be trusted by.",
)
for verb in (
    cli_labels.label,
    cli_labels.resize,
    cli_labels.convert,
    cli_labels.check,
    cli_labels.split,
    cli_labels.anchors,
    cli_labels.show,
    cli_models.train,
    cli_models.evaluate,
    cli_models.predict,
    cli_models.export,
):
    app.command()(verb)
