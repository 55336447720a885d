"""Decoding and NMS against brute force and against TensorFlow's own NMS."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.models.anchors import AnchorSettings, anchor_boxes, level_lengths
from detection.models.decoding import LEVEL_TOP_K, decode, suppress
from detection.models.targets import encode_boxes
from inspection.data.boxes import box_iou
from inspection.finite import NotFinite

SIZE = 96
SETTINGS = AnchorSettings()
ANCHORS = anchor_boxes(SETTINGS, SIZE, SIZE)
LEVELS = level_lengths(SETTINGS, SIZE, SIZE)


def crowd(seed: int, count: int, classes: int = 3):
    """Boxes that overlap a lot, with scores that are often equal."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([start, start + rng.integers(5, 25, (count, 2))], axis=1)
    score = (rng.integers(1, 20, count) / 20).astype(np.float32)
    return boxes.astype(np.float32), score, rng.integers(0, classes, count)


def suppress_by_loop(boxes, score, label, iou, limit):
    """Greedy NMS as a textbook has it."""
    overlap = box_iou(boxes, boxes)
    kept: list[int] = []
    for index in sorted(range(len(score)), key=lambda i: (-score[i], i)):
        rivals = [other for other in kept if label[other] == label[index]]
        if all(overlap[index, other] <= iou for other in rivals):
            kept.append(index)
    return kept[:limit]


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 60),
    iou=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    limit=st.sampled_from([1, 5, 1000]),
)
@settings(max_examples=80)
def test_nms_equals_brute_force(seed, count, iou, limit):
    boxes, score, label = crowd(seed, count)
    found = suppress(boxes, score, label, iou, limit)
    assert found.tolist() == suppress_by_loop(boxes, score, label, iou, limit)


def test_nms_of_one_class_equals_tensorflow():
    tf = pytest.importorskip("tensorflow")
    for seed in range(5):
        boxes, score, _ = crowd(seed, 80)
        score = score + np.arange(80, dtype=np.float32) * 1e-4  # no ties: their order is free
        theirs = tf.image.non_max_suppression(boxes, score, 80, iou_threshold=0.5)
        found = suppress(boxes, score, np.zeros(80, int), 0.5, 80)
        assert found.tolist() == np.asarray(theirs).tolist()


def network_outputs(boxes, classes, probability, count=2):
    """Raw outputs in which one anchor for each box is sure of it and all others are not."""
    offsets = np.zeros((len(ANCHORS), 4), np.float32)
    logits = np.full((len(ANCHORS), count), -8, np.float32)
    taken: list[int] = []
    for box, label, chance in zip(np.asarray(boxes, np.float32), classes, probability, strict=True):
        iou = box_iou(ANCHORS, box[None])[:, 0]
        iou[taken] = -1
        best = int(iou.argmax())
        taken.append(best)
        offsets[best] = encode_boxes(ANCHORS[best : best + 1], box[None])[0]
        logits[best, label] = np.log(chance / (1 - chance))
    return offsets, logits


def decoded(offsets, logits, **options):
    return decode(offsets, logits, ANCHORS, LEVELS, (SIZE, SIZE), **options)


def test_boxes_come_back_best_first():
    truth = [[10, 10, 40, 40], [50, 20, 90, 35], [5, 60, 30, 95]]
    boxes, score, label = decoded(*network_outputs(truth, [0, 1, 0], [0.3, 0.9, 0.6]))
    np.testing.assert_allclose(boxes, np.array(truth)[[1, 2, 0]], atol=1e-3)
    np.testing.assert_allclose(score, [0.9, 0.6, 0.3], rtol=1e-5)
    assert label.tolist() == [1, 0, 0]
    assert (boxes.dtype, score.dtype) == (np.float32, np.float32)


def test_classes_do_not_suppress_each_other():
    same = [[10, 10, 40, 40]] * 3
    _, _, label = decoded(*network_outputs(same, [0, 1, 0], [0.3, 0.9, 0.6]))
    assert label.tolist() == [1, 0]


