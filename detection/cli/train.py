"""Training a RetinaNet."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from detection.cli.labels import (
    Augment,
    Config,
    GroupBy,
    three_fractions,
)
from inspection.cli.console import (
    reports_errors,
    say,
)
from inspection.errors import InputError


@reports_errors
def train(
    backbone: Annotated[
        str | None, typer.Option(help="resnet18, 34, 50, 101 or 152.", show_default="resnet50")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data.", show_default="30")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Pictures per step.", show_default="2 at 900 pixels, up to 16 for small windows"
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate.", show_default="0.001 from scratch, 0.0002 pretrained"
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side that images are fitted to.", show_default="900")
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="Train on windows of this side.", show_default="whole pictures"),
    ] = None,
    background: Annotated[
        float | None,
        typer.Option(help="Windows anywhere, for each window around a box.", show_default="1"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="auto, imagenet, none, or a path (.h5 or .keras).", show_default="auto"),
    ] = None,
    freeze: Annotated[
        bool | None, typer.Option("--freeze", help="Keep the backbone fixed.")
    ] = None,
    anchors: Annotated[
        str | None,
        typer.Option(help="auto fits them to the labels; or default.", show_default="auto"),
    ] = None,
    augment: Augment = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides everything random.", show_default="0")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run's folder.", show_default="date and backbone")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder of labelImg XML.", show_default="annotations")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images.", show_default="images_900")
    ] = None,
    snapshots: Annotated[
        Path | None, typer.Option(help="Folder of the runs.", show_default="snapshots")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run.")] = False,
    config: Config = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps per epoch.", show_default="every picture or window once"),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="Width of pyramid and heads.", show_default="256")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="auto, batch, frozen or group.", show_default="auto")
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="letterbox or stretch.", show_default="letterbox")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits that a 16-bit camera fills.", show_default="16")
    ] = None,
    target_miss: Annotated[
        float | None,
        typer.Option(help="Miss rate that the threshold is chosen for.", show_default="0.005"),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="float32")
    ] = None,
    jit: Annotated[bool | None, typer.Option("--jit", help="Compile with XLA.")] = None,
    val_every: Annotated[
        int | None,
        typer.Option(help="Validate after every so many epochs, and the last.", show_default="1"),
    ] = None,
    val_images: Annotated[
        int | None,
        typer.Option(help="Validate on at most so many images of val.", show_default="all"),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Epoch snapshots that stay.", show_default="all")
    ] = None,
    fractions: Annotated[
        str | None, typer.Option(help="Shares of a new split.", show_default="0.7,0.15,0.15")
    ] = None,
    group_by: GroupBy = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="Images without XML: skip, normal.", show_default="skip")
    ] = None,
    one_based: Annotated[bool | None, typer.Option("--one-based", help="VOC-devkit XML.")] = None,
    promote: Annotated[
        str | None,
        typer.Option(help="Train nothing; make this run's best snapshot snapshots/best.keras."),
    ] = None,
) -> None:
    """Trains a RetinaNet; every epoch leaves a snapshot and its mAP on the validation part."""
    given = {
        key: value
        for key, value in locals().items()
        if key not in ("resume", "config", "fractions", "promote")
    }
    from detection.settings import TrainSettings, load_settings

    if promote is not None:
        others = {**given, "resume": resume or None, "config": config, "fractions": fractions}
        _promote(promote, others.pop("snapshots") or TrainSettings().snapshots, others)
        return

    if fractions is not None:
        given["fractions"] = three_fractions(fractions)
    settings = load_settings(config, given)
    from detection.cli.arguments import check_settings, resume_settings

    check_settings(settings, resume)
    if resume:
        settings = resume_settings(settings, given)
    from detection.training.loop import train as start
    from inspection.files.writing import file_hash

    best = start(settings, resume)
    top = settings.snapshots / "best.keras"
    also = top.is_file() and file_hash(top) == file_hash(best)
    say(f"Best snapshot: {best}{f', also {top}' if also else ''}. Measure it with:")
    say(f"  python evaluate_map.py {shlex.quote(str(top if also else best))}")


def _promote(run: str, snapshots: Path, others: dict[str, Any]) -> None:
    ignored = [
        f"--{key.replace('_', '-')}: --promote trains nothing and takes no flag but --snapshots; "
        "leave it out."
        for key, value in others.items()
        if value is not None
    ]
    if ignored:
        raise InputError(ignored)
    from detection.models.snapshots import promote_run

    say(promote_run(snapshots, run))
