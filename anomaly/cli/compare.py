"""Several methods on several products."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.shared import (
    SHARED,
    Backbone,
    Bits,
    Config,
    Fit,
    Fractions,
    GroupBy,
    PretrainSteps,
    Roi,
    RoiMask,
    Rule,
    Runs,
    Seed,
    Size,
    TargetMiss,
    TargetOverkill,
    Tile,
    Weights,
    read,
)
from inspection.cli.console import (
    console,
    reports_errors,
    say,
    stages,
)
from inspection.errors import InputError


@reports_errors
def compare(
    data: Annotated[list[Path], typer.Argument(help="One or many data roots (products).")],
    methods: Annotated[str, typer.Option(help="Names with commas, or all.")] = "all",
    profile: Annotated[str, typer.Option(help="cpu or paper: options of each method.")] = "cpu",
    name: Annotated[str, typer.Option(help="Folder of the comparison.")] = "compare",
    runs: Runs = None,
    backbone: Backbone = None,
    weights: Weights = None,
    pretrain_steps: PretrainSteps = None,
    size: Size = None,
    fit: Fit = None,
    bits: Bits = None,
    roi: Roi = None,
    roi_mask: RoiMask = None,
    tile: Tile = None,
    fractions: Fractions = None,
    group_by: GroupBy = None,
    seed: Seed = None,
    rule: Rule = None,
    target_miss: TargetMiss = None,
    target_overkill: TargetOverkill = None,
    target_mb: Annotated[float | None, typer.Option(help="Largest model, 10^6 bytes.")] = None,
    target_ms: Annotated[float | None, typer.Option(help="Longest p95, file to decision.")] = None,
    config: Config = None,
) -> None:
    """Trains and measures several methods on one or many products; a table and a page."""
    import sys

    from anomaly.cli.arguments import check_comparison
    from anomaly.methods.names import METHODS

    given = {key: value for key, value in locals().items() if key in SHARED}
    settings = read(config, {**given, "data": data[0]})
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
    command = f"python -m anomaly {shlex.join(sys.argv[1:])}"
    write_report(rows, targets, folder / "compare.html", command)
    console.print(console_table(rows, targets))
    say(f"Table: {folder / TABLE}. Page with curves and pictures: {folder / 'compare.html'}.")
    if any(row.problems for row in rows):
        raise InputError(
            [f"{row.product}, {row.method}: {p}" for row in rows for p in row.problems]
        )
