"""An ONNX graph under construction, for its network and its decoding alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Any, dtype: type | None = None) -> str:
        array = np.array(value, dtype, order="C")  # scalars stay scalars
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, name: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [name] if outputs == 1 else [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name, **attributes))
        return name if outputs == 1 else names
