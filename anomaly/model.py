"""A trained method with everything a decision needs, in one file."""

from __future__ import annotations

import importlib
import io
import json
import tempfile
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from anomaly.decision import Decider, ScoredCells
from anomaly.features import Source
from anomaly.methods.base import Method, State
from anomaly.preparation import Preparation
from anomaly.run import SUFFIX
from anomaly.scores import Reference
from inspection.errors import InputError, first_line
from inspection.finite import NotFinite, check_weights
from inspection.operating_point import OperatingPoint
from inspection.runs import atomic_path

VERSION = 1
_METHODS = {
    "patchcore": ("anomaly.methods.patchcore", "PatchCore"),
    "cs-flow": ("anomaly.methods.cs_flow", "CSFlow"),
    "cfa": ("anomaly.methods.cfa", "CFA"),
    "self-supervised": ("anomaly.methods.self_supervised", "SelfSupervised"),
    "padim": ("anomaly.methods.padim", "PaDiM"),
    "fastflow": ("anomaly.methods.fastflow", "FastFlow"),
    "cflow": ("anomaly.methods.cflow", "CFlow"),
    "vae": ("anomaly.methods.vae", "VAE"),
    "vae-denoising": ("anomaly.methods.vae", "DenoisingVAE"),
    "ocr-gan": ("anomaly.methods.ocr_gan", "OCRGAN"),
    "oc-svm": ("anomaly.methods.pooled", "OneClassSVM"),
    "isolation-forest": ("anomaly.methods.pooled", "IsolationForest"),
}
METHODS = tuple(_METHODS)


@dataclass(frozen=True, eq=False)
class AnomalyModel(Decider):
    """A fitted method, what comes before it and what comes after.

    Args:
        method: Fitted.
        preparation: How pictures are cut and scaled.
        aggregation: A name of `anomaly.scores.AGGREGATIONS`.
        normal: Median and upper end (`anomaly.scores.LEVEL_QUANTILE`) of the cells of normal
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

    def with_operating_point(self, point: OperatingPoint | None) -> AnomalyModel:
        """The same model with another threshold."""
        return replace(self, operating_point=point)

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
            file.writestr("model.json", json.dumps(header, ensure_ascii=False, indent=2))
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
        try:
            with zipfile.ZipFile(path) as file:
                header = json.loads(file.read("model.json"))
                _check_version(header, path)
                kind = method_class(header["method"])  # also registers its layers
                with np.load(io.BytesIO(file.read("arrays.npz")), allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in stored.files}
                networks = {
                    name: _network_from(file.read(f"{name}.keras")) for name in header["networks"]
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
        except NotFinite as error:
            raise NotFinite(f"{path}: {error}") from error
        except InputError:
            raise
        except Exception as error:  # zip, JSON, NumPy and Keras each raise their own
            raise InputError(
                f"{path}: cannot be read as a model ({first_line(error)}); give a {SUFFIX} file "
                "that `python -m anomaly train` wrote"
            ) from error


def replace_operating_point(path: str | Path, point: OperatingPoint | None) -> None:
    """Writes another threshold, or none, into a model's file, atomically; all else stays.

    Raises:
        InputError: The file is missing, damaged, no model, or of another version.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            contents = {name: file.read(name) for name in file.namelist()}
        header = json.loads(contents["model.json"])
        _check_version(header, path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read as a model ({first_line(error)}); train it again"
        ) from error
    header["operating_point"] = point and point.to_dict()
    contents["model.json"] = json.dumps(header, ensure_ascii=False, indent=2).encode()
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)


def stored_operating_point(path: str | Path) -> OperatingPoint | None:
    """The threshold in a model's file, without loading its networks.

    Raises:
        InputError: As `replace_operating_point`.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            header = json.loads(file.read("model.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read as a model ({first_line(error)}); train it again"
        ) from error
    _check_version(header, path)
    point = header["operating_point"]
    return OperatingPoint.from_dict(point) if point else None


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        InputError: The name is unknown.
    """
    if name not in _METHODS:
        raise InputError(f"method '{name}' is unknown; take one of {', '.join(METHODS)}")
    module, attribute = _METHODS[name]
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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        path.write_bytes(content)
        network = keras.saving.load_model(path, compile=False)
    check_weights(network)
    return network
