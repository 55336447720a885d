"""Exporting a model to OpenVINO or ONNX, refused where it would score or decide otherwise."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly.export.exported import GRAPHS, ExportedModel
from anomaly.methods.base import Progress, silent
from anomaly.models.model import AnomalyModel
from inspection.errors import InputError, first_line
from inspection.models.card import MEMBER

TOLERANCE = 1e-3
_OPSET = 17
_NAMED = 5


@dataclass(frozen=True)
class Parity:
    """How near an exported model is to its original.

    Args:
        pictures: Compared.
        score: Largest difference of two scores, relative to the original's.
        mb: Size of the exported files in 10^6 bytes.
    """

    pictures: int
    score: float
    mb: float


def export(
    model: AnomalyModel,
    output: Path,
    format: str,
    pictures: Sequence[Path],
    on_progress: Progress = silent,
) -> Parity:
    """Writes a model as a folder that runs without Keras and TensorFlow.

    The exported model is loaded again and scores every picture. Where one score is off by more
    than `TOLERANCE`, relative, or one decision differs, nothing is written.

    Args:
        model: With its operating point.
        output: New folder.
        format: `openvino` or `onnx`.
        pictures: To compare on; the test part.
        on_progress: Called after each picture.

    Raises:
        InputError: The folder exists, a method has no such form, or the models differ.
    """
    problems = []
    if format not in GRAPHS:
        problems.append(f"--format {format}: must be {' or '.join(GRAPHS)}")
    if output.exists():
        problems.append(f"{output}: is there already; give another --output, or remove it")
    if not pictures:
        problems.append("there is no picture to compare on; export needs a test part")
    if problems:
        raise InputError(problems)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".export.", dir=output.parent, ignore_cleanup_errors=True
    ) as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        _write(model, folder, format)
        exported = ExportedModel.load(folder)
        score = _compare(model, exported, pictures, on_progress)
        mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        shutil.move(folder, output)
    return Parity(len(pictures), score, mb)


def _write(model: AnomalyModel, folder: Path, format: str) -> None:
    graph = onnx_graph(model)
    if format == "onnx":
        (folder / GRAPHS["onnx"]).write_bytes(graph)
    else:
        _write_openvino(graph, folder)
    (folder / MEMBER).write_text(model.card.to_json(), encoding="ascii")


def onnx_graph(model: AnomalyModel) -> bytes:
    """ONNX from `views` (V, S, S, 3) uint8 to `scores` (V, h, w) float32.

    Where the method weights its cells, a second output `weights` is like it.

    Raises:
        InputError: The method has no such form, or the backend is not TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError("export: runs with KERAS_BACKEND=tensorflow only; set it and try again")
    import tensorflow as tf
    import tf2onnx

    side = model.preparation.size
    spec = tf.TensorSpec((None, side, side, 3), tf.uint8, name="views")
    # Outside of a graph first: there a refusal arrives as it is.
    model.method.weighted_graph(keras.ops.zeros((1, side, side, 3)))

    def outputs(views):
        scores, weights = model.method.weighted_graph(tf.cast(views, tf.float32))
        return {"scores": scores} if weights is None else {"scores": scores, "weights": weights}

    try:
        proto, _ = tf2onnx.convert.from_function(
            tf.function(outputs, [spec]), input_signature=[spec], opset=_OPSET
        )
    except Exception as error:  # the converter raises many kinds
        raise InputError(
            f"{model.method.name}: cannot be written as ONNX ({first_line(error)})"
        ) from error
    return proto.SerializeToString()


def _write_openvino(graph: bytes, folder: Path) -> None:
    import io

    import openvino

    converted = openvino.convert_model(io.BytesIO(graph))
    # float32 weights: rounding them to float16 would move scores.
    openvino.save_model(converted, str(folder / GRAPHS["openvino"]), compress_to_fp16=False)


def _compare(
    model: AnomalyModel, exported: ExportedModel, pictures: Sequence[Path], on_progress: Progress
) -> float:
    worst, problems = 0.0, []
    for index, path in enumerate(pictures):
        wanted, found = model.predict(path), exported.predict(path)
        off = abs(found.score - wanted.score) / max(abs(wanted.score), 1e-12)
        worst = max(worst, off)
        if off > TOLERANCE or wanted.decision != found.decision or not np.isfinite(found.score):
            problems.append(
                f"{path}: scores {found.score:.6g} and is {found.decision} when exported, "
                f"{wanted.score:.6g} and {wanted.decision} before"
            )
        on_progress("comparing", index + 1, len(pictures))
    if problems:
        more = len(problems) - _NAMED
        raise InputError(
            [
                *problems[:_NAMED],
                *([f"and {more} more"] if more > 0 else []),
                "Nothing was exported: the exported model does not do the same.",
            ]
        )
    return worst
