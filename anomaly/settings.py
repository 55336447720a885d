"""What a run can be given, from flags or from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field

from anomaly.methods.names import METHODS
from inspection.fields import (
    DATA,
    DECISION,
    MODEL,
    PREPARATION,
    RUN,
    SIZE,
    TRAINING,
    Flag,
    Fractions,
    GroupBy,
    Positive,
    RuleName,
    RunName,
    Seed,
    Share,
    TargetMiss,
    TargetOverkill,
    run_name,
    runs_folder,
    weights_flag,
)
from inspection.training.settings import PreparationSettings

if TYPE_CHECKING:
    from anomaly.features.augment import Augmentation

ROOM = "anomaly"
"""As the files that this room writes name it."""


class AnomalySettings(PreparationSettings):
    """Complete settings of a run.

    Raises:
        pydantic.ValidationError: A value is out of range or a name is unknown.
    """

    model_config = ConfigDict(extra="forbid")

    data: Annotated[Path, Flag(DATA, "Folder with normal/, MVTec layout, or a CSV.")]
    runs: Annotated[Path, runs_folder("snapshots")] = Path("runs")
    run: Annotated[RunName | None, run_name("date and method", "name")] = None
    kept: Annotated[
        Path | None,
        Flag(RUN, "Where features and backbones are kept for the next run.", "in --runs"),
    ] = None

    method: Annotated[
        Literal[METHODS],  # type: ignore[valid-type]
        Flag(MODEL, "How normal is learnt; the guide says what each is."),
    ] = "patchcore"
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the method, only in a file."""

    backbone: Annotated[
        Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "efficientnet-b5"],
        Flag(MODEL, "Network that makes the features."),
    ] = "resnet18"
    weights: Annotated[
        str, weights_flag("auto, imagenet, self (trained on your normal images), none")
    ] = "auto"
    pretrain_steps: Annotated[Positive, Flag(MODEL, "Steps of --weights self.")] = 3000

    size: Annotated[int, Field(ge=32, multiple_of=32), SIZE] = 256
    tile: Annotated[
        Annotated[int, Field(ge=32)] | None,
        Flag(PREPARATION, "Side of overlapping tiles, in pixels.", "none"),
    ] = None
    overlap: Annotated[
        float, Field(ge=0, lt=1), Flag(PREPARATION, "With --tile: share of a tile that overlaps.")
    ] = 0.25

    rotations: Annotated[
        bool, Flag(TRAINING, "Learn normal images turned by 90, 180 and 270 degrees too.")
    ] = False
    noise: Annotated[
        float, Field(ge=0, le=64), Flag(TRAINING, "Grey levels of noise on changed copies.")
    ] = 0.0
    crops: Annotated[
        int, Field(ge=0, le=20), Flag(TRAINING, "Random cuts of each normal image.")
    ] = 0
    grid: Annotated[
        int, Field(ge=0, le=8), Flag(TRAINING, "Regular cuts: a grid of so many rows and columns.")
    ] = 0
    crop_share: Annotated[
        float, Field(gt=0, le=1), Flag(TRAINING, "Side of a cut, as a share of the image's.")
    ] = 0.8
    generated: Annotated[
        Path | None, Flag(TRAINING, "Folder of generated normal images to learn too.", "none")
    ] = None
    generated_share: Annotated[Share, Flag(TRAINING, "Their highest share of what is learnt.")] = (
        0.5
    )

    fractions: Annotated[
        Fractions, Flag(DATA, "Shares of train, val (calibration) and test in a new split.")
    ] = (0.6, 0.15, 0.25)
    group_by: GroupBy = None
    seed: Seed = 0

    aggregation: Annotated[
        Literal["auto", "max", "top-0.5%", "top-2%", "top-10%", "std", "mean", "area"],
        Flag(DECISION, "How a map becomes a score; auto chooses on calibration."),
    ] = "auto"
    rule: Annotated[
        RuleName | None,
        Flag(
            DECISION,
            "How the threshold is chosen, on calibration.",
            "least-overkill; without defects normal-quantile",
        ),
    ] = None
    target_miss: TargetMiss = 0.005
    target_overkill: TargetOverkill = 0.02

    @property
    def kept_in(self) -> Path:
        """Where features and backbones are kept."""
        return self.kept or self.runs

    @property
    def augmentation(self) -> Augmentation:
        """Which changed copies of normal images are learnt."""
        from anomaly.features.augment import Augmentation

        return Augmentation(self.rotations, self.noise, self.crops, self.grid, self.crop_share)
