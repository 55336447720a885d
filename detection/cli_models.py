"""Verbs that make a model or use one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.cli_labels import Config, GroupBy, three_fractions
from inspection.console import console, progress, reports_errors, say
from inspection.errors import InputError


@reports_errors
def train(
    backbone: Annotated[str | None, typer.Option(help="resnet18, 34, 50, 101 or 152.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    size: Annotated[int | None, typer.Option(help="Side that images are fitted to.")] = None,
    crop: Annotated[int | None, typer.Option(help="Train on windows of this side.")] = None,
    background: Annotated[
        float | None, typer.Option(help="Windows anywhere, for each window around a box; 1.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, imagenet, none, or a path (.h5 or .keras).")
    ] = None,
    freeze: Annotated[
        bool | None, typer.Option("--freeze", help="Keep the backbone fixed.")
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(help="auto fits them to the labels; default.")
    ] = None,
    augment: Annotated[str | None, typer.Option(help="none, basic or heavy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything random.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Folder of labelImg XML.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    snapshots: Annotated[Path | None, typer.Option(help="Folder of the runs.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run.")] = False,
    config: Config = None,
    steps: Annotated[int | None, typer.Option(help="Steps per epoch; all pictures once.")] = None,
    channels: Annotated[int | None, typer.Option(help="Width of pyramid and heads.")] = None,
    norm: Annotated[str | None, typer.Option(help="auto, batch, frozen or group.")] = None,
    fit: Annotated[str | None, typer.Option(help="letterbox or stretch.")] = None,
    bits: Annotated[int | None, typer.Option(help="Bits that a 16-bit camera fills.")] = None,
    target_miss: Annotated[
        float | None, typer.Option(help="Miss rate that the threshold is chosen for.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    jit: Annotated[bool | None, typer.Option("--jit", help="Compile with XLA.")] = None,
    keep: Annotated[int | None, typer.Option(help="Epoch snapshots that stay; all.")] = None,
    fractions: Annotated[str | None, typer.Option(help="Shares of a new split.")] = None,
    group_by: GroupBy = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="Images without XML: skip, normal.")
    ] = None,
    one_based: Annotated[bool | None, typer.Option("--one-based", help="VOC-devkit XML.")] = None,
) -> None:
    """Trains a RetinaNet; every epoch leaves a snapshot and its mAP on the validation part."""
    given = {
        key: value
        for key, value in locals().items()
        if key not in ("resume", "config", "fractions")
    }
    from detection.settings import load_settings

    if fractions is not None:
        given["fractions"] = three_fractions(fractions)
    settings = load_settings(config, given)
    from detection.training import train as start
    from detection.training_setup import resume_settings

    if resume:
        settings = resume_settings(settings, given)
    best = start(settings, resume)
    say(f"Best snapshot: {best}, also {settings.snapshots / 'best.keras'}. Measure it with:")
    say(f"  python evaluate_map.py {settings.snapshots / 'best.keras'}")


@reports_errors
def evaluate(
    snapshot: Annotated[Path, typer.Argument(help="A .keras file.")] = Path("snapshots/best.keras"),
    split: Annotated[
        str | None, typer.Option(help="train, val, test or all; test, or all for other folders.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    iou: Annotated[float, typer.Option(min=0.01, max=1.0, help="IoU that a hit needs.")] = 0.5,
    csv: Annotated[
        Path | None, typer.Option(help="Labels from this CSV (ours or keras-retinanet's).")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="Images without XML: skip, or normal; as in training.")
    ] = None,
    one_based: Annotated[
        bool | None, typer.Option("--one-based", help="VOC-devkit XML; as in training.")
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of defective parts made: escapes in PPM."),
    ] = None,
) -> None:
    """Prints AP per class, mAP, miss and overkill rates; writes a report beside the snapshot."""
    from detection.evaluate_snapshot import EvaluationRequest, evaluate_snapshot
    from detection.evaluation import print_evaluation

    request = EvaluationRequest(
        *(snapshot, split, annotations, images, csv, iou, batch_size, output),
        *(unlabelled, one_based, prevalence),
    )
    with progress("evaluating") as on_progress:
        evaluation, report = evaluate_snapshot(request, say, on_progress)
    print_evaluation(evaluation, console)
    say(f"Report: {report}")


@reports_errors
def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files or folders.")],
    model: Annotated[Path, typer.Option(help="A .keras snapshot or an exported model.")] = Path(
        "snapshots/best.keras"
    ),
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("predictions"),
    threshold: Annotated[
        float | None, typer.Option(help="Lower scores are not written; the operating point's.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    restart: Annotated[bool, typer.Option("--restart", help="Do finished images again.")] = False,
) -> None:
    """Boxes on raw camera files: CSV, JSON lines, VOC XML and overlay pictures."""
    from detection.export import load_any
    from detection.predict_files import predict_files
    from inspection.runs import file_hash

    detector = load_any(model)
    with progress("predicting") as on_progress:
        result = predict_files(
            detector,
            paths,
            output,
            threshold=threshold,
            batch_size=batch_size,
            resume=not restart,
            on_progress=on_progress,
            model_hash=file_hash(model),
        )
    say(f"{result.done} images done, {result.skipped} were done before; results in {output}.")
    if result.problems:
        raise InputError(result.problems)


@reports_errors
def export(
    snapshot: Annotated[Path, typer.Argument(help="A .keras file.")] = Path("snapshots/best.keras"),
    output: Annotated[Path | None, typer.Option(help="File to write; beside the snapshot.")] = None,
    format: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    int8: Annotated[bool, typer.Option("--int8", help="Quantise, calibrated on val.")] = False,
    annotations: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
) -> None:
    """Writes a model with decoding and NMS inside, after proving that it gives the same boxes."""
    from detection.export import export_snapshot

    report = export_snapshot(snapshot, output, format, int8, say, annotations, images)
    say(f"Exported: {report.path}")
