"""What a model says of itself: one card in every room, read without its weights and without Keras.

The card is the member `card.json` of a `.keras` or `.anomaly` file, and what an exported model
holds beside its graph. Files that were made before there was one are read as
`inspection.models.old_cards` says.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from inspection.cli.console import counted
from inspection.data.images import colour_channels, image_size
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.files.archives import (
    MOST_TEXT,
    Hostile,
    open_archive,
    parse_json,
    read_json,
    read_member,
    read_safely,
)
from inspection.files.graphs import CARD_KEY, is_exported, read_metadata
from inspection.files.records import Count, Finite, first_problem
from inspection.files.writing import atomic_path
from inspection.models.old_cards import (
    ANOMALY,
    CLASSIFIER,
    EXPORTED_DETECTOR,
    OLD_MEMBERS,
    from_old,
)

MEMBER = "card.json"
VERSION = 1
Room = Literal["detection", "classification", "anomaly"]
SCORES = {"detection": "val mAP", "classification": "val macro F1"}
"""What the epochs of a room's training are ranked by."""

_SHARES = ("detection", "classification")
"""Rooms whose scores lie within 0 and 1."""
_OVER_ALL_SHARES = float(np.nextafter(np.float32(1), np.float32(2)))

_KINDS: dict[str, tuple[str, str]] = {
    "detection": ("snapshot", "a .keras file that train_retinanet.py wrote"),
    "classification": (
        "classifier",
        "a .keras file that `python -m classification train` wrote, or its run's folder",
    ),
    "anomaly": ("anomaly model", "a .anomaly file that `python -m anomaly train` wrote"),
}
_Name = Annotated[str, Field(max_length=1000)]
_Place = Annotated[str, Field(max_length=10_000)]
_Pixels = Annotated[int, Field(ge=1, le=1_000_000)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, validate_assignment=True)


class Provenance(_Checked):
    """Where a model comes from; whatever is not known is left as it is here.

    Args:
        run: Name of its run.
        run_id: Of that run alone, whatever it is called.
        data: Where the images of its training were.
        annotations: Where their labels were, in the room that keeps them elsewhere.
        data_hash: Of images and labels.
        split_hash: Of the split of the images.
        trained_images: How many it was trained on.
        image_shape: Their (H, W, C), where all agree.
        epoch: Finished epochs.
        score: By which epochs are ranked, see `SCORES`.
        scored_on: Hash of the images that the score is of.
        date: When the training began, ISO 8601.
        versions: Of packages, by name.
    """

    run: _Name = ""
    run_id: _Name | None = None
    data: _Place = ""
    annotations: _Place | None = None
    data_hash: _Name | None = None
    split_hash: _Name | None = None
    trained_images: Count | None = None
    image_shape: tuple[_Pixels, _Pixels, _Pixels] | None = None
    epoch: Count = 0
    score: Finite | None = None
    scored_on: _Name | None = None
    date: _Name | None = None
    versions: dict[_Name, _Name | None] = {}


