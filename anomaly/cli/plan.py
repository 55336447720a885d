"""How many images a target takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import (
    reports_errors,
    say,
)
from inspection.errors import InputError


@reports_errors
def plan(
    run: Annotated[Path | None, typer.Argument(help="A run whose test is looked at.")] = None,
    target_miss: Annotated[float, typer.Option(help="Miss rate to show.")] = 0.005,
    target_overkill: Annotated[float, typer.Option(help="Overkill rate to show.")] = 0.02,
) -> None:
    """How many pictures it takes to show a target, and how many are missing."""
    from anomaly.evaluation.plan import measured, plan_lines

    for flag, value in (("--target-miss", target_miss), ("--target-overkill", target_overkill)):
        if not 0 < value < 1:
            raise InputError(f"{flag} {value:g}: must be over 0 and under 1, for instance 0.005")
    if run:
        from anomaly.run import check_run

        check_run(run)
    miss, overkill = measured(run) if run else (None, None)
    for line in plan_lines(target_miss, target_overkill, miss, overkill):
        say(line)