def test_one_anchor_may_speak_for_two_classes():
    offsets, logits = network_outputs([[10, 10, 40, 40]], [0], [0.9])
    logits[logits[:, 0] > 0, 1] = 1.0
    boxes, _, label = decoded(offsets, logits)
    assert label.tolist() == [0, 1]
    np.testing.assert_array_equal(boxes[0], boxes[1])


def test_low_scores_are_dropped_and_the_threshold_belongs_to_the_upper_side():
    outputs = network_outputs([[10, 10, 40, 40], [50, 50, 90, 90]], [0, 1], [0.049, 0.051])
    assert len(decoded(*outputs)[0]) == 1
    assert len(decoded(*outputs, min_score=0.01)[0]) == 2
    assert len(decoded(*outputs, min_score=0.5)[0]) == 0


@pytest.mark.parametrize("min_score", [0.0, 1.0])
def test_thresholds_at_the_ends(min_score):
    offsets, logits = network_outputs([[10, 10, 40, 40]], [0], [0.9])
    logits[0] = -800
    boxes, _, _ = decoded(offsets, logits, min_score=min_score, max_detections=50)
    assert len(boxes) == (0 if min_score else 50)


def test_nothing_found_has_the_right_shape():
    boxes, score, label = decoded(
        np.zeros((len(ANCHORS), 4), np.float32), np.full((len(ANCHORS), 2), -9, np.float32)
    )
    assert (boxes.shape, score.shape, label.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1], ids=["offsets", "logits"])
def test_what_is_no_finite_number_is_no_empty_image(value, which):
    outputs = network_outputs([[10, 10, 40, 40]], [0], [0.9])
    outputs[which][-1, -1] = value  # an anchor that finds nothing
    with pytest.raises(NotFinite, match=["offsets", "logits"][which]):
        decoded(*outputs)


def test_boxes_are_clipped_and_those_outside_vanish():
    truth = [[-20, -10, 40, 40], [96, 10, 130, 40], [50, 60, 120, 300]]
    boxes, _, _ = decoded(*network_outputs(truth, [0, 1, 0], [0.9, 0.8, 0.7]))
    np.testing.assert_allclose(boxes, [[0, 0, 40, 40], [50, 60, 96, 96]], atol=2e-3)


def test_at_most_the_best_detections_are_kept():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (len(ANCHORS), 2)).astype(np.float32)
    offsets = np.zeros((len(ANCHORS), 4), np.float32)
    every = decoded(offsets, logits, max_detections=10_000)
    few = decoded(offsets, logits, max_detections=7)
    assert len(few[0]) == 7
    for most, first in zip(every, few, strict=True):
        np.testing.assert_array_equal(most[:7], first)
    assert len(decoded(offsets, logits)[0]) == 100


def test_top_k_keeps_the_best_of_each_level():
    """A level with many weak candidates must not crowd out another level's few."""
    rng = np.random.default_rng(1)
    offsets = np.zeros((len(ANCHORS), 4), np.float32)
    logits = np.full((len(ANCHORS), 2), -9, np.float32)
    logits[: LEVELS[0]] = rng.permutation(LEVELS[0] * 2).reshape(-1, 2) / (LEVELS[0] * 2) + 1
    logits[sum(LEVELS[:2])] = 0.5  # the only one of the third level, and the weakest of all
    _, score, _ = decoded(offsets, logits, nms_iou=1.0, max_detections=10_000)
    first = np.sort(logits[: LEVELS[0]].ravel())[::-1][:LEVEL_TOP_K]
    expected = np.append(1 / (1 + np.exp(-first)), [1 / (1 + np.exp(-0.5))] * 2)
    np.testing.assert_allclose(score, expected, rtol=1e-5)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_any_output_gives_legal_boxes(seed):
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, rng.choice([1, 30, 1000]), (len(ANCHORS), 4)).astype(np.float32)
    logits = rng.normal(-1, 3, (len(ANCHORS), 2)).astype(np.float32)
    boxes, score, label = decoded(offsets, logits)
    assert (boxes >= 0).all()
    assert (boxes <= SIZE).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(score) <= 0).all()
    for index in range(2):
        same = boxes[label == index]
        overlap = box_iou(same, same) - np.eye(len(same))
        assert not len(same) or overlap.max() <= 0.5 + 1e-6