def _point_from(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    try:
        return OperatingPoint.from_dict(value)
    except InputError as error:
        raise ValueError(str(error)) from error


_Preparation = Annotated[
    InstanceOf[Preparation],
    BeforeValidator(
        lambda value: Preparation.from_dict(value) if isinstance(value, Mapping) else value
    ),
    PlainSerializer(lambda preparation: preparation.to_dict()),
]
_Point = Annotated[
    InstanceOf[OperatingPoint] | None,
    BeforeValidator(_point_from),
    PlainSerializer(lambda point: None if point is None else point.to_dict()),
]


class ModelCard(_Checked):
    """What travels with the weights.

    Args:
        room: Whose model it is.
        architecture: The detector's backbone, the classifier's architecture, the method.
        classes: Names in the order of the network's outputs; none where it learnt normal images
            only.
        normal: The class of good parts, or None.
        preparation: How images are brought to the network.
        operating_point: When a part is NG; None until one is chosen.
        provenance: Where it comes from.
        extra: What only the room asks of it; checked there.
    """

    room: Room
    architecture: _Name
    classes: Annotated[tuple[_Name, ...], Field(max_length=1000)] = ()
    normal: _Name | None = None
    preparation: _Preparation
    operating_point: _Point = None
    provenance: Provenance = Field(default_factory=Provenance)
    extra: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_classes(self) -> ModelCard:
        least = {"detection": 1, "classification": 2, "anomaly": 0}[self.room]
        if len(self.classes) < least:
            raise ValueError(f"has {len(self.classes)} classes and needs at least {least}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("has a class twice")
        if self.normal is not None and self.normal not in self.classes:
            raise ValueError("the class of good parts is none of its classes")
        return self

    def to_json(self) -> str:
        """As text for a model's file, ASCII, which every container keeps as it is."""
        values = {"version": VERSION, **self.model_dump()}
        return json.dumps(values, indent=1, allow_nan=False)

    def write_into(self, path: Path) -> None:
        """Adds this to an archive that Keras has just written."""
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(MEMBER, self.to_json())

    def describe(self) -> str:
        """Run, data and classes in words."""
        origin = self.provenance
        text = f"run {origin.run or 'unknown'}"
        if origin.epoch:
            text += f", epoch {origin.epoch}"
        if origin.score is not None and self.room in SCORES:
            text += f", {SCORES[self.room]} {origin.score:.3f}"
        if self.architecture:
            text += f", {self.architecture}"
        places = [place for place in (origin.annotations, origin.data) if place]
        text += f", trained on {' and '.join(places) or 'unknown images'}"
        if self.classes:
            text += f", {counted(len(self.classes), 'class')} ({', '.join(self.classes)})"
        return text


def model_line(card: ModelCard) -> str:
    """The sentence by which a verb says what decides."""
    return f"Model: {card.describe()}."


def trained_on(paths: Iterable[Path], **known: Any) -> Provenance:
    """The provenance of a training that begins now.

    Args:
        paths: Its images.
        **known: Other fields of `Provenance`.
    """
    shapes = []
    for path in paths:
        width, height = image_size(path)
        shapes.append((height, width, colour_channels(path)))
    return Provenance(
        trained_images=len(shapes),
        image_shape=shapes[0] if len(set(shapes)) == 1 else None,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        **known,
    )


def parse_card(text: str | bytes, member: str = MEMBER) -> ModelCard:
    """The inverse of `ModelCard.to_json`; call it under `read_safely`, which names the file.

    Args:
        text: The card.
        member: Where it was: `MEMBER`, or one of `inspection.models.old_cards`.

    Raises:
        Hostile: It is no card, of a newer version, too large, or holds what is not finite.
        ValueError, KeyError, TypeError, AttributeError: It is no JSON, or of something else.
    """
    values = parse_json(text, member)
    return _card_of(values if member == MEMBER else from_old(member, values))


def read_card(path: str | Path, room: Room) -> ModelCard:
    """The card of a `.keras`, `.anomaly` or exported file, or of a folder exported earlier.

    Args:
        path: The file or folder.
        room: Whose model it must be.

    Raises:
        InputError: There is no such file, it is no model of ours or of another room, or its card
            is damaged or of a newer version.
    """
    path = Path(path)
    kind, instead = _KINDS[room]
    if not path.exists():
        raise InputError(f"{path}: there is no such model; train one, or give {instead}")
    with read_safely(path, f"is no {kind} of this tool", f"give {instead}"):
        if is_exported(path) and not path.is_dir():
            card = _card_of_graph(path)
        elif path.is_dir():
            if not (path / ANOMALY).is_file():
                raise IsADirectoryError
            with (path / ANOMALY).open("rb") as file:
                card = parse_card(file.read(MOST_TEXT + 1), ANOMALY)
        else:
            with open_archive(path) as archive:
                card = _card_in(archive)
        if card.room != room:
            raise Hostile(f"it is a model of {card.room}")
    return card


def _card_of_graph(path: Path) -> ModelCard:
    metadata = read_metadata(path)
    if CARD_KEY in metadata:
        return parse_card(metadata[CARD_KEY])
    if EXPORTED_DETECTOR in metadata:
        return parse_card(metadata[EXPORTED_DETECTOR], EXPORTED_DETECTOR)
    raise Hostile("it holds no card")


def replace_card(path: str | Path, card: ModelCard) -> None:
    """Puts another card into a model's file, atomically; all else stays.

    Raises:
        InputError: The file is missing or damaged.
    """
    kind, instead = _KINDS[card.room]
    readable = read_safely(path, f"is no {kind} of this tool", f"give {instead}")
    with readable, open_archive(path) as archive:
        contents = [
            (member, read_member(archive, member.filename))
            for member in archive.infolist()
            if member.filename not in (MEMBER, CLASSIFIER, ANOMALY)
        ]
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(MEMBER, card.to_json())
        for member, content in contents:
            archive.writestr(member, content)


def _card_in(archive: zipfile.ZipFile) -> ModelCard:
    names = archive.namelist()
    member = next((name for name in (MEMBER, *OLD_MEMBERS) if name in names), None)
    if member is None:
        raise Hostile("it holds no card")
    values = read_json(archive, member)
    return _card_of(values if member == MEMBER else from_old(member, values))


def _card_of(values: dict[str, Any]) -> ModelCard:
    version = values.pop("version", None)
    if isinstance(version, int) and version > VERSION:
        raise Hostile(
            f"it was written by a newer version of this tool, format {version}, and this one reads "
            f"up to {VERSION}: update the tool"
        )
    if version != VERSION:
        raise Hostile(f"its card is of version {str(version)[:20]}")
    try:
        # From text: a tuple of values comes as a list, and nothing else is taken for another type.
        card = ModelCard.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise Hostile(first_problem(error)) from error
    point = card.operating_point
    # A training that must let a good part of score 1 pass chooses the next number over it.
    if card.room in _SHARES and point and point.threshold > _OVER_ALL_SHARES:
        raise Hostile(
            f"its threshold is {point.threshold:g} and scores end at 1, so every part would be OK"
        )
    return card
