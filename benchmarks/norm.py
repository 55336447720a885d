"""Which normalisation learns from scratch at which batch size: BatchNorm or GroupNorm.

    python -m benchmarks.norm --annotations DIR --images DIR --size 200 --batch-sizes 2,16

Every run sees the same number of pictures; printed are val mAP, the last epoch's training loss
and the time of a step.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from detection.settings import TrainSettings
from detection.training import train
from detection.training_log import TrainingLog


def main() -> None:
    """Runs each norm at each batch size and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--crop", type=int, default=None)
    parser.add_argument("--pictures", type=int, default=4800)
    parser.add_argument("--batch-sizes", default="2,16")
    parser.add_argument("--norms", default="batch,group")
    given = parser.parse_args()
    console = Console(highlight=False)
    table = Table("norm", "batch", "val mAP", "training loss", "pictures/s")
    for batch_size in (int(text) for text in given.batch_sizes.split(",")):
        for norm in given.norms.split(","):
            row = _run(given, norm, batch_size)
            speed = f"{float(row['images_per_second']):.1f}"
            table.add_row(norm, str(batch_size), f"{float(row['val_map']):.3f}", row["loss"], speed)
    console.print(table)


def _run(given: argparse.Namespace, norm: str, batch_size: int) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainSettings(
            annotations=given.annotations,
            images=given.images,
            snapshots=Path(folder),
            run="norm",
            backbone="resnet18",
            weights="none",
            norm=norm,
            channels=64,
            size=given.size,
            crop=given.crop,
            batch_size=batch_size,
            # Adam's step is scaled with the root of the batch, so that neither size is favoured.
            lr=1e-3 * (batch_size / 16) ** 0.5,
            epochs=1,
            steps=given.pictures // batch_size,
            fractions=(0.85, 0.1, 0.05),
        )
        train(settings, log=TrainingLog(Console(quiet=True)))
        with (Path(folder) / "norm" / "log.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))[-1]


if __name__ == "__main__":
    main()
