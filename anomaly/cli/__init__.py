"""The command line: `python -m anomaly` with its verbs, in the order of a user's work."""

from __future__ import annotations

import typer

from anomaly.cli import compare, evaluate, export, generate, plan, predict, simulate, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From normal images to a score, a heat map and a decision.",
)
for verb in (
    train.train,
    evaluate.evaluate,
    predict.predict,
    compare.compare,
    simulate.simulate,
    export.export,
    generate.generate,
    plan.plan,
):
    app.command()(verb)
