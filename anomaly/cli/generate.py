"""More normal images from a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.shared import (
    SHARED,
    Backbone,
    Bits,
    Config,
    Data,
    Fit,
    Fractions,
    GroupBy,
    PretrainSteps,
    Roi,
    Runs,
    Seed,
    Size,
    Weights,
    read,
)
from inspection.cli.console import (
    reports_errors,
    say,
    stages,
)


@reports_errors
def generate(
    data: Data,
    output: Annotated[Path, typer.Option(help="New folder.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures to write.")] = 200,
    side: Annotated[int, typer.Option(help="Of the pictures: 16, 32, 64, 128 or 256.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the normal pictures.")] = 100,
    width: Annotated[int, typer.Option(min=1, help="Channels of the first convolution.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per step.")] = 32,
    runs: Runs = None,
    backbone: Backbone = None,
    weights: Weights = None,
    pretrain_steps: PretrainSteps = None,
    size: Size = None,
    fit: Fit = None,
    bits: Bits = None,
    roi: Roi = None,
    fractions: Fractions = None,
    group_by: GroupBy = None,
    seed: Seed = None,
    config: Config = None,
) -> None:
    """Trains a DCGAN on the train part's normals and writes more of them, with a KID check."""
    given = {key: value for key, value in locals().items() if key in SHARED or key == "data"}
    settings = read(config, given)

    from anomaly.cli.arguments import check_settings

    check_settings(settings)
    from anomaly.features.extractor import FeatureExtractor
    from anomaly.training.generate import Generator
    from anomaly.training.generate import generate as make
    from anomaly.training.loop import backbone_for, data_of, source_of

    wanted = Generator(side=side, width=width, epochs=epochs, batch_size=batch_size)
    everything = data_of(settings, say)
    normals = source_of(everything, everything.normals, settings)
    # Calibration and test see no generated picture, and the generator none of theirs.
    unseen = [item for part in ("val", "test") for item in everything.part(part)]
    held_out = source_of(everything, [one for one in unseen if not one.is_defect], settings)
    with stages() as on_progress:

        def extractor() -> FeatureExtractor:
            return FeatureExtractor(*backbone_for(settings, normals, say, on_progress))

        make(normals, held_out, extractor, output, count, wanted, settings.seed, on_progress, say)
    say(f"{output / 'generated'}: learn them too with --generated {output / 'generated'}")
