"""Exporting a classifier to OpenVINO or ONNX, refused where it would decide otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classification.export.exported import ExportedClassifier
from classification.models.classifier import Classifier, Prediction
from classification.settings import ROOM
from inspection.export.parity import Verdict
from inspection.export.write import ExportReport, export_decider, keras_graph
from inspection.progress import Progress, silent

if TYPE_CHECKING:
    import onnx


def export(
    model: Classifier,
    output: Path,
    images: Sequence[Path],
    on_progress: Progress = silent,
) -> ExportReport:
    """Writes a classifier as a file that runs without Keras and TensorFlow.

    The exported model is loaded again and decides on every image. Where a class's share or a
    decision is another one, nothing is written; see `inspection.export.parity`.

    Args:
        model: The classifier.
        output: File to write, `.xml` or `.onnx`.
        images: To compare on; the test part.
        on_progress: Called with images done and in all.

    Raises:
        InputError: The network has no such form, or the models differ.
    """

    return export_decider(
        model, output, ROOM, images, _graph, ExportedClassifier.load, _verdict, on_progress
    )


def _graph(model: Classifier) -> onnx.ModelProto:
    def outputs(views):
        return {"logits": model.model(views, training=False)}

    return keras_graph(outputs, model.card.preparation.size, model.card.architecture)


def _verdict(found: Prediction) -> Verdict:
    said = found.label if found.decision == found.label else f"{found.label}, {found.decision}"
    return Verdict(list(found.probability.values()), said)
