"""What a training run can be told, from flags or from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inspection.settings import RunName, read_settings

ROOM = "detection"
"""As the files that this room writes name it."""

# `flip` mirrors and never turns: for parts that always lie one way.
Recipe = Literal["none", "flip", "basic", "heavy"]
Positive = Annotated[int, Field(ge=1)]


class TrainSettings(BaseModel):
    """Complete settings of a training run; what is not given takes a measured default.

    Raises:
        pydantic.ValidationError: A value is out of range or a name is unknown.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    annotations: Path = Path("annotations")
    images: Path = Path("images_900")
    snapshots: Path = Path("snapshots")
    run: RunName | None = None

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    weights: str = "auto"
    freeze: bool = False
    norm: Literal["auto", "batch", "frozen", "group"] = "auto"
    channels: Annotated[int, Field(ge=32, multiple_of=32)] = 256
    anchors: Literal["auto", "default"] = "auto"

    size: Annotated[int, Field(ge=64)] = 900
    fit: Literal["letterbox", "stretch"] = "letterbox"
    bits: Annotated[int, Field(ge=8, le=16)] = 16
    crop: Annotated[int, Field(ge=64)] | None = None
    background: Annotated[float, Field(ge=0)] = 1.0
    augment: Recipe = "basic"

    epochs: Positive = 30
    steps: Positive | None = None
    batch_size: Positive | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    jit: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    keep: Positive | None = None
    val_every: Positive = 1
    val_images: Positive | None = None

    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    group_by: str | None = None
    unlabelled: Literal["skip", "normal"] = "skip"
    one_based: bool = False
    target_miss: Annotated[float, Field(gt=0, lt=1)] = 0.005


def load_settings(config: Path | None, given: dict[str, Any]) -> TrainSettings:
    """Settings from a YAML file and from flags, which win; see `inspection.settings`.

    Raises:
        InputError: The file cannot be read or a value does not fit; names every field.
    """
    return read_settings(TrainSettings, config, given)
