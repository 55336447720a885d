"""What several verbs are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras file, or a run's folder.")]

AnyModel = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A .keras file, a run's folder, or an exported file."),
]

Images = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Images: a folder, a CSV or one file.")
]

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

Most = Annotated[int, typer.Option(min=0, help="Boxes an image; 0 for all.")]

MinArea = Annotated[int, typer.Option(min=1, help="Smallest object in pixels of the image.")]
