"""A model as OpenVINO or ONNX runs it, without Keras and TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly.models.decision import Decider, fields_of
from anomaly.models.scores import Reference
from anomaly.settings import ROOM
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError, first_line
from inspection.export.graph_weights import check_onnx, check_openvino
from inspection.finite import names_file
from inspection.models.card import Provenance, read_card

GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}
Run = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class ExportedModel(Decider):
    """A folder that `python -m anomaly export` wrote.

    Args:
        run: Maps (V, S, S, 3) uint8 to (V, h, w) float32 `scores` and, if any, `weights`.
        preparation: As for `Decider`.
        aggregation: As for `Decider`.
        normal: As for `Decider`.
        operating_point: As for `Decider`.
        reference: As for `Decider`.
        provenance: As for `Decider`.
        architecture: As for `Decider`.
    """

    run: Run
    preparation: Preparation
    aggregation: str
    normal: tuple[float, float]
    operating_point: OperatingPoint | None
    reference: Reference | None
    provenance: Provenance
    architecture: str

    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        found = self.run(views)
        return found["scores"], found.get("weights")

    @classmethod
    def load(cls, folder: str | Path) -> ExportedModel:
        """Reads an exported folder.

        Raises:
            InputError: It is none, of another version, damaged, or its runtime is not installed.
        """
        folder = Path(folder)
        try:
            card = read_card(folder, ROOM)
            format = next(key for key, name in GRAPHS.items() if (folder / name).is_file())
            with names_file(folder):
                run = _RUNTIMES[format](folder / GRAPHS[format])
            return cls(run, architecture=card.architecture, **fields_of(card))
        except InputError:
            raise
        except ImportError as error:
            raise InputError(f"{folder}: needs {error.name}; pip install {error.name}") from error
        except Exception as error:  # files, JSON and two runtimes each raise their own
            raise InputError(
                f"{folder}: cannot be read as an exported model ({first_line(error)}); give the "
                "folder that `python -m anomaly export` wrote"
            ) from error


def _onnx(path: Path) -> Run:
    import onnxruntime

    content = path.read_bytes()
    check_onnx(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda views: dict(zip(names, session.run(names, {"views": views}), strict=True))


def _openvino(path: Path) -> Run:
    import openvino

    core = openvino.Core()
    # bfloat16, where a CPU has it, would move scores by more than an export may.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    # From memory: the C++ reader knows no Korean path on every system.
    weights = path.with_suffix(".bin").read_bytes()
    model = core.read_model(path.read_bytes(), weights)
    check_openvino(model)
    compiled = core.compile_model(model, "CPU", settings)
    names = [output.any_name for output in compiled.outputs]

    def run(views: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled(views)
        return {name: found[index] for index, name in enumerate(names)}

    return run


_RUNTIMES = {"onnx": _onnx, "openvino": _openvino}
