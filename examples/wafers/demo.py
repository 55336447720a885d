"""The demonstration behind `make demo`: sample wafers, training, evaluation, baseline."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inspection.cli.last_handler import run

if TYPE_CHECKING:
    from rich.console import Console

    from detection.data.dataset import Dataset
    from detection.settings import TrainSettings
from inspection.files.writing import write_json_atomic

IMAGES = 260
SEED = 7
_TUNING_IMAGES = 16


def demo(folder: Path, console: Console) -> Path:
    """Makes the sample set, trains, evaluates, and compares with a classical baseline.

    Args:
        folder: Where everything goes; images that are there already are kept.
        console: Where to tell.

    Returns:
        Path of the report.
    """
    from rich.table import Table

    from detection.data.dataset import open_dataset
    from detection.evaluation.report import print_evaluation
    from detection.evaluation.snapshot import EvaluationRequest, evaluate_snapshot
    from detection.training.log import TrainingLog
    from detection.training.loop import train
    from examples.wafers.sample import make_sample

    began = time.perf_counter()
    images, annotations, snapshots = (
        folder / name for name in ("images_900", "annotations", "snapshots")
    )
    if len(list(annotations.glob("wafer_*.xml"))) < IMAGES:
        console.print(f"Making {IMAGES} images of wafers, about a minute ...")
        make_sample(images, annotations, IMAGES, SEED)
    settings = demo_settings(folder)
    dataset = open_dataset(annotations, images, snapshots, fractions=settings.fractions)
    best = train(settings, log=TrainingLog(console))
    request = EvaluationRequest(best)
    evaluation, report = evaluate_snapshot(request)
    print_evaluation(evaluation, console)
    baseline = blob_average_precision(dataset, images)
    table = Table("AP@.5 on the held-out wafers", "RetinaNet", "threshold and blobs")
    rows = {item.label: item.ap for item in evaluation.curves.classes}
    for name, ap in (rows | {"mean": evaluation.mean_ap}).items():
        table.add_row(name, f"{ap:.3f}", f"{baseline[name]:.3f}")
    console.print(table)
    minutes = (time.perf_counter() - began) / 60
    write_json_atomic(
        folder / "demo.json",
        {"map": evaluation.mean_ap, "baseline_map": baseline["mean"], "minutes": minutes},
    )
    console.print(f"Report: {report.resolve()}", soft_wrap=True)
    console.print(f"Done in {minutes:.1f} minutes.")
    return report


def demo_settings(folder: Path) -> TrainSettings:
    """Settings that learn the sample set from scratch on two CPU cores."""
    from detection.settings import TrainSettings

    return TrainSettings(
        annotations=folder / "annotations",
        images=folder / "images_900",
        snapshots=folder / "snapshots",
        run=time.strftime("demo_%Y-%m-%d_%H-%M-%S"),
        backbone="resnet18",
        weights="none",
        channels=64,
        crop=160,
        batch_size=16,
        epochs=5,
        steps=120,
        lr=1e-3,
        keep=2,
        fractions=(0.78, 0.08, 0.14),
    )


def blob_average_precision(dataset: Dataset, images: Path) -> dict[str, float]:
    """AP@.5 of the classical baseline, tuned on training images, on the test part."""
    from detection.evaluation.average_precision import measure_average_precision
    from examples.wafers.blob_baseline import blob_detections, tune
    from inspection.data.images import read_image

    training = dataset.part("train")[:_TUNING_IMAGES]
    pictures = [read_image(images / item.image) for item in training]
    settings = tune(pictures, training, dataset.classes)
    test = dataset.part("test")
    found = [blob_detections(read_image(images / item.image), settings) for item in test]
    result = measure_average_precision(test, found, dataset.classes)
    return {item.label: item.ap for item in result.classes} | {"mean": result.mean_ap}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws sample wafers, trains a detector on them and measures it, beside a blob baseline."""
    from inspection.cli.console import plain_console

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("demo"), help="of all that is made (default: demo)"
    )
    demo(parser.parse_args(arguments).folder, plain_console())


if __name__ == "__main__":
    run("examples.wafers.demo", "main")
