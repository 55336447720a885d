"""Several methods on several products."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.settings import ROOM, AnomalySettings
from inspection.cli.commands import command_line
from inspection.cli.console import console, reports_errors, say, stages
from inspection.cli.options import Config, takes_settings
from inspection.errors import InputError
from inspection.fields import DECISION
from inspection.settings import read_settings


@reports_errors
@takes_settings(AnomalySettings, without=("data", "run", "method"))
def compare(
    given: dict[str, Any],
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA", help="One or many data roots (products).")
    ],
    methods: Annotated[str, typer.Option(help="Names with commas, or all.")] = "all",
    profile: Annotated[str, typer.Option(help="cpu or paper: options of each method.")] = "cpu",
    name: Annotated[
        str, typer.Option("--name", "--run", help="Name of the comparison's folder.")
    ] = "compare",
    target_mb: Annotated[
        float | None,
        typer.Option(help="Largest model, 10^6 bytes.", rich_help_panel=DECISION),
    ] = None,
    target_ms: Annotated[
        float | None,
        typer.Option(
            help="Longest time from file to decision (p95), in ms.", rich_help_panel=DECISION
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Trains and measures several methods on one or many products; a table and a page."""
    from anomaly.cli.arguments import check_comparison
    from anomaly.methods.names import METHODS

    settings = read_settings(AnomalySettings, config, {**given, "data": data[0]})
    chosen = METHODS if methods == "all" else [part.strip() for part in methods.split(",")]
    check_comparison(settings, data, chosen, profile)
    from anomaly.comparison.compare import TABLE, Targets, write_table
    from anomaly.comparison.compare import compare as run_all
    from anomaly.comparison.report import console_table, write_report

    with stages() as on_progress:
        rows = run_all(data, chosen, settings, profile, name, say=say, on_progress=on_progress)
    targets = Targets(settings.target_miss, settings.target_overkill, target_mb, target_ms)
    folder = settings.runs / name
    write_table(rows, targets, folder / TABLE)
    write_report(rows, targets, folder / "compare.html", command_line(ROOM, *sys.argv[1:]))
    console.print(console_table(rows, targets))
    say(f"Table: {folder / TABLE}. Page with curves and images: {folder / 'compare.html'}.")
    if any(row.problems for row in rows):
        raise InputError(
            [f"{row.product}, {row.method}: {p}" for row in rows for p in row.problems]
        )
