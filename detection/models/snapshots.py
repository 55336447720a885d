"""What a snapshot of a detector says of itself, and the folder that such snapshots go to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from detection.settings import ROOM
from inspection.errors import InputError
from inspection.fields import RunName
from inspection.files.archives import CONFIG, Hostile, open_archive, read_json, read_safely
from inspection.models.card import ModelCard, read_card
from inspection.training.run import BEST
from inspection.training.snapshots import Rival, RunFolder, Standing

PROMOTE = "python train_retinanet.py --promote"
_FIGURE = ".3f"

_INSTEAD = "give a .keras file that train_retinanet.py wrote."
_Length = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
_Name = Annotated[str, Field(max_length=1000)]


class _Anchors(BaseModel):
    model_config = ConfigDict(extra="allow")

    sizes: Annotated[list[_Length], Field(min_length=1, max_length=5)]
    scales: Annotated[list[_Length], Field(min_length=1, max_length=10)]
    ratios: Annotated[list[_Length], Field(min_length=1, max_length=20)]


class _NetworkSettings(BaseModel):
    """What a detector may be built from; what is missing or not named here Keras judges.

    Raises:
        pydantic.ValidationError: No training of ours writes this.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    backbone: Literal[None, "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = None
    classes: Annotated[list[_Name], Field(min_length=1, max_length=1000)] | None = None
    anchors: _Anchors | None = None
    norm: Literal[None, "batch", "frozen", "group"] = None
    head_norm: bool | Literal["batch", "group", "none"] = True
    channels: Annotated[int, Field(ge=1, le=1024)] = 256
    head_convs: Annotated[int, Field(ge=0, le=16)] = 4
    train_backbone: bool = True


def run_folder(path: Path, keep: int | None = None) -> RunFolder:
    """The folder of a detector's run; beside it `best.keras` is the best one of all runs."""
    return RunFolder(path, keep, standing=snapshot_standing)


def network_settings(path: str | Path) -> dict[str, Any]:
    """What the network inside a snapshot is built from, checked, without loading its weights.

    Raises:
        InputError: It is no snapshot of ours, or asks for what none of ours does.
    """
    with read_safely(path, "is no snapshot of this tool", _INSTEAD):
        with open_archive(path) as archive:
            stored = read_json(archive, CONFIG)
        if (kind := stored.get("class_name", "RetinaNet")) != "RetinaNet":
            raise Hostile(f"it holds a {kind}")
        _NetworkSettings.model_validate(stored["config"])
    return stored["config"]


def snapshot_card(path: str | Path) -> ModelCard:
    """The card of a snapshot, after a look at its network's settings.

    Raises:
        InputError: As `network_settings`, or its card is damaged or of other classes.
    """
    card = read_card(path, ROOM)
    classes = network_settings(path).get("classes")
    if classes is not None and tuple(classes) != card.classes:
        raise InputError(f"{path}: its card is of other classes than its network; {_INSTEAD}")
    return card


def snapshot_standing(path: Path) -> Standing | None:
    """Which run a snapshot is of and how good it is, None where the file does not say."""
    try:
        origin = read_card(path, ROOM).provenance
    except InputError:
        return None
    if not origin.run:
        return None
    return Standing(origin.run, origin.run_id, origin.scored_on, origin.score or 0.0)


def top_line(path: Path, run: str, rival: Rival) -> str:
    """The sentence for a `snapshots/best.keras` that is, or was, another run's.

    Args:
        path: The run's folder.
        run: Its name.
        rival: What stands, or stood, there.
    """
    top, other = path.parent / BEST, rival.standing
    if rival.replaced:
        if other is None:
            return f"{top} could not be read as a snapshot; now it is of this run."
        better = f", which reached {other.score:{_FIGURE}}" if rival.same_images else ""
        return f"{top} was of run {other.run}{better}; now it is of this run."
    reached = f"mAP {other.score:{_FIGURE}}"
    why = (
        f"this run has not beaten its {reached} on the same validation images"
        if rival.same_images
        else f"its {reached} is of other validation images, so the two cannot be compared"
    )
    return f"{top} stays that of run {other.run}: {why}. To put this run's there: {PROMOTE} {run}"


def promote_run(snapshots: Path, run: str) -> str:
    """Makes a run's best the best of all runs, whatever stands there.

    Args:
        snapshots: Folder of the runs.
        run: The run's name.

    Returns:
        What was done, in one sentence.

    Raises:
        InputError: There is no such run, or it has no best snapshot.
    """
    try:
        TypeAdapter(RunName).validate_python(run)
    except ValidationError:
        raise InputError(
            f"--promote {run}: give the name of a run's folder below {snapshots}."
        ) from None
    best = snapshots / run / BEST
    if not best.is_file():
        raise InputError(f"--promote {run}: there is no {best}; check --snapshots and the name.")
    card = snapshot_card(best)
    rival = run_folder(snapshots / run).promote_anyway()
    was = ""
    if rival is not None and rival.standing is not None:
        was = f", before of run {rival.standing.run}"
    return f"{snapshots / BEST}: now of {card.describe()}{was}."
