"""A trained method with everything a decision needs, in one file."""

from __future__ import annotations

import importlib
import io
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from anomaly.features.extractor import Source
from anomaly.methods.base import Method, State
from anomaly.methods.names import CLASSES, METHODS
from anomaly.models.decision import Decider, ScoredCells, fields_of
from anomaly.models.scores import Reference
from anomaly.settings import ROOM, AnomalySettings
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.files.archives import (
    Hostile,
    check_network,
    open_archive,
    read_arrays,
    read_member,
    read_safely,
)
from inspection.files.writing import atomic_path
from inspection.finite import check_weights, names_file
from inspection.models.card import MEMBER, ModelCard, Provenance, read_card, replace_card
from inspection.settings import read_settings
from inspection.training.run import MODEL, SETTINGS, model_file

SUFFIX = ".anomaly"
_INSTEAD = f"give a {SUFFIX} file that `python -m anomaly train` wrote, or train it again"

_Setting = (
    bool
    | Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]
    | Annotated[str, Field(max_length=1000)]
    | None
)
_Network = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]


class _MethodValues(BaseModel):
    model_config = ConfigDict(extra="allow")

    settings: dict[str, _Setting | Annotated[list[_Setting], Field(max_length=100)]]
    networks: Annotated[list[_Network], Field(max_length=20)]


@dataclass(frozen=True, eq=False)
class AnomalyModel(Decider):
    """A fitted method, what comes before it and what comes after.

    Args:
        method: Fitted.
        preparation: How images are cut and scaled.
        aggregation: A name of `anomaly.models.scores.AGGREGATIONS`.
        normal: Median and upper end (`anomaly.models.scores.LEVEL_QUANTILE`) of the cells of normal
            images, as they are shown.
        operating_point: Where OK ends; None while it has not been chosen.
        reference: As for `Decider`.
        provenance: As for `Decider`.
    """

    method: Method
    preparation: Preparation
    aggregation: str = "max"
    normal: tuple[float, float] = (0.0, 1.0)
    operating_point: OperatingPoint | None = None
    reference: Reference | None = None
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def architecture(self) -> str:
        """The method's name."""
        return self.method.name

    def score_views(self, views: np.ndarray) -> np.ndarray:
        """Maps (V, S, S, 3) uint8 to (V, h, w) float32 scores."""
        return self.method.score_views(views)

    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.method.weighted_views(views)

    def scored_of(self, source: Source, index: int, raw: bool | None = None) -> ScoredCells:
        """What it finds in an image of a source, whose features come from the cache.

        Args:
            source: Images.
            index: Which.
            raw: As for `scored`, while the model has no reference.
        """
        if self.reference:
            raw = self.reference.raw
        prepared = source.prepared(index)
        return self.scored(prepared, *self.method.weighted(source, index, prepared), raw)

    def save(self, path: str | Path) -> None:
        """Writes the model atomically."""
        state = self.method.state()
        card = self.card
        card.extra |= {"settings": state.settings, "networks": sorted(state.networks)}
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
            file.writestr(MEMBER, card.to_json())
            arrays = io.BytesIO()
            np.savez(arrays, **state.arrays)
            file.writestr("arrays.npz", arrays.getvalue())
            for name, network in state.networks.items():
                file.writestr(f"{name}.keras", _network_bytes(network))

    @classmethod
    def load(cls, path: str | Path) -> AnomalyModel:
        """Reads what `save` wrote, or the model of a run's folder.

        Raises:
            InputError: The file is missing, damaged, no model, or of another version.
        """
        path = model_file(path, MODEL)
        card = model_card(path)
        with names_file(path), read_safely(path, "cannot be read as a model", _INSTEAD):
            with open_archive(path) as file:
                kind = method_class(card.architecture)  # also registers its layers
                arrays = read_arrays(read_member(file, "arrays.npz"))
                networks = {
                    name: _network_from(read_member(file, f"{name}.keras"))
                    for name in card.extra["networks"]
                }
            method = kind.from_state(State(card.extra["settings"], arrays, networks))
            return cls(method, **fields_of(card))


def replace_operating_point(path: str | Path, point: OperatingPoint | None) -> None:
    """Writes another threshold, or none, into a model's file, atomically; all else stays.

    Raises:
        InputError: The file is missing, damaged, no model, or of another version.
    """
    replace_card(path, model_card(path).model_copy(update={"operating_point": point}))


def model_card(path: str | Path) -> ModelCard:
    """What a model's file says of itself, checked, without its networks.

    Raises:
        InputError: The file is missing, damaged, no model, or of another version.
    """
    card = read_card(path, ROOM)
    with read_safely(path, "cannot be read as a model", _INSTEAD):
        if card.architecture not in METHODS:
            raise Hostile(f"its method {card.architecture} is unknown")
        fields_of(card)
        _MethodValues.model_validate(card.extra)
    folder = Path(path).parent
    if not card.provenance.run and (folder / SETTINGS).is_file():
        # Made before there was a card: the run's folder says where the model comes from.
        card.provenance.run = folder.resolve().name
        card.provenance.data = str(read_settings(AnomalySettings, folder / SETTINGS, {}).data)
    return card


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        InputError: The name is unknown.
    """
    if name not in CLASSES:
        raise InputError(f"method '{name}' is unknown; take one of {', '.join(METHODS)}")
    module, attribute = CLASSES[name]
    return getattr(importlib.import_module(module), attribute)


def _network_bytes(network: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        network.save(path)
        return path.read_bytes()


def _network_from(content: bytes) -> keras.Model:
    check_network(io.BytesIO(content))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        path.write_bytes(content)
        network = keras.saving.load_model(path, compile=False)
    check_weights(network)
    return network
