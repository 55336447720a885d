"""A trained method with everything a decision needs, in one file."""

from __future__ import annotations

import importlib
import io
import json
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import numpy as np
from pydantic import Field

from anomaly.features.extractor import Source
from anomaly.methods.base import Method, State
from anomaly.methods.names import CLASSES, METHODS
from anomaly.models.decision import Decider, DeciderValues, ScoredCells
from anomaly.models.scores import Reference
from anomaly.run import SUFFIX
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.files.archives import (
    check_network,
    open_archive,
    read_arrays,
    read_json,
    read_member,
    read_safely,
)
from inspection.files.writing import atomic_path
from inspection.finite import check_weights, names_file

VERSION = 1
HEADER = "model.json"
_INSTEAD = f"give a {SUFFIX} file that `python -m anomaly train` wrote, or train it again"

_Setting = (
    bool
    | Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]
    | Annotated[str, Field(max_length=1000)]
    | None
)
_Network = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]


class _HeaderValues(DeciderValues):
    method: Literal[METHODS]
    settings: dict[str, _Setting | Annotated[list[_Setting], Field(max_length=100)]]
    networks: Annotated[list[_Network], Field(max_length=20)]


@dataclass(frozen=True, eq=False)
class AnomalyModel(Decider):
    """A fitted method, what comes before it and what comes after.

    Args:
        method: Fitted.
        preparation: How pictures are cut and scaled.
        aggregation: A name of `anomaly.models.scores.AGGREGATIONS`.
        normal: Median and upper end (`anomaly.models.scores.LEVEL_QUANTILE`) of the cells of normal
            pictures, as they are shown.
        operating_point: Where OK ends; None while it has not been chosen.
        reference: As for `Decider`.
    """

    method: Method
    preparation: Preparation
    aggregation: str = "max"
    normal: tuple[float, float] = (0.0, 1.0)
    operating_point: OperatingPoint | None = None
    reference: Reference | None = None

    def score_views(self, views: np.ndarray) -> np.ndarray:
        """Maps (V, S, S, 3) uint8 to (V, h, w) float32 scores."""
        return self.method.score_views(views)

    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.method.weighted_views(views)

    def scored_of(self, source: Source, index: int, raw: bool | None = None) -> ScoredCells:
        """What it finds in a picture of a source, whose features come from the cache.

        Args:
            source: Pictures.
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
        header = {
            "version": VERSION,
            "method": self.method.name,
            "settings": state.settings,
            "networks": sorted(state.networks),
            "preparation": self.preparation.to_dict(),
            "aggregation": self.aggregation,
            "normal": self.normal,
            "operating_point": self.operating_point and self.operating_point.to_dict(),
            "reference": self.reference and asdict(self.reference),
        }
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
            file.writestr(HEADER, json.dumps(header, ensure_ascii=False, indent=2))
            arrays = io.BytesIO()
            np.savez(arrays, **state.arrays)
            file.writestr("arrays.npz", arrays.getvalue())
            for name, network in state.networks.items():
                file.writestr(f"{name}.keras", _network_bytes(network))

    @classmethod
    def load(cls, path: str | Path) -> AnomalyModel:
        """Reads what `save` wrote.

        Raises:
            InputError: The file is missing, damaged, no model, or of another version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: there is no such model; train one, or correct the path")
        with names_file(path), read_safely(path, "cannot be read as a model", _INSTEAD):
            with open_archive(path) as file:
                header = _header(file, path)
                kind = method_class(header["method"])  # also registers its layers
                arrays = read_arrays(read_member(file, "arrays.npz"))
                networks = {
                    name: _network_from(read_member(file, f"{name}.keras"))
                    for name in header["networks"]
                }
            point = header["operating_point"]
            return cls(
                kind.from_state(State(header["settings"], arrays, networks)),
                Preparation.from_dict(header["preparation"]),
                header["aggregation"],
                tuple(float(value) for value in header["normal"]),
                OperatingPoint.from_dict(point) if point else None,
                Reference(**header["reference"]) if header.get("reference") else None,
            )


def replace_operating_point(path: str | Path, point: OperatingPoint | None) -> None:
    """Writes another threshold, or none, into a model's file, atomically; all else stays.

    Raises:
        InputError: The file is missing, damaged, no model, or of another version.
    """
    path = Path(path)
    with read_safely(path, "cannot be read as a model", _INSTEAD), open_archive(path) as file:
        contents = {name: read_member(file, name) for name in file.namelist()}
        header = _header(file, path)
    header["operating_point"] = point and point.to_dict()
    contents[HEADER] = json.dumps(header, ensure_ascii=False, indent=2).encode()
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)


def stored_operating_point(path: str | Path) -> OperatingPoint | None:
    """The threshold in a model's file, without loading its networks.

    Raises:
        InputError: As `replace_operating_point`.
    """
    path = Path(path)
    header = model_header(path)
    point = header["operating_point"]
    return OperatingPoint.from_dict(point) if point else None


def model_header(path: str | Path) -> dict[str, Any]:
    """What a model's file says of itself, checked, without its networks.

    Raises:
        InputError: The file is missing, damaged, no model, or of another version.
    """
    with read_safely(path, "cannot be read as a model", _INSTEAD), open_archive(path) as file:
        return _header(file, Path(path))


def _header(file: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    header = read_json(file, HEADER)
    _check_version(header, path)
    _HeaderValues.model_validate(header)
    if header["operating_point"]:
        OperatingPoint.from_dict(header["operating_point"])
    return header


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        InputError: The name is unknown.
    """
    if name not in CLASSES:
        raise InputError(f"method '{name}' is unknown; take one of {', '.join(METHODS)}")
    module, attribute = CLASSES[name]
    return getattr(importlib.import_module(module), attribute)


def _check_version(header: dict[str, Any], path: Path) -> None:
    if header.get("version") != VERSION:
        raise InputError(
            f"{path}: is a model of version {header.get('version')}, this program reads version "
            f"{VERSION}; train it again, or use the program that wrote it"
        )


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
