"""Exported files in use: with OpenVINO or ONNX Runtime, without Keras and TensorFlow."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inspection.errors import InputError
from inspection.export.graph_weights import check_onnx, check_openvino
from inspection.files.archives import read_safely
from inspection.files.graphs import exported_files
from inspection.finite import names_file
from inspection.models.card import ModelCard, Room, read_card

PACKAGES = {".xml": "openvino", ".onnx": "onnxruntime"}
"""What each kind of file needs to run."""

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""From the graph's one input, (B, S, S, 3) uint8 RGB, to its outputs by name."""


def open_exported(path: str | Path, room: Room, *, limits: bool = False) -> tuple[ModelCard, Run]:
    """Opens an exported file for use.

    Args:
        path: `.xml` (with its `.bin` beside it) or `.onnx`.
        room: Whose export it must be.
        limits: As for `open_graph`.

    Raises:
        InputError: The file is missing, damaged or no export of this room, or its runtime is not
            installed.
        NotFinite: A weight is no finite number.
    """
    path = Path(path)
    card = read_card(path, room)
    with read_safely(
        path,
        "cannot be loaded as an exported model",
        f"copy it again, or export it again with `python -m {room} export`",
    ):
        return card, open_graph(path, limits)


def open_graph(path: Path, limits: bool = False) -> Run:
    """Compiles a graph for this machine's processor; several threads may run it.

    Args:
        path: `.xml` or `.onnx`.
        limits: An infinity that stands alone is a limit of the graph's own and is right.

    Raises:
        InputError: The runtime is not installed, or OpenVINO's weights are not there.
        NotFinite: A weight is no finite number.
        Exception: Each runtime raises its own of a damaged file.
    """
    for file in exported_files(path):
        if not file.is_file():
            raise InputError(f"{file}: is not there; copy it beside {path.name}, or export again.")
    suffix = path.suffix.lower()
    try:
        with names_file(path):
            return (_open_onnx if suffix == ".onnx" else _open_openvino)(path, limits)
    except ImportError as error:
        package = PACKAGES[suffix]
        raise InputError(f"{path}: needs the package {package}; pip install {package}.") from error


def _open_onnx(path: Path, limits: bool) -> Run:
    import onnxruntime

    content = path.read_bytes()
    check_onnx(content, limits)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (source,) = (one.name for one in session.get_inputs())
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {source: images}), strict=True))


def _open_openvino(path: Path, limits: bool) -> Run:
    core = openvino_core()
    # From memory: the C++ reader knows no Korean path on every system.
    model = core.read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    check_openvino(model, limits)
    # Where the processor has bfloat16 OpenVINO would take it by itself, and move the scores.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)
    names = [output.any_name for output in compiled.outputs]
    one_at_a_time = threading.Lock()  # a compiled model refuses a second call during one

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with one_at_a_time:
            found = compiled(images)
            return {name: found[index] for index, name in enumerate(names)}

    return run


@functools.cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, never taken down.

    Its CPU plugin lends the thread a stack for signal handlers, and where the last model is
    dropped by another thread that memory goes while still in use: the next Ctrl-C would crash.
    """
    import openvino

    core = openvino.Core()
    core.get_versions("CPU")  # loads the plugin, which then stays as long as the core
    return core
