"""What several verbs are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspection.cli.console import (
    numbers_of,
)

if TYPE_CHECKING:
    from classification.settings import ClassificationSettings


Model = Annotated[Path, typer.Argument(help="A .keras file, or a run's folder.")]

Output = Annotated[Path, typer.Option(help="Folder of the results.")]

Method = Annotated[
    str,
    typer.Option(
        help="grad-cam, grad-cam++, hires-cam, xgrad-cam, layer-cam, score-cam, ablation-cam or "
        "eigen-cam."
    ),
]

Layer = Annotated[
    str | None, typer.Option(help="Layer to look at.", show_default="the last with a map")
]

Smooth = Annotated[str, typer.Option(help="none, augment, pca or both.")]

Threshold = Annotated[
    str, typer.Option(help="Map to objects: a share of its maximum, otsu, or quantile:0.95.")
]

Most = Annotated[int, typer.Option(min=0, help="Boxes a picture; 0 for all.")]

MinArea = Annotated[int, typer.Option(min=1, help="Smallest object in pixels of the picture.")]


def read(config: Path | None, given: dict[str, Any]) -> ClassificationSettings:
    from classification.settings import ClassificationSettings
    from inspection.settings import read_settings

    for name, count in (("roi", 4), ("fractions", 3)):
        if given.get(name) is not None:
            given[name] = numbers_of(name, given[name], count)
    return read_settings(ClassificationSettings, config, given)
