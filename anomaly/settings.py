"""What a run can be told, from flags or from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from anomaly.data.preparation import Preparation, encode_mask
from anomaly.features.augment import Augmentation
from inspection.settings import RunName

ROOM = "anomaly"
"""As the files that this room writes name it."""

Share = Annotated[float, Field(gt=0, lt=1)]


class AnomalySettings(BaseModel):
    """Complete settings of a run.

    Raises:
        pydantic.ValidationError: A value is out of range or a name is unknown.
    """

    model_config = ConfigDict(extra="forbid")

    data: Path
    runs: Path = Path("runs")
    run: RunName | None = None
    kept: Path | None = None
    """Where features and backbones are kept for the next run; in `runs` where left out."""

    method: str = "patchcore"
    options: dict[str, Any] = {}

    backbone: Literal[
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "efficientnet-b5"
    ] = "resnet18"
    weights: str = "auto"
    pretrain_steps: Annotated[int, Field(ge=1)] = 3000

    size: Annotated[int, Field(ge=32, multiple_of=32)] = 256
    fit: Literal["letterbox", "stretch"] = "stretch"
    bits: Annotated[int, Field(ge=8, le=16)] = 16
    roi: tuple[int, int, int, int] | None = None
    roi_mask: Path | None = None
    tile: Annotated[int, Field(ge=32)] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25

    rotations: bool = False
    noise: Annotated[float, Field(ge=0, le=64)] = 0.0
    crops: Annotated[int, Field(ge=0, le=20)] = 0
    grid: Annotated[int, Field(ge=0, le=8)] = 0
    crop_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    generated: Path | None = None
    generated_share: Share = 0.5

    fractions: tuple[float, float, float] = (0.6, 0.15, 0.25)
    group_by: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    aggregation: str = "auto"
    rule: str | None = None
    target_miss: Share = 0.005
    target_overkill: Share = 0.02

    @property
    def kept_in(self) -> Path:
        """Where features and backbones are kept."""
        return self.kept or self.runs

    @property
    def preparation(self) -> Preparation:
        """How pictures are cut and scaled."""
        mask = encode_mask(self.roi_mask) if self.roi_mask else None
        return Preparation(self.size, self.fit, self.bits, self.roi, self.tile, self.overlap, mask)

    @property
    def augmentation(self) -> Augmentation:
        """Which changed copies of normal pictures are learnt."""
        return Augmentation(self.rotations, self.noise, self.crops, self.grid, self.crop_share)
