"""What preparation and augmentation make of the images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from classification.settings import ClassificationSettings
from inspection.cli.console import reports_errors, say
from inspection.cli.options import Config, takes_settings
from inspection.settings import read_settings


@reports_errors
@takes_settings(
    ClassificationSettings,
    positional=("data",),
    only=(
        *("size", "fit", "bits", "roi", "roi_mask", "background", "clahe", "flatten"),
        *("aug", "seed"),
    ),
    defaults={"data": "images_by_class"},
)
def show(
    given: dict[str, Any],
    output: Annotated[Path, typer.Option(help="Image to write.")] = Path("augmentation.png"),
    config: Config = None,
) -> None:
    """Shows as an image what preparation and augmentation make of each class."""
    from classification.data.images import open_images
    from inspection.data.images import write_image

    settings = read_settings(ClassificationSettings, config, given)
    images = open_images(settings.data)
    from classification.training.augment import augmentation_sheet

    firsts = {item.kind: item for item in reversed(images.items)}
    views = [settings.preparation(firsts[name].path).rgb for name in images.classes]
    write_image(output, augmentation_sheet(views, settings.aug, seed=settings.seed))
    say(f"{output}: {', '.join(images.classes)} from above; the image itself on the left.")
