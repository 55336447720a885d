"""Exporting a model to OpenVINO or ONNX, refused where it would score or decide otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from anomaly.export.exported import ExportedModel
from anomaly.models.decision import Finding
from anomaly.models.model import AnomalyModel
from anomaly.settings import ROOM
from inspection.export.parity import Verdict
from inspection.export.write import ExportReport, export_decider, keras_graph
from inspection.progress import Progress, silent

if TYPE_CHECKING:
    import onnx


def export(
    model: AnomalyModel,
    output: Path,
    images: Sequence[Path],
    on_progress: Progress = silent,
) -> ExportReport:
    """Writes a model as a file that runs without Keras and TensorFlow.

    The exported model is loaded again and decides on every image. Where a score or a decision
    is another one, nothing is written; see `inspection.export.parity`.

    Args:
        model: With its operating point.
        output: File to write, `.xml` or `.onnx`.
        images: To compare on; the test part.
        on_progress: Called with images done and in all.

    Raises:
        InputError: A method has no such form, or the models differ.
    """

    return export_decider(
        model, output, ROOM, images, onnx_graph, ExportedModel.load, _verdict, on_progress
    )


def onnx_graph(model: AnomalyModel) -> onnx.ModelProto:
    """ONNX from `views` (V, S, S, 3) uint8 to `scores` (V, h, w) float32.

    Where the method weights its cells, a second output `weights` is like it.

    Raises:
        InputError: The method has no such form, or the backend is not TensorFlow.
    """
    side = model.preparation.size
    # Outside of a graph first: there a refusal arrives as it is.
    model.method.weighted_graph(keras.ops.zeros((1, side, side, 3)))

    def outputs(views):
        scores, weights = model.method.weighted_graph(views)
        return {"scores": scores} if weights is None else {"scores": scores, "weights": weights}

    return keras_graph(outputs, side, model.method.name)


def _verdict(found: Finding) -> Verdict:
    return Verdict([found.score], found.decision)
