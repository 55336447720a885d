"""What a snapshot of a detector says of itself, and the folder that such snapshots go to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inspection.archives import CONFIG, open_archive, read_json, read_safely
from inspection.errors import InputError
from inspection.operating_point import OperatingPoint
from inspection.snapshots import RunFolder

_INSTEAD = "give a .keras file that train_retinanet.py wrote."
_Length = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
_Name = Annotated[str, Field(max_length=1000)]


class _Anchors(BaseModel):
    model_config = ConfigDict(extra="allow")

    sizes: Annotated[list[_Length], Field(min_length=1, max_length=5)]
    scales: Annotated[list[_Length], Field(min_length=1, max_length=10)]
    ratios: Annotated[list[_Length], Field(min_length=1, max_length=20)]


class _Preprocessing(BaseModel):
    model_config = ConfigDict(extra="allow")

    size: Annotated[int, Field(ge=32, le=8192)]
    fit: Literal["letterbox", "stretch"] = "letterbox"
    bits: Annotated[int, Field(ge=8, le=16)] = 16


class SnapshotSettings(BaseModel):
    """What a detector may be built from; what is missing or not named here Keras judges.

    Raises:
        pydantic.ValidationError: No training of ours writes this.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    preprocessing: _Preprocessing
    backbone: Literal[None, "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = None
    classes: Annotated[list[_Name], Field(min_length=1, max_length=1000)] | None = None
    anchors: _Anchors | None = None
    norm: Literal[None, "batch", "frozen", "group"] = None
    head_norm: bool | Annotated[str, Field(max_length=20)] = True
    channels: Annotated[int, Field(ge=1, le=1024)] = 256
    head_convs: Annotated[int, Field(ge=0, le=16)] = 4
    operating_point: dict[str, Any] | None = None
    train_backbone: bool = True


def run_folder(path: Path, keep: int | None = None) -> RunFolder:
    """The folder of a detector's run; `snapshots/best.keras` follows the latest run's best."""
    return RunFolder(path, keep, run_of=snapshot_run)


def snapshot_settings(path: str | Path) -> dict[str, Any]:
    """The settings inside a snapshot, checked, without loading its weights.

    Raises:
        InputError: It is no snapshot of ours, or asks for what none of ours does.
    """
    with read_safely(path, "is no snapshot of this tool", _INSTEAD):
        with open_archive(path) as archive:
            config = read_json(archive, CONFIG)["config"]
        SnapshotSettings.model_validate(config)
        if config.get("operating_point") is not None:
            OperatingPoint.from_dict(config["operating_point"])
    return config


def snapshot_run(path: Path) -> str | None:
    """The run that a snapshot is of, None where the file does not say."""
    try:
        return snapshot_settings(path)["preprocessing"].get("run")
    except InputError:
        return None
