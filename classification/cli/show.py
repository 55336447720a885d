"""What preparation and augmentation make of the images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classification.cli.shared import (
    read,
)
from inspection.cli.console import (
    reports_errors,
    say,
)


@reports_errors
def show(
    data: Annotated[Path, typer.Argument(help="As in train.")],
    aug: Annotated[str, typer.Option(help="A recipe.")] = "basic",
    output: Annotated[Path, typer.Option(help="Picture to write.")] = Path("augmentation.png"),
    size: Annotated[int, typer.Option(min=32, help="Side the network sees.")] = 224,
    roi: Annotated[str | None, typer.Option(help="Region x1,y1,x2,y2 in pixels.")] = None,
    background: Annotated[bool, typer.Option("--background", help="As in train.")] = False,
    clahe: Annotated[float, typer.Option(help="As in train.")] = 0.0,
    flatten: Annotated[bool, typer.Option("--flatten", help="As in train.")] = False,
    seed: Annotated[int, typer.Option(help="Decides what is shown.")] = 0,
) -> None:
    """Shows as a picture what preparation and augmentation make of each class."""
    from classification.data.images import open_pictures
    from inspection.data.images import write_image

    given = {"aug": aug, "size": size, "roi": roi, "background": background}
    settings = read(None, {**given, "clahe": clahe, "flatten": flatten})
    pictures = open_pictures(data)
    from classification.training.augment import augmentation_sheet

    firsts = {item.kind: item for item in reversed(pictures.items)}
    views = [settings.preparation(pictures.path(firsts[name])).rgb for name in pictures.classes]
    write_image(output, augmentation_sheet(views, aug, seed=seed))
    say(f"{output}: {', '.join(pictures.classes)} from above; the picture itself on the left.")
