"""Decoding and per-class NMS as ONNX nodes: what `models.decoding` does, inside the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from detection.export.onnx_nodes import Graph
from detection.models.decoding import LEVEL_TOP_K, MAX_DETECTIONS, MIN_SCORE, NMS_IOU
from detection.models.targets import _VARIANCE as VARIANCE

DECODING = "decoding/"
"""Names of all nodes behind the network start so; they stay in float32 when quantised."""
_MAX_GROWTH = np.log(1000 / 16)  # as in detection.models.targets.decode_boxes


def add_decoding(
    graph: Graph,
    offsets: list[str],
    logits: list[str],
    anchors: np.ndarray,
    lengths: tuple[int, ...],
    classes: int,
    size: int,
) -> None:
    """Adds everything behind the heads, up to `boxes`, `scores` and `labels`.

    Args:
        graph: Where the nodes go.
        offsets: Name of the box head's output (L, 4) of each level.
        logits: Name of the classification head's output (L * C,) of each level.
        anchors: (A, 4) xyxy in pixels.
        lengths: Anchors per level, L.
        classes: Number of classes, C.
        size: Side of the fitted image in pixels, to which boxes are clipped.
    """
    every = graph.node("Concat", f"{DECODING}offsets", *offsets, axis=0)
    broken = _broken(graph, every, logits)
    place, logit = _candidates(graph, logits, lengths, classes)
    boxes, score, label = _decoded(graph, every, place, logit, anchors, classes, size)
    _suppressed(graph, boxes, score, label, classes, broken, size)


def _broken(graph: Graph, offsets: str, logits: list[str]) -> str:
    """One zero where an offset or a logit is no finite number, else nothing: (0 or 1,) int64."""

    def node(kind: str, name: str, *inputs: str, **attributes: Any) -> Any:
        return graph.node(kind, f"{DECODING}{name}", *inputs, **attributes)

    whole = graph.constant(f"{DECODING}whole", (-1,), np.int64)
    flat = node("Reshape", "flat_offsets", offsets, whole)
    values = node("Concat", "all_values", flat, *logits, axis=0)
    # Neither NaN nor infinity lies within what float32 can hold.
    most = graph.constant(f"{DECODING}most", np.finfo(np.float32).max, np.float32)
    finite = node("LessOrEqual", "is_finite", node("Abs", "sizes", values), most)
    finite = node("Cast", "finite", finite, to=1)
    least = node("ReduceMin", "least_finite", finite, axes=[0], keepdims=1)
    half = graph.constant(f"{DECODING}one_half", 0.5, np.float32)
    place = node("NonZero", "broken_1", node("Less", "is_broken", least, half))
    return node("Reshape", "broken", place, whole)


def _candidates(
    graph: Graph, logits: list[str], lengths: tuple[int, ...], classes: int
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
    graph: Graph,
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
    least = node(
        "ReduceMin", "least_side", node("Sub", "sides_left", high, low), axes=[1], keepdims=0
    )
    real = node("GreaterOrEqual", "real", least, constant("least", 1e-3))
    threshold = constant("threshold", np.log(MIN_SCORE / (1 - MIN_SCORE)))
    passed = node("And", "kept", real, node("GreaterOrEqual", "passed", logit, threshold))
    score = node("Where", "score", passed, node("Sigmoid", "sigmoid", logit), constant("zero", 0.0))
    return boxes, score, label


def _suppressed(
    graph: Graph, boxes: str, score: str, label: str, classes: int, broken: str, size: int
) -> None:
    """Per-class NMS over all candidates and the best `MAX_DETECTIONS` of what it leaves.

    Where the network gave no finite numbers, a box of the whole image with an infinite score
    comes first: whoever reads the outputs without a check still rejects the part.
    """

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
    everywhere = constant("everywhere", [[0, 0, size, size]], np.float32)
    endless = constant("endless", [np.inf], np.float32)
    of_rest = (
        ("boxes", everywhere, node("Gather", "kept_boxes", boxes, index, axis=0)),
        ("scores", endless, node("Gather", "kept_scores", best, there, axis=0)),
        ("labels", first, node("Gather", "kept_labels", label, index, axis=0)),
    )
    for name, reject, rest in of_rest:
        reject = node("Gather", f"reject_{name}", reject, broken, axis=0)
        graph.node("Concat", name, reject, rest, axis=0)
