"""The whole detector as one ONNX graph: pixels in, boxes after NMS out.

The graph is written layer by layer instead of by a converter. The network has ten kinds of
layers, and written directly they stand in the channels-first layout that the runtimes compute
in, and GroupNorm is one operator that they have a kernel for; a converter leaves it as twelve
between two transposes. `detection.export.write` compares every graph with the model before use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper

from detection.export.onnx_decoding import DECODING, add_decoding
from detection.export.onnx_nodes import Graph
from detection.models.anchors import anchor_boxes, level_lengths
from detection.models.heads import PredictionHead
from detection.models.pyramid import FeaturePyramid
from detection.models.retinanet import RetinaNet
from inspection.export.write import OPSET
from inspection.finite import check_finite
from inspection.models.layers import LocalContrast, Normalise

_IR_VERSION = 8  # what opset 17 came with, so that runtimes from 2022 on read the file
PREPARING = "preparing/"
"""Names of all nodes before the first convolution start so; int8 leaves them as they are."""


@dataclass(frozen=True)
class _Map:
    """A feature map (1, channels, height, width) in the graph.

    Args:
        name: The node it comes from.
        channels: Its channels.
        height: Rows, with the padding that is still to be added.
        width: Columns, likewise.
        padding: Zeros that the next layer adds at the top, left, bottom and right. Left to that
            layer, they cost no copy of the map.
        is_positive: Whether it comes out of a ReLU.
    """

    name: str
    channels: int
    height: int
    width: int
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    is_positive: bool = False


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
    graph = Graph()
    features = _backbone(graph, model.feature_extractor, size)
    levels = _pyramid(graph, model.feature_pyramid, features)
    offsets = [
        _head(graph, model.box_head, level, index, (-1, 4)) for index, level in enumerate(levels)
    ]
    logits = [
        _head(graph, model.classification_head, level, index, (-1,))
        for index, level in enumerate(levels)
    ]
    anchors = anchor_boxes(model.anchors, size, size)
    lengths = level_lengths(model.anchors, size, size)
    add_decoding(graph, offsets, logits, anchors, lengths, len(model.classes), size)
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


def _backbone(graph: Graph, extractor: keras.Model, size: int) -> dict[str, _Map]:
    """Follows the functional backbone; returns the maps of strides 8, 16 and 32 by level."""
    pixels = graph.node("Cast", f"{PREPARING}pixels", "image", to=TensorProto.FLOAT)
    pixels = graph.node("Transpose", f"{PREPARING}channels_first", pixels, perm=(0, 3, 1, 2))
    maps: dict[int, _Map] = {}
    for layer in extractor.layers:
        if isinstance(layer, layers.InputLayer):
            maps[id(layer.output)] = _Map(pixels, 3, size, size)
            continue
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        maps[id(layer.output)] = _layer(graph, layer, [maps[id(tensor)] for tensor in inputs])
    return {level: maps[id(tensor)] for level, tensor in extractor.output.items()}


def _layer(graph: Graph, layer: keras.Layer, inputs: list[_Map]) -> _Map:
    """Adds one backbone layer."""
    x = inputs[0]
    match layer:
        case Normalise():
            return _normalise(graph, layer, x)
        case LocalContrast():
            return _local_contrast(graph, layer, x)
        case layers.ZeroPadding2D():
            (top, bottom), (left, right) = layer.padding
            return replace(
                x,
                height=x.height + top + bottom,
                width=x.width + left + right,
                padding=(top, left, bottom, right),
            )
        case layers.Conv2D():
            return _convolution(graph, layer, x, layer.name, layer.name)
        # ONNX pads a maximum with -inf, which equals zeros only where nothing is negative.
        case layers.MaxPooling2D(padding="valid") if x.is_positive:
            side, stride = layer.pool_size, layer.strides
            sizes = {"kernel_shape": side, "strides": stride, "pads": x.padding}
            name = graph.node("MaxPool", layer.name, x.name, **sizes)
            height = (x.height - side[0]) // stride[0] + 1
            return _Map(name, x.channels, height, (x.width - side[1]) // stride[1] + 1)
        case _ if any(x.padding):
            pass
        case layers.BatchNormalization() | layers.GroupNormalization():
            return _normalisation(graph, layer, x, layer.name, layer.name)
        case layers.Activation(activation=keras.activations.relu):
            name = graph.node("Relu", layer.name, x.name)
            return _Map(name, x.channels, x.height, x.width, is_positive=True)
        case layers.Add():
            name = graph.node("Add", layer.name, *(value.name for value in inputs))
            return _Map(name, x.channels, x.height, x.width)
    raise TypeError(f"{layer.name}: a {type(layer).__name__} cannot be exported here")


def _normalise(graph: Graph, layer: Normalise, x: _Map) -> _Map:
    name, out = x.name, f"{PREPARING}{layer.name}"
    if layer.bgr:
        order = graph.constant("bgr", (2, 1, 0), np.int64)
        name = graph.node("Gather", f"{out}/bgr", name, order, axis=1)
    mean = graph.constant(f"{out}/mean", np.reshape(layer.mean, (1, 3, 1, 1)), np.float32)
    name = graph.node("Sub", f"{out}/centred", name, mean)
    scale = graph.constant(f"{out}/scale", layer.scale, np.float32)
    return replace(x, name=graph.node("Mul", out, name, scale))


def _local_contrast(graph: Graph, layer: LocalContrast, x: _Map) -> _Map:
    out = f"{PREPARING}{layer.name}"

    def mean(name: str, value: str) -> str:
        before, after = (layer.window - 1) // 2, layer.window // 2
        down = {"kernel_shape": (layer.window, 1), "pads": (before, 0, after, 0)}
        across = {"kernel_shape": (1, layer.window), "pads": (0, before, 0, after)}
        value = graph.node("AveragePool", f"{name}/down", value, count_include_pad=0, **down)
        return graph.node("AveragePool", name, value, count_include_pad=0, **across)

    deviation = graph.node("Sub", f"{out}/deviation", x.name, mean(f"{out}/mean", x.name))
    squared = graph.node("Mul", f"{out}/squared", deviation, deviation)
    tiny = graph.constant(f"{out}/tiny", 1e-8, np.float32)
    zero = graph.constant(f"{out}/zero", 0, np.float32)
    variance = graph.node("Max", f"{out}/clamped", mean(f"{out}/mean_square", squared), zero)
    variance = graph.node("Add", f"{out}/variance", variance, tiny)
    floor = graph.constant(f"{out}/floor", layer.floor, np.float32)
    spread = graph.node("Sqrt", f"{out}/spread", variance)
    spread = graph.node("Add", f"{out}/floored", spread, floor)
    contrast = graph.node("Div", f"{out}/contrast", deviation, spread)
    name = graph.node("Concat", out, x.name, contrast, axis=1)
    return replace(x, name=name, channels=2 * x.channels)


def _convolution(graph: Graph, layer: layers.Conv2D, x: _Map, name: str, stored: str) -> _Map:
    """Adds a convolution; `stored` names its weights, which the levels' calls of a head share."""
    kernel = _weights(layer.kernel).transpose(3, 2, 0, 1)
    stride, side = layer.strides, layer.kernel_size
    pads, shape = list(x.padding), []
    for axis, length in enumerate((x.height, x.width)):
        if layer.padding == "same":
            # TensorFlow puts the odd pixel of padding at the end.
            cells = -(-length // stride[axis])
            total = max((cells - 1) * stride[axis] + side[axis] - length, 0)
            pads[axis] += total // 2
            pads[axis + 2] += total - total // 2
        else:
            cells = (length - side[axis]) // stride[axis] + 1
        shape.append(cells)
    inputs = [x.name, graph.constant(f"{stored}/kernel", kernel, np.float32)]
    if layer.use_bias:
        inputs.append(graph.constant(f"{stored}/bias", _weights(layer.bias), np.float32))
    graph.node("Conv", name, *inputs, kernel_shape=side, strides=stride, pads=pads)
    return _Map(name, kernel.shape[0], *shape)


def _normalisation(graph: Graph, layer: keras.Layer, x: _Map, name: str, stored: str) -> _Map:
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


def _pyramid(graph: Graph, pyramid: FeaturePyramid, features: dict[str, _Map]) -> list[_Map]:
    """Adds the levels from P3 on."""

    def conv(layer: layers.Conv2D, x: _Map) -> _Map:
        name = f"pyramid/{layer.name}"
        return _convolution(graph, layer, x, name, name)

    p5 = conv(pyramid.laterals["P5"], features["P5"])
    p4 = _sum_repeated(graph, conv(pyramid.laterals["P4"], features["P4"]), p5, "pyramid/P4")
    p3 = _sum_repeated(graph, conv(pyramid.laterals["P3"], features["P3"]), p4, "pyramid/P3")
    fine = {"P3": p3, "P4": p4, "P5": p5}
    maps = [conv(output, fine[level]) for level, output in pyramid.outputs.items()]
    coarse = features["P5"]
    for level, downsample in pyramid.downsample.items():
        if level == "P7":
            coarse = replace(coarse, name=graph.node("Relu", "pyramid/P6_relu", coarse.name))
        coarse = conv(downsample, _padded(coarse))
        maps.append(coarse)
    return maps


def _padded(x: _Map) -> _Map:
    """One zero on each side, left to the convolution that comes next."""
    return replace(x, height=x.height + 2, width=x.width + 2, padding=(1, 1, 1, 1))


def _sum_repeated(graph: Graph, fine: _Map, coarse: _Map, name: str) -> _Map:
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


def _head(graph: Graph, head: PredictionHead, x: _Map, level: int, shape: tuple[int, ...]) -> str:
    """Adds a head on one level; its values are reshaped in the order of the anchors."""
    name = f"{head.name}/P{level + 3}"
    for index, conv in enumerate(head.hidden):
        part = f"conv_{index}"
        x = _convolution(graph, conv, x, f"{name}/{part}", f"{head.name}/{part}")
        norm = head.norm_after(index, level)
        if norm is not None:
            x = _normalisation(graph, norm, x, f"{name}/norm_{index}", f"{head.name}/{norm.name}")
        relu = graph.node("Relu", f"{name}/relu_{index}", x.name)
        x = _Map(relu, x.channels, x.height, x.width)
    x = _convolution(graph, head.prediction, x, f"{name}/prediction", f"{head.name}/prediction")
    last = graph.node("Transpose", f"{DECODING}{name}/last", x.name, perm=(0, 2, 3, 1))
    wanted = graph.constant(f"{DECODING}shape_{len(shape)}", shape, np.int64)
    return graph.node("Reshape", f"{DECODING}{name}", last, wanted)


def _weights(variable: Any) -> np.ndarray:
    values = np.asarray(variable).astype(np.float32)
    check_finite(weights=values)  # a ReLU of some runtimes makes 0 of NaN, and nothing would show
    return values
