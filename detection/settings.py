"""What a training run can be given, from flags or from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from inspection.fields import (
    BATCH_SIZE,
    DATA,
    LEARNING_RATE,
    MODEL,
    PREPARATION,
    SIZE,
    TRAINING,
    Bits,
    Epochs,
    Fit,
    Flag,
    Fractions,
    GroupBy,
    Keep,
    Positive,
    RunName,
    Seed,
    Steps,
    TargetMiss,
    WeightDecay,
    run_name,
    runs_folder,
    weights_flag,
)

ROOM = "detection"
"""As the files that this room writes name it."""

LABELS = ("annotations", "images", "unlabelled", "one_based")
"""The settings that say which labels there are and how they are read."""

Recipe = Literal["none", "flip", "basic", "heavy"]


class TrainSettings(BaseModel):
    """Complete settings of a training run; what is not given takes a measured default.

    Raises:
        pydantic.ValidationError: A value is out of range or a name is unknown.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    annotations: Annotated[Path, Flag(DATA, "Folder of labelImg XML files.")] = Path("annotations")
    images: Annotated[Path, Flag(DATA, "Folder of the images.")] = Path("images_900")
    snapshots: Annotated[Path, runs_folder("runs")] = Path("snapshots")
    run: Annotated[RunName | None, run_name("date and backbone", "name")] = None

    backbone: Annotated[
        Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
        Flag(MODEL, "Network under the pyramid."),
    ] = "resnet50"
    weights: Annotated[str, weights_flag("auto, imagenet, none")] = "auto"
    freeze: Annotated[bool, Flag(MODEL, "Keep the backbone as it is.")] = False
    norm: Annotated[
        Literal["auto", "batch", "frozen", "group"],
        Flag(
            MODEL,
            "Normalisation; auto: frozen when pretrained, else batch, or group for small batches.",
        ),
    ] = "auto"
    channels: Annotated[
        int, Field(ge=32, multiple_of=32), Flag(MODEL, "Width of pyramid and heads.")
    ] = 256
    anchors: Annotated[
        Literal["auto", "default"],
        Flag(MODEL, "Anchor boxes: auto fits them to the labels, default are the paper's."),
    ] = "auto"

    size: Annotated[int, Field(ge=64), SIZE] = 900
    fit: Fit = "letterbox"
    bits: Bits = 16
    crop: Annotated[
        Annotated[int, Field(ge=64)] | None,
        Flag(PREPARATION, "Train on windows of this side, in pixels.", "whole images"),
    ] = None
    background: Annotated[
        float,
        Field(ge=0),
        Flag(PREPARATION, "With --crop: windows anywhere, for each window around a box."),
    ] = 1.0
    augment: Annotated[
        Recipe,
        Flag(TRAINING, "Random changes: none, flip (mirrored, never turned), basic or heavy."),
    ] = "basic"

    epochs: Epochs = 30
    steps: Annotated[Steps, Flag(TRAINING, "Steps per epoch.", "every image or window once")] = None
    batch_size: Annotated[
        Positive | None,
        Flag(TRAINING, BATCH_SIZE, "2 at 900 pixels, up to 16 for small windows"),
    ] = None
    lr: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Flag(TRAINING, LEARNING_RATE, "0.001 from scratch, 0.0002 pretrained"),
    ] = None
    warmup: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Flag(
            TRAINING,
            "Steps in which the learning rate rises to its highest.",
            "a tenth of all, at most 200",
        ),
    ] = None
    weight_decay: WeightDecay = 0.05
    clip_norm: Annotated[
        float, Field(gt=0), Flag(TRAINING, "Longest gradient; longer ones are shortened to it.")
    ] = 5.0
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], Flag(TRAINING, "Number format.")
    ] = "float32"
    jit: Annotated[bool, Flag(TRAINING, "Compile with XLA.")] = False
    seed: Seed = 0
    keep: Keep = None
    val_every: Annotated[
        Positive, Flag(TRAINING, "Validate after every Nth epoch, and after the last.")
    ] = 1
    val_images: Annotated[
        Positive | None, Flag(TRAINING, "Validate on at most this many images of val.", "all")
    ] = None

    fractions: Fractions = (0.7, 0.15, 0.15)
    group_by: GroupBy = None
    unlabelled: Annotated[
        Literal["skip", "normal"],
        Flag(DATA, "Images without XML: skip leaves them out, normal takes them as free of boxes."),
    ] = "skip"
    one_based: Annotated[bool, Flag(DATA, "XML from a VOC devkit, counted from 1.")] = False
    target_miss: TargetMiss = 0.005


def norm_problems(norm: str, crop: int | None, size: int) -> list[str]:
    """A sentence where a normalisation is not for windows."""
    if norm != "group" or crop is None or crop >= size:
        return []
    return [
        f"--norm group with --crop {crop}: GroupNorm takes its statistics over the "
        "whole map, so what is learnt on windows comes out otherwise on whole images. Give "
        "--norm batch (and no --weights of a run with group), or leave out --crop."
    ]
