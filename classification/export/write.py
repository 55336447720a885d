"""Exporting a classifier to OpenVINO or ONNX, refused where it would decide otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from classification.export.exported import ExportedClassifier
from classification.models.classifier import Classifier, Decider
from classification.settings import ROOM
from inspection.export.parity import Parity, Verdict, prove_parity
from inspection.export.write import ExportReport, export_proved, keras_graph, write_graph
from inspection.progress import Progress, silent


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

    def write(path: Path) -> None:
        def outputs(views):
            return {"logits": model.model(views, training=False)}

        graph = keras_graph(outputs, model.card.preparation.size, model.card.architecture)
        write_graph(graph, path, model.card)

    def prove(path: Path) -> Parity:
        exported = ExportedClassifier.load(path)
        return prove_parity(images, _verdict_of(model), _verdict_of(exported), on_progress)

    return export_proved(output, ROOM, images, write, prove)


def _verdict_of(model: Decider) -> Callable[[Path], Verdict]:
    def verdict(path: Path) -> Verdict:
        found = model.predict(path)
        said = found.label if found.decision == found.label else f"{found.label}, {found.decision}"
        return Verdict(list(found.probability.values()), said)

    return verdict
