"""What several verbs are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspection.cli.console import (
    numbers_of,
)

if TYPE_CHECKING:
    from anomaly.settings import AnomalySettings


Data = Annotated[Path, typer.Argument(help="Folder with normal/, MVTec layout, or a CSV.")]

Run = Annotated[Path, typer.Argument(help="A run's folder.")]

Runs = Annotated[Path | None, typer.Option(help="Folder of the runs.", show_default="runs")]

Config = Annotated[Path | None, typer.Option(help="YAML of settings; flags win.")]

Backbone = Annotated[
    str | None,
    typer.Option(help="resnet18 to resnet152, efficientnet-b5.", show_default="resnet18"),
]

Weights = Annotated[
    str | None,
    typer.Option(
        help="auto, imagenet, self (trained on your normal pictures), none, or a .h5.",
        show_default="auto",
    ),
]

PretrainSteps = Annotated[
    int | None, typer.Option(help="Steps of --weights self.", show_default="3000")
]

Size = Annotated[
    int | None, typer.Option(help="Side the network sees, a multiple of 32.", show_default="256")
]

Fit = Annotated[str | None, typer.Option(help="letterbox or stretch.", show_default="stretch")]

Bits = Annotated[
    int | None, typer.Option(help="Bits that a 16-bit camera fills.", show_default="16")
]

Roi = Annotated[str | None, typer.Option(help="Region x1,y1,x2,y2 in pixels.")]

RoiMask = Annotated[
    Path | None, typer.Option(help="White where to inspect; all pictures must have its size.")
]

Tile = Annotated[int | None, typer.Option(help="Side of overlapping tiles in pixels, 32 or more.")]

Fractions = Annotated[
    str | None,
    typer.Option(help="Train, calibration, test.", show_default="0.6,0.15,0.25"),
]

GroupBy = Annotated[
    str | None,
    typer.Option(help="Regex with one group, or CSV image,group: pictures of one part."),
]

Seed = Annotated[int | None, typer.Option(help="Decides everything random.", show_default="0")]

Rule = Annotated[
    str | None,
    typer.Option(
        help="least-overkill, least-miss, least-cost, normal-quantile or review-band.",
        show_default="least-overkill; without defects normal-quantile",
    ),
]

TargetMiss = Annotated[float | None, typer.Option(help="Highest miss rate.", show_default="0.005")]

TargetOverkill = Annotated[
    float | None, typer.Option(help="Highest overkill rate.", show_default="0.02")
]

SHARED = frozenset(
    [
        *("runs", "backbone", "weights", "pretrain_steps", "size", "fit", "bits", "roi"),
        *("roi_mask", "tile", "fractions", "group_by", "seed", "rule", "target_miss"),
        "target_overkill",
    ]
)


def read(config: Path | None, given: dict[str, Any], *without: str) -> AnomalySettings:
    """From a file and from flags, which win."""
    from anomaly.settings import AnomalySettings
    from inspection.settings import read_settings

    given = {key: value for key, value in given.items() if key not in without}
    for name, count in (("roi", 4), ("fractions", 3)):
        if given.get(name) is not None:
            given[name] = numbers_of(name, given[name], count)
    return read_settings(AnomalySettings, config, given)
