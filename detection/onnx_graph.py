"""The whole detector as one ONNX graph: pixels in, boxes after NMS out.

The graph is written layer by layer instead of by a converter. The network has nine kinds of
layers, and written directly they stand in the channels-first layout that the runtimes compute
in, and GroupNorm is one operator that they have a kernel for; a converter leaves it as twelve
between two transposes. `detection.export` compares every graph with the model before use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from detection.anchors import anchor_boxes, level_lengths
from detection.decoding import LEVEL_TOP_K, MAX_DETECTIONS, MIN_SCORE, NMS_IOU
from detection.model import FeaturePyramid, PredictionHead, RetinaNet
from detection.targets import _VARIANCE as VARIANCE
from inspection.backbones import Normalise

OPSET = 17
_MAX_GROWTH = np.log(1000 / 16)  # as detection.targets.decode_boxes
_IR_VERSION = 8  # what opset 17 came with, so that runtimes from 2022 on read the file
DECODING = "decoding/"
"""Names of all nodes behind the network start so; they stay in float32 when quantised."""


@dataclass(frozen=True)
class _Map:
    """A feature map (1, channels, height, width) in the graph."""

    name: str
    channels: int
    height: int
    width: int


class _Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Any, dtype: type | None = None) -> str:
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, name: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [name] if outputs == 1 else [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name, **attributes))
        return name if outputs == 1 else names


def detector_graph(model: RetinaNet, size: int) -> onnx.ModelProto:
    """Writes a model as an ONNX graph with decoding and per-class NMS inside.

    Args:
        model: The detector's network.
        size: Side of the fitted image in pixels.

    Returns:
        A graph from `image` (1, size, size, 3) uint8 RGB, the fitted image, to `boxes` (N, 4)
        float32 xyxy in its pixels, `scores` (N,) float32 descending and `labels` (N,) int64.

    Raises:
        TypeError: The model holds a layer that has no counterpart here.
    """
    graph = _Graph()
    features = _backbone(graph, model.feature_extractor, size)
    levels = _pyramid(graph, model.feature_pyramid, features)
    classes = len(model.classes)
    offsets = [
        _head(graph, model.box_head, level, index, (-1, 4)) for index, level in enumerate(levels)
    ]
    logits = [
        _head(graph, model.classification_head, level, index, (-1,))
        for index, level in enumerate(levels)
    ]
    anchors = anchor_boxes(model.anchors, size, size)
    lengths = level_lengths(model.anchors, size, size)
    all_offsets = graph.node("Concat", f"{DECODING}offsets", *offsets, axis=0)
    index, logit = _candidates(graph, logits, lengths, classes)
    boxes, score, label = _decoded(graph, all_offsets, index, logit, anchors, classes, size)
    _suppressed(graph, boxes, score, label, classes)
    onnx_graph = helper.make_graph(
        graph.nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, (1, size, size, 3))],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ("detections", 4)),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("detections",)),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ("detections",)),
        ],
        list(graph.constants.values()),
    )
    proto = helper.make_model(
        onnx_graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(proto)
    return proto


def _backbone(graph: _Graph, extractor: keras.Model, size: int) -> dict[str, _Map]:
    """Follows the functional backbone; returns the maps of strides 8, 16 and 32 by level."""
    pixels = graph.node("Cast", "pixels", "image", to=TensorProto.FLOAT)
    pixels = graph.node("Transpose", "channels_first", pixels, perm=(0, 3, 1, 2))
    maps: dict[int, _Map] = {}
    for layer in extractor.layers:
        if isinstance(layer, layers.InputLayer):
            maps[id(layer.output)] = _Map(pixels, 3, size, size)
            continue
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        maps[id(layer.output)] = _layer(graph, layer, [maps[id(tensor)] for tensor in inputs])
    return {level: maps[id(tensor)] for level, tensor in extractor.output.items()}


def _layer(graph: _Graph, layer: keras.Layer, inputs: list[_Map]) -> _Map:
    """Adds one backbone layer."""
    x = inputs[0]
    match layer:
        case Normalise():
            return _normalise(graph, layer, x)
        case layers.ZeroPadding2D():
            (top, bottom), (left, right) = layer.padding
            pads = graph.constant(f"{layer.name}/pads", (0, 0, top, left, 0, 0, bottom, right))
            name = graph.node("Pad", layer.name, x.name, pads)
            return _Map(name, x.channels, x.height + top + bottom, x.width + left + right)
        case layers.Conv2D():
            return _convolution(graph, layer, x, layer.name, layer.name)
        case layers.BatchNormalization() | layers.GroupNormalization():
            return _normalisation(graph, layer, x, layer.name, layer.name)
        case layers.MaxPooling2D(padding="valid"):
            side, stride = layer.pool_size, layer.strides
            name = graph.node("MaxPool", layer.name, x.name, kernel_shape=side, strides=stride)
            height = (x.height - side[0]) // stride[0] + 1
            return _Map(name, x.channels, height, (x.width - side[1]) // stride[1] + 1)
        case layers.Activation(activation=keras.activations.relu):
            name = graph.node("Relu", layer.name, x.name)
            return _Map(name, x.channels, x.height, x.width)
        case layers.Add():
            name = graph.node("Add", layer.name, *(value.name for value in inputs))
            return _Map(name, x.channels, x.height, x.width)
    raise TypeError(f"{layer.name}: a {type(layer).__name__} cannot be exported")


def _normalise(graph: _Graph, layer: Normalise, x: _Map) -> _Map:
    name = x.name
    if layer.bgr:
        order = graph.constant("bgr", (2, 1, 0), np.int64)
        name = graph.node("Gather", f"{layer.name}/bgr", name, order, axis=1)
    mean = graph.constant(f"{layer.name}/mean", np.reshape(layer.mean, (1, 3, 1, 1)), np.float32)
    name = graph.node("Sub", f"{layer.name}/centred", name, mean)
    scale = graph.constant(f"{layer.name}/scale", layer.scale, np.float32)
    name = graph.node("Mul", layer.name, name, scale)
    return _Map(name, x.channels, x.height, x.width)


def _convolution(graph: _Graph, layer: layers.Conv2D, x: _Map, name: str, stored: str) -> _Map:
    """Adds a convolution; `stored` names its weights, which the levels' calls of a head share."""
    kernel = _weights(layer.kernel).transpose(3, 2, 0, 1)
    stride, side = layer.strides, layer.kernel_size
    pads, shape = [0, 0, 0, 0], []
    for axis, length in enumerate((x.height, x.width)):
        if layer.padding == "same":
            # TensorFlow puts the odd pixel of padding at the end.
            cells = -(-length // stride[axis])
            total = max((cells - 1) * stride[axis] + side[axis] - length, 0)
            pads[axis], pads[axis + 2] = total // 2, total - total // 2
        else:
            cells = (length - side[axis]) // stride[axis] + 1
        shape.append(cells)
    inputs = [x.name, graph.constant(f"{stored}/kernel", kernel, np.float32)]
    if layer.use_bias:
        inputs.append(graph.constant(f"{stored}/bias", _weights(layer.bias), np.float32))
    graph.node("Conv", name, *inputs, kernel_shape=side, strides=stride, pads=pads)
    return _Map(name, kernel.shape[0], *shape)


def _normalisation(graph: _Graph, layer: keras.Layer, x: _Map, name: str, stored: str) -> _Map:
    """Adds BatchNorm or GroupNorm; `stored` as for a convolution."""
    gamma, beta = _weights(layer.gamma), _weights(layer.beta)
    if isinstance(layer, layers.BatchNormalization):
        values = {
            "gamma": gamma,
            "beta": beta,
            "mean": _weights(layer.moving_mean),
            "variance": _weights(layer.moving_variance),
        }
        inputs = [
            graph.constant(f"{stored}/{key}", value, np.float32) for key, value in values.items()
        ]
        graph.node("BatchNormalization", name, x.name, *inputs, epsilon=layer.epsilon)
        return _Map(name, x.channels, x.height, x.width)
    # GroupNorm is InstanceNorm of whole groups, then the scale and shift of each channel.
    groups = layer.groups
    split = graph.constant(f"groups_{groups}", (1, groups, -1), np.int64)
    whole = graph.constant(
        f"shape_{x.channels}_{x.height}_{x.width}", (1, x.channels, x.height, x.width), np.int64
    )
    one = graph.constant(f"ones_{groups}", np.ones(groups), np.float32)
    zero = graph.constant(f"zeros_{groups}", np.zeros(groups), np.float32)
    shape = (1, x.channels, 1, 1)
    scale = graph.constant(f"{stored}/gamma", gamma.reshape(shape), np.float32)
    shift = graph.constant(f"{stored}/beta", beta.reshape(shape), np.float32)
    inner = graph.node("Reshape", f"{name}/groups", x.name, split)
    inner = graph.node(
        "InstanceNormalization", f"{name}/instance", inner, one, zero, epsilon=layer.epsilon
    )
    inner = graph.node("Reshape", f"{name}/whole", inner, whole)
    inner = graph.node("Mul", f"{name}/scaled", inner, scale)
    graph.node("Add", name, inner, shift)
    return _Map(name, x.channels, x.height, x.width)


def _pyramid(graph: _Graph, pyramid: FeaturePyramid, features: dict[str, _Map]) -> list[_Map]:
    """Adds P3-P7."""

    def conv(layer: layers.Conv2D, x: _Map) -> _Map:
        name = f"pyramid/{layer.name}"
        return _convolution(graph, layer, x, name, name)

    p5 = conv(pyramid.laterals["P5"], features["P5"])
    p4 = _sum_repeated(graph, conv(pyramid.laterals["P4"], features["P4"]), p5, "pyramid/P4")
    p3 = _sum_repeated(graph, conv(pyramid.laterals["P3"], features["P3"]), p4, "pyramid/P3")
    p6 = conv(pyramid.downsample["P6"], features["P5"])
    positive = graph.node("Relu", "pyramid/P6_relu", p6.name)
    p7 = conv(
        pyramid.downsample["P7"], _Map(positive, p6.channels, p6.height, p6.width)
    )
    outputs = pyramid.outputs
    return [conv(outputs["P3"], p3), conv(outputs["P4"], p4), conv(outputs["P5"], p5), p6, p7]


def _sum_repeated(graph: _Graph, fine: _Map, coarse: _Map, name: str) -> _Map:
    """Adds `coarse`, repeated twice each way and cut to size, to `fine`."""
    scales = graph.constant("twice", (1, 1, 2, 2), np.float32)
    repeated = graph.node(
        "Resize",
        f"{name}_repeated",
        coarse.name,
        "",
        scales,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    if (2 * coarse.height, 2 * coarse.width) != (fine.height, fine.width):
        repeated = graph.node(
            "Slice",
            f"{name}_cut",
            repeated,
            graph.constant("origin", (0, 0), np.int64),
            graph.constant(f"{name}_end", (fine.height, fine.width), np.int64),
            graph.constant("plane", (2, 3), np.int64),
        )
    graph.node("Add", name, fine.name, repeated)
    return _Map(name, fine.channels, fine.height, fine.width)


def _head(
    graph: _Graph, head: PredictionHead, x: _Map, level: int, shape: tuple[int, ...]
) -> str:
    """Adds a head on one level; its values are reshaped in the order of the anchors."""
    name = f"{head.name}/P{level + 3}"
    for index, conv in enumerate(head.hidden):
        part = f"conv_{index}"
        x = _convolution(graph, conv, x, f"{name}/{part}", f"{head.name}/{part}")
        if head.norms:
            part = f"norm_{index}"
            x = _normalisation(
                graph, head.norms[index], x, f"{name}/{part}", f"{head.name}/{part}"
            )
        relu = graph.node("Relu", f"{name}/relu_{index}", x.name)
        x = _Map(relu, x.channels, x.height, x.width)
    x = _convolution(
        graph, head.prediction, x, f"{name}/prediction", f"{head.name}/prediction"
    )
    last = graph.node("Transpose", f"{DECODING}{name}/last", x.name, perm=(0, 2, 3, 1))
    wanted = graph.constant(f"{DECODING}shape_{len(shape)}", shape, np.int64)
    return graph.node("Reshape", f"{DECODING}{name}", last, wanted)


def _candidates(
    graph: _Graph, logits: list[str], lengths: tuple[int, ...], classes: int
) -> tuple[str, str]:
    """The best `LEVEL_TOP_K` of each level: (K,) places among all anchors x classes, logits."""
    places, values = [], []
    start = 0
    for index, (level, length) in enumerate(zip(logits, lengths, strict=True)):
        name = f"{DECODING}top_{index}"
        count = min(LEVEL_TOP_K, length * classes)
        k = graph.constant(f"{DECODING}k_{count}", (count,), np.int64)
        value, place = graph.node("TopK", name, level, k, outputs=2, axis=0)
        first = graph.constant(f"{name}/first", start * classes, np.int64)
        places.append(graph.node("Add", f"{name}/place", place, first))
        values.append(value)
        start += length
    return (
        graph.node("Concat", f"{DECODING}place", *places, axis=0),
        graph.node("Concat", f"{DECODING}logit", *values, axis=0),
    )


def _decoded(
    graph: _Graph,
    offsets: str,
    place: str,
    logit: str,
    anchors: np.ndarray,
    classes: int,
    size: int,
) -> tuple[str, str, str]:
    """Boxes (K, 4), scores (K,) with 0 for what is dropped, and class indices (K,)."""

    def node(kind: str, name: str, *inputs: str, **attributes: Any) -> Any:
        return graph.node(kind, f"{DECODING}{name}", *inputs, **attributes)

    def constant(name: str, value: Any, dtype: type = np.float32) -> str:
        return graph.constant(f"{DECODING}{name}", value, dtype)

    count = constant("classes", classes, np.int64)
    anchor = node("Div", "anchor", place, count)
    label = node("Sub", "label", place, node("Mul", "anchor_start", anchor, count))
    side = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    side = node("Gather", "side", constant("sides", side), anchor, axis=0)
    centre = node("Gather", "centre", constant("centres", centre), anchor, axis=0)
    # Offsets are y before x; anchors and boxes x before y.
    offset = node("Gather", "chosen", offsets, anchor, axis=0)
    swap = constant("swap", (1, 0, 3, 2), np.int64)
    offset = node("Gather", "swapped", offset, swap, axis=1)
    offset = node("Mul", "scaled", offset, constant("variance", VARIANCE[[1, 0, 3, 2]]))
    halves = constant("halves", (2, 2), np.int64)
    shift, growth = node("Split", "parts", offset, halves, outputs=2, axis=1)
    growth = node("Min", "bounded", growth, constant("max_growth", _MAX_GROWTH))
    middle = node("Add", "middle", centre, node("Mul", "shift", shift, side))
    half = node("Mul", "grown", side, node("Exp", "growth", growth))
    half = node("Mul", "half", half, constant("one_half", 0.5))
    low, high = node("Sub", "low", middle, half), node("Add", "high", middle, half)
    boxes = node("Concat", "unclipped", low, high, axis=1)
    boxes = node("Clip", "boxes", boxes, constant("zero", 0.0), constant("size", size))
    low, high = node("Split", "corners", boxes, halves, outputs=2, axis=1)
    least = node("ReduceMin", "least_side", node("Sub", "sides_left", high, low), axes=[1], keepdims=0)
    real = node("GreaterOrEqual", "real", least, constant("least", 1e-3))
    threshold = constant("threshold", np.log(MIN_SCORE / (1 - MIN_SCORE)))
    passed = node("And", "kept", real, node("GreaterOrEqual", "passed", logit, threshold))
    score = node("Where", "score", passed, node("Sigmoid", "sigmoid", logit), constant("zero", 0.0))
    return boxes, score, label


def _suppressed(graph: _Graph, boxes: str, score: str, label: str, classes: int) -> None:
    """Per-class NMS over all candidates and the best `MAX_DETECTIONS` of what it leaves."""

    def node(kind: str, name: str, *inputs: str, **attributes: Any) -> Any:
        return graph.node(kind, f"{DECODING}{name}", *inputs, **attributes)

    def constant(name: str, value: Any, dtype: type = np.int64) -> str:
        return graph.constant(f"{DECODING}{name}", value, dtype)

    zero = constant("zero", 0.0, np.float32)
    of_class = node("Equal", "of_class", label, constant("each_class", np.arange(classes)[:, None]))
    per_class = node("Where", "per_class", of_class, score, zero)
    first = constant("first_axis", (0,))
    selected = node(
        "NonMaxSuppression",
        "selected",
        node("Unsqueeze", "boxes_1", boxes, first),
        node("Unsqueeze", "per_class_1", per_class, first),
        constant("max_detections", (MAX_DETECTIONS,)),
        constant("iou", (NMS_IOU,), np.float32),
        constant("zero_1", (0.0,), np.float32),
    )
    kept = node("Gather", "kept_index", selected, constant("last_column", 2), axis=1)
    # Room for the best hundred even where fewer are left: a score of -1 marks what is not there.
    absent = constant("absent", np.zeros(MAX_DETECTIONS))
    kept_score = node("Gather", "kept_score", score, kept, axis=0)
    none = constant("absent_score", -np.ones(MAX_DETECTIONS), np.float32)
    kept = node("Concat", "kept_or_absent", kept, absent, axis=0)
    kept_score = node("Concat", "score_or_absent", kept_score, none, axis=0)
    best, order = node(
        "TopK", "best", kept_score, constant("max_detections", (MAX_DETECTIONS,)), outputs=2, axis=0
    )
    there = node("NonZero", "there_1", node("Greater", "is_there", best, zero))
    there = node("Squeeze", "there", there, first)
    order = node("Gather", "order", order, there, axis=0)
    index = node("Gather", "index", kept, order, axis=0)
    graph.node("Gather", "boxes", boxes, index, axis=0)
    graph.node("Gather", "scores", best, there, axis=0)
    graph.node("Gather", "labels", label, index, axis=0)


def _weights(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
