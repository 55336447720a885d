"""The numbers inside exported graphs: one that is not finite is found before the graph is used.

OpenVINO and ONNX Runtime run a convolution and its ReLU as one, which makes 0 of NaN: of a damaged
file nothing would be left in the outputs, and every part would be OK.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from inspection.files.graphs import message_fields
from inspection.finite import NotFinite

# Of onnx.proto3: the fields that lead from a model to its tensors, by message.
_BELOW = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
_DATA_TYPE, _FLOATS, _RAW, _DOUBLES = 2, 4, 9, 10
_KINDS = {1: "<f4", 10: "<f2", 11: "<f8"}


def check_openvino(model: Any, limits: bool = False) -> None:
    """Refuses an `openvino.Model` with weights that are not finite numbers.

    Args:
        model: As read.
        limits: An infinity that stands alone is a limit of the graph's own and is right.

    Raises:
        NotFinite: One is not finite.
    """
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().is_real():
            kind = node.get_element_type().get_type_name()
            if kind in ("f16", "f32", "f64"):
                _check(np.asarray(node.data), limits)


def check_onnx(content: bytes, limits: bool = False) -> None:
    """As `check_openvino` for the bytes of an ONNX file.

    Raises:
        NotFinite: As there.
        ValueError: It is no ONNX file.
    """
    for values in _tensors(memoryview(content), "model"):
        _check(values, limits)


def _check(values: np.ndarray, limits: bool) -> None:
    wrong = np.isnan(values) if limits and values.size == 1 else ~np.isfinite(values)
    if wrong.any():
        raise NotFinite(
            f"{np.count_nonzero(wrong)} of {values.size} weights of one layer are not finite "
            "numbers, so nothing is decided (on the line: reject the part); the file is damaged: "
            "copy or export it again."
        )


def _tensors(message: memoryview, kind: str) -> Iterator[np.ndarray]:
    if kind == "tensor":
        fields: dict[int, Any] = dict(message_fields(message))
        stored = _KINDS.get(fields.get(_DATA_TYPE, 0))
        for number, dtype in ((_RAW, stored), (_FLOATS, "<f4"), (_DOUBLES, "<f8")):
            if stored and isinstance(fields.get(number), memoryview):
                yield np.frombuffer(fields[number], np.dtype(dtype))
        return
    for number, value in message_fields(message):
        below = _BELOW[kind].get(number)
        if below and isinstance(value, memoryview):
            yield from _tensors(value, below)
