"""What a training can be told, from flags or from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from classification.data.preparation import Preparation
from inspection.settings import RunName

SETTINGS = "settings.yaml"
"""The complete settings in a run's folder."""

ROOM = "classification"
"""As the files that this room writes name it."""

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class ClassificationSettings(BaseModel):
    """Complete settings of a run.

    Raises:
        pydantic.ValidationError: A value is out of range or a name is unknown.
    """

    model_config = ConfigDict(extra="forbid")

    data: Path = Path("images_by_class")
    runs: Path = Path("runs")
    name: RunName | None = None
    normal: str | None = None

    model: Literal[
        "resnet18",
        "resnet18-small",
        "resnet50",
        "mobilenetv2",
        "mobilenetv3",
        "efficientnet",
        "convnext",
        "swin",
    ] = "resnet50"
    weights: str = "auto"

    size: Annotated[int, Field(ge=32)] = 224
    fit: Literal["letterbox", "stretch"] = "stretch"
    bits: Annotated[int, Field(ge=8, le=16)] = 16
    roi: tuple[int, int, int, int] | None = None
    background: bool = False
    clahe: Annotated[float, Field(ge=0, le=40)] = 0.0
    flatten: bool = False

    aug: Literal["none", "basic", "flip", "noise", "clahe", "heavy", "rotate4"] = "basic"
    sampling: Literal["plain", "balanced", "class-aware"] = "plain"
    loss: Literal["cross-entropy", "weighted", "focal", "logit-adjusted"] = "cross-entropy"
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    paste: Annotated[float, Field(ge=0, le=1)] = 0.0
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_alpha: Annotated[float, Field(gt=0)] = 0.4

    epochs: Positive = 30
    steps: Positive | None = None
    batch_size: Positive = 8
    lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    seed: Annotated[int, Field(ge=0)] = 0
    keep: Positive | None = None
    wandb: bool = False

    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    group_by: str | None = None
    rule: str = "macro-f1"
    target_miss: Share = 0.005
    target_overkill: Share = 0.02
    prevalence: Share | None = None

    @property
    def preparation(self) -> Preparation:
        """How pictures are brought to the network."""
        return Preparation(
            self.size,
            self.fit,
            self.bits,
            self.roi,
            self.background,
            self.clahe,
            self.flatten,
        )
