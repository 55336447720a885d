"""How many images a target takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.settings import AnomalySettings
from inspection.cli.console import reports_errors, say
from inspection.cli.options import takes_settings
from inspection.settings import read_settings


@reports_errors
@takes_settings(AnomalySettings, only=("target_miss", "target_overkill"))
def plan(
    given: dict[str, Any],
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="A run whose measured rates are compared with the targets."
        ),
    ] = None,
) -> None:
    """How many images it takes to show a target, and how many are missing."""
    from anomaly.evaluation.plan import measured, plan_lines

    settings = read_settings(AnomalySettings, None, {"data": Path(), **given})
    if run:
        from anomaly.training.run import check_run

        check_run(run)
    miss, overkill = measured(run) if run else (None, None)
    for line in plan_lines(settings.target_miss, settings.target_overkill, miss, overkill):
        say(line)
