"""What a training run can be told, from flags or from a YAML file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inspection.errors import InputError
from inspection.runs import write_text_atomic

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
    run: str | None = None

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
    augment: Literal["none", "basic", "heavy"] = "basic"

    epochs: Positive = 30
    steps: Positive | None = None
    batch_size: Positive | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    jit: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    keep: Positive | None = None

    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    group_by: str | None = None
    unlabelled: Literal["skip", "normal"] = "skip"
    one_based: bool = False
    target_miss: Annotated[float, Field(gt=0, lt=1)] = 0.005

    @field_validator("run")
    @classmethod
    def _one_folder(cls, value: str | None) -> str | None:
        if value is not None and (not value or value in (".", "..") or set(value) & set("/\\")):
            raise ValueError("a run is the name of one folder, without / or \\")
        return value


def load_settings(config: Path | None, given: dict[str, Any]) -> TrainSettings:
    """Settings from a YAML file and from flags, which win.

    Args:
        config: YAML file of `TrainSettings` fields, or None.
        given: Flags; None means not given.

    Returns:
        Complete settings.

    Raises:
        InputError: The file cannot be read or a value does not fit; names every field.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values.update(_read_yaml(config))
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        return TrainSettings(**values)
    except ValidationError as error:
        raise InputError(
            [f"{_place(item, config, given)}: {_sentence(item)}" for item in error.errors()]
        ) from error


def _place(error: dict[str, Any], config: Path | None, given: dict[str, Any]) -> str:
    """The flag as typed, or the file and its field."""
    names = [str(part) for part in error["loc"]]
    if given.get(names[0]) is not None or config is None:
        return f"--{names[0].replace('_', '-')}"
    return f"{config}, {'.'.join(names)}"


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] != "extra_forbidden":
        return f"{error['msg']} (given: {error['input']!r})"
    near = difflib.get_close_matches(str(error["loc"][-1]), TrainSettings.model_fields, 1)
    return f"there is no such setting{f'; is {near[0]} meant?' if near else ''}"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({error}).") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold lines like `epochs: 30`, one field each.")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def save_settings(settings: TrainSettings, path: Path) -> None:
    """Writes the complete settings as YAML that `--config` reads back."""
    values = settings.model_dump(mode="json")
    write_text_atomic(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
