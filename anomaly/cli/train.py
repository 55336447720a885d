"""Learning normal images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.shared import (
    Backbone,
    Bits,
    Config,
    Data,
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
    reports_errors,
    say,
    stages,
)


@reports_errors
def train(
    data: Data,
    method: Annotated[
        str | None,
        typer.Option(
            help="patchcore, cs-flow, cfa, padim, fastflow, cflow, self-supervised, vae, "
            "vae-denoising, ocr-gan, oc-svm or isolation-forest; the guide says what each is.",
            show_default="patchcore",
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="date and method")
    ] = None,
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
    rotations: Annotated[
        bool | None, typer.Option("--rotations", help="Learn normals turned by 90, 180, 270 too.")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Grey levels of noise on changed copies.")
    ] = None,
    crops: Annotated[int | None, typer.Option(help="Random cuts of each normal.")] = None,
    grid: Annotated[int | None, typer.Option(help="Regular cuts, so many a side.")] = None,
    generated: Annotated[
        Path | None, typer.Option(help="Folder of generated normals to learn too.")
    ] = None,
    generated_share: Annotated[
        float | None, typer.Option(help="Their highest share.", show_default="0.5")
    ] = None,
    fractions: Fractions = None,
    group_by: GroupBy = None,
    seed: Seed = None,
    aggregation: Annotated[
        str | None,
        typer.Option(
            help="Map to score: max, top-0.5%, top-2%, top-10%, std, mean or area.",
            show_default="chosen on calibration",
        ),
    ] = None,
    rule: Rule = None,
    target_miss: TargetMiss = None,
    target_overkill: TargetOverkill = None,
    config: Config = None,
) -> None:
    """Learns normal pictures; chooses the threshold on the calibration part."""
    settings = read(config, locals(), "config")

    from anomaly.cli.arguments import check_settings

    check_settings(settings)
    from anomaly.training.loop import train as start

    with stages() as on_progress:
        folder = start(settings, say, on_progress)
    say(f"Run: {folder}. Measure it with: python -m anomaly evaluate {folder}")
