"""More normal images from a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.settings import AnomalySettings
from inspection.cli.console import reports_errors, say, stages
from inspection.cli.options import Config, takes_settings
from inspection.fields import BATCH_SIZE
from inspection.settings import read_settings


@reports_errors
@takes_settings(
    AnomalySettings,
    positional=("data",),
    only=(
        *("runs", "kept", "seed", "fractions", "group_by"),
        *("size", "fit", "bits", "roi", "roi_mask", "background", "clahe", "flatten"),
        *("tile", "overlap"),
        *("backbone", "weights", "pretrain_steps"),
    ),
)
def generate(
    given: dict[str, Any],
    output: Annotated[Path, typer.Option(help="New folder.")],
    count: Annotated[int, typer.Option(min=1, help="Images to write.")] = 200,
    side: Annotated[int, typer.Option(help="Of the images: 16, 32, 64, 128 or 256.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the normal images.")] = 100,
    width: Annotated[int, typer.Option(min=1, help="Channels of the first convolution.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help=BATCH_SIZE)] = 32,
    config: Config = None,
) -> None:
    """Trains a DCGAN on the train part's normals and writes more of them, with a KID check."""
    settings = read_settings(AnomalySettings, config, given)

    from anomaly.cli.arguments import check_settings

    check_settings(settings)
    from anomaly.features.extractor import FeatureExtractor
    from anomaly.training.generate import Generator
    from anomaly.training.generate import generate as make
    from anomaly.training.method import backbone_for
    from anomaly.training.setup import data_of, source_of

    wanted = Generator(side=side, width=width, epochs=epochs, batch_size=batch_size)
    everything = data_of(settings, say)
    normals = source_of(everything.normals, settings)
    # Calibration and test see no generated image, and the generator none of theirs.
    unseen = [item for part in ("val", "test") for item in everything.part(part)]
    held_out = source_of([one for one in unseen if not one.is_defect], settings)
    with stages() as on_progress:

        def extractor() -> FeatureExtractor:
            return FeatureExtractor(*backbone_for(settings, normals, say, on_progress))

        make(normals, held_out, extractor, output, count, wanted, settings.seed, on_progress, say)
    say(f"{output / 'generated'}: learn them too with --generated {output / 'generated'}")
