"""A model as OpenVINO or ONNX runs it, without Keras and TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly.decision import Decider
from anomaly.preparation import Preparation
from inspection.errors import InputError, first_line
from inspection.operating_point import OperatingPoint

HEADER = "model.json"
GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}
VERSION = 1


@dataclass(frozen=True, eq=False)
class ExportedModel(Decider):
    """A folder that `python -m anomaly export` wrote.

    Args:
        run: Maps (V, S, S, 3) uint8 to (V, h, w) float32 scores.
        preparation: As for `Decider`.
        aggregation: As for `Decider`.
        normal: As for `Decider`.
        operating_point: As for `Decider`.
        method: Name of the method.
    """

    run: Callable[[np.ndarray], np.ndarray]
    preparation: Preparation
    aggregation: str
    normal: tuple[float, float]
    operating_point: OperatingPoint | None
    method: str = ""

    def score_views(self, views: np.ndarray) -> np.ndarray:
        return self.run(views)

    @classmethod
    def load(cls, folder: str | Path) -> ExportedModel:
        """Reads an exported folder.

        Raises:
            InputError: It is none, of another version, damaged, or its runtime is not installed.
        """
        folder = Path(folder)
        try:
            header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
            if header["version"] != VERSION:
                raise InputError(
                    f"{folder}: was exported as version {header['version']}, this program reads "
                    f"version {VERSION}; export it again"
                )
            point = header["operating_point"]
            return cls(
                _RUNTIMES[header["format"]](folder / GRAPHS[header["format"]]),
                Preparation.from_dict(header["preparation"]),
                header["aggregation"],
                tuple(float(value) for value in header["normal"]),
                OperatingPoint.from_dict(point) if point else None,
                header["method"],
            )
        except InputError:
            raise
        except ImportError as error:
            raise InputError(f"{folder}: needs {error.name}; pip install {error.name}") from error
        except Exception as error:  # files, JSON and two runtimes each raise their own
            raise InputError(
                f"{folder}: cannot be read as an exported model ({first_line(error)}); give the "
                "folder that `python -m anomaly export` wrote"
            ) from error


def _onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda views: session.run(None, {"views": views})[0]


def _openvino(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    core = openvino.Core()
    # bfloat16, where a CPU has it, would move scores by more than an export may.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    # From memory: the C++ reader knows no Korean path on every system.
    weights = path.with_suffix(".bin").read_bytes()
    model = core.read_model(path.read_bytes(), weights)
    compiled = core.compile_model(model, "CPU", settings)
    return lambda views: compiled(views)[0]


_RUNTIMES = {"onnx": _onnx, "openvino": _openvino}
