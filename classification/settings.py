"""What a training can be given, from flags or from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from inspection.fields import (
    BATCH_SIZE,
    DATA,
    DECISION,
    LEARNING_RATE,
    MODEL,
    RUN,
    SIZE,
    TRAINING,
    Epochs,
    Flag,
    Fractions,
    GroupBy,
    Keep,
    Positive,
    RuleName,
    RunName,
    Seed,
    Share,
    Steps,
    TargetMiss,
    TargetOverkill,
    WeightDecay,
    run_name,
    runs_folder,
    weights_flag,
)
from inspection.training.settings import PreparationSettings

ROOM = "classification"
"""As the files that this room writes name it."""
DECIDED_AT_ONCE = 16
"""Images per forward pass where nobody says how many."""


class ClassificationSettings(PreparationSettings):
    """Complete settings of a run.

    Raises:
        pydantic.ValidationError: A value is out of range or a name is unknown.
    """

    model_config = ConfigDict(extra="forbid")

    data: Annotated[
        Path,
        Flag(
            DATA,
            "A folder for each class, train/normal_images and so on, or a CSV image,label.",
            "images_by_class; where missing, a drawn sample",
        ),
    ] = Path("images_by_class")
    runs: Annotated[Path, runs_folder("snapshots")] = Path("runs")
    name: Annotated[RunName | None, run_name("date and model", "run")] = None
    normal: Annotated[str | None, Flag(DATA, "The class of good parts.", "normal, good or ok")] = (
        None
    )

    model: Annotated[
        Literal[
            "resnet18",
            "resnet18-small",
            "resnet50",
            "mobilenetv2",
            "mobilenetv3",
            "efficientnet",
            "convnext",
            "swin",
        ],
        Flag(MODEL, "Architecture."),
    ] = "resnet50"
    weights: Annotated[str, weights_flag("auto, imagenet, none")] = "auto"

    size: Annotated[int, Field(ge=32), SIZE] = 224

    aug: Annotated[
        Literal["none", "basic", "flip", "noise", "clahe", "heavy", "rotate4"],
        Flag(TRAINING, "Random changes.", also=("augment",)),
    ] = "basic"
    sampling: Annotated[
        Literal["plain", "balanced", "class-aware"],
        Flag(TRAINING, "How rare classes are drawn."),
    ] = "plain"
    loss: Annotated[
        Literal["cross-entropy", "weighted", "focal", "logit-adjusted"],
        Flag(TRAINING, "What is minimised."),
    ] = "cross-entropy"
    focal_gamma: Annotated[
        float, Field(ge=0), Flag(TRAINING, "With --loss focal: how little easy images count.")
    ] = 2.0
    paste: Annotated[
        float, Field(ge=0, le=1), Flag(TRAINING, "Chance that a normal image gets a masked defect.")
    ] = 0.0
    mix: Annotated[
        Literal["none", "mixup", "cutmix"], Flag(TRAINING, "How two images are made one.")
    ] = "none"
    mix_alpha: Annotated[
        float, Field(gt=0), Flag(TRAINING, "With --mix: the larger, the more even the two parts.")
    ] = 0.4

    epochs: Epochs = 30
    steps: Steps = None
    batch_size: Annotated[Positive, Flag(TRAINING, BATCH_SIZE)] = 8
    lr: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Flag(TRAINING, LEARNING_RATE, "0.001 from scratch, 0.0001 pretrained"),
    ] = None
    weight_decay: WeightDecay = 0.05
    seed: Seed = 0
    keep: Keep = None
    wandb: Annotated[bool, Flag(RUN, "True logs to Weights & Biases.", typed=True)] = False

    fractions: Fractions = (0.7, 0.15, 0.15)
    group_by: GroupBy = None
    rule: Annotated[
        Literal["macro-f1", RuleName], Flag(DECISION, "How the threshold is chosen, on val.")
    ] = "macro-f1"
    target_miss: TargetMiss = 0.005
    target_overkill: TargetOverkill = 0.02
    prevalence: Annotated[
        Share | None,
        Flag(
            DECISION,
            "Share of defective parts in use, for macro-f1 and least-cost.",
            "that of val; for least-cost 0.01",
        ),
    ] = None
