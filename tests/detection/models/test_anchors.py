"""Anchors against KerasCV's generator, and what they can reach against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detection.models.anchors import (
    STRIDES,
    AnchorSettings,
    anchor_boxes,
    best_ious,
    best_possible_recall,
    fit_anchors,
    level_lengths,
    without_idle_levels,
)
from inspection.data.boxes import box_iou

FITTED = AnchorSettings((21.5, 43.0, 86.0, 172.0, 344.0), (1.0, 1.4), (0.31, 1.0, 1.7, 4.0))
AS_KERAS_CV = replace(FITTED, aligned=False)

sides = st.floats(0.2, 400)


@st.composite
def boxes_in(draw, size: int, max_size: int = 6):
    """(N, 4) float32 boxes of any shape inside a square image."""
    boxes = []
    for _ in range(draw(st.integers(1, max_size))):
        width, height = (min(draw(sides), size) for _ in range(2))
        x = draw(st.floats(0, 1)) * (size - width)
        y = draw(st.floats(0, 1)) * (size - height)
        boxes.append((x, y, x + width, y + height))
    return np.array(boxes, np.float32)


def keras_cv_anchors(anchors: AnchorSettings, height: int, width: int) -> np.ndarray:
    import keras_cv

    generator = keras_cv.layers.AnchorGenerator(
        bounding_box_format="xyxy",
        sizes=list(anchors.sizes),
        scales=list(anchors.scales),
        aspect_ratios=list(anchors.ratios),
        strides=list(STRIDES),
        clip_boxes=False,
    )
    levels = generator(image_shape=(height, width, 3))
    return np.concatenate([np.asarray(levels[key]) for key in sorted(levels)])


@pytest.mark.parametrize(("height", "width"), [(900, 900), (901, 777), (64, 131), (8, 8), (129, 1)])
@pytest.mark.parametrize(
    "anchors", [AnchorSettings(aligned=False), AS_KERAS_CV], ids=["default", "fitted"]
)
def test_anchors_equal_keras_cv(anchors, height, width):
    ours = anchor_boxes(anchors, height, width)
    theirs = keras_cv_anchors(anchors, height, width)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("height", "width"), [(900, 900), (64, 131)])
def test_aligned_anchors_are_the_same_shapes_at_other_places(height, width):
    moved = anchor_boxes(FITTED, height, width) - anchor_boxes(AS_KERAS_CV, height, width)
    start = 0
    for stride, length in zip(STRIDES, level_lengths(FITTED, height, width), strict=True):
        np.testing.assert_allclose(moved[start : start + length], 0.5 - stride / 2, atol=1e-3)
        start += length


def test_levels_that_no_box_needs_are_left_out():
    """On windows they learn silence from padding alone, and cry out on whole images."""
    anchors = AnchorSettings()

    def levels(*boxes) -> int:
        found = without_idle_levels(anchors, np.array(boxes, np.float32), 160, 160)
        assert found.sizes == anchors.sizes[: len(found.sizes)]
        return len(found.sizes)

    assert levels([64, 64, 96, 96]) == 1
    assert levels([64, 64, 96, 96], [20, 20, 84, 84]) == 2
    assert levels([10, 10, 140, 140]) == 3
    # Learnt by force, from the best anchor at IoU .27.
    assert (
        levels([40, 60, 150, 70])
        == int(
            np.argmax(
                [
                    best_ious(
                        replace(anchors, sizes=anchors.sizes[: n + 1]),
                        np.array([[40, 60, 150, 70]]),
                        160,
                        160,
                    )[0]
                    for n in range(5)
                ]
            )
        )
        + 1
    )
    assert without_idle_levels(anchors, np.zeros((0, 4)), 160, 160) == anchors


def test_settings_survive_a_round_trip():
    for anchors in (FITTED, AS_KERAS_CV):
        assert AnchorSettings.from_dict(anchors.to_dict()) == anchors


def test_number_of_anchors_at_900():
    assert len(anchor_boxes(AnchorSettings(), 900, 900)) == 154_332


@given(height=st.integers(1, 300), width=st.integers(1, 300))
@settings(max_examples=25)
def test_level_lengths_add_up(height, width):
    for anchors in (AnchorSettings(), FITTED):
        lengths = level_lengths(anchors, height, width)
        assert len(lengths) == len(STRIDES)
        assert sum(lengths) == len(anchor_boxes(anchors, height, width))


def test_levels_hold_anchors_of_their_own_size():
    """An order that mixed levels would still add up."""
    anchors = AnchorSettings()
    boxes = anchor_boxes(anchors, 200, 300).astype(np.float64)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    start = 0
    for length, size in zip(level_lengths(anchors, 200, 300), anchors.sizes, strict=True):
        found = np.sqrt(area[start : start + length])
        assert found.min() == pytest.approx(size, rel=1e-4)
        assert found.max() == pytest.approx(size * 2 ** (2 / 3), rel=1e-4)
        start += length


def test_shared_anchors_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        anchor_boxes(AnchorSettings(), 64, 64)[0] = 0


def test_settings_survive_json():
    import json

    for anchors in (AnchorSettings(), FITTED):
        assert AnchorSettings.from_dict(json.loads(json.dumps(anchors.to_dict()))) == anchors


@given(boxes=boxes_in(333), fitted=st.booleans())
@settings(max_examples=60)
def test_best_ious_equal_brute_force(boxes, fitted):
    anchors = FITTED if fitted else AnchorSettings()
    expected = box_iou(anchor_boxes(anchors, 333, 333), boxes).max(axis=0)
    found = best_ious(anchors, boxes, 333, 333)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@given(boxes=boxes_in(150))
@settings(max_examples=30)
def test_best_ious_equal_brute_force_where_the_image_is_wide(boxes):
    expected = box_iou(anchor_boxes(AnchorSettings(), 150, 321), boxes).max(axis=0)
    found = best_ious(AnchorSettings(), boxes, 150, 321)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_box_equal_to_an_anchor_is_reached_exactly():
    inside = anchor_boxes(AnchorSettings(), 900, 900)[[40_000, 100_000, 140_000]]
    np.testing.assert_allclose(best_ious(AnchorSettings(), inside, 900, 900), 1, atol=1e-5)


def test_recall_counts_the_threshold_itself():
    assert best_possible_recall(np.array([0.5, 0.49, 0.9, 0.1])) == 0.5
    assert best_possible_recall(np.array([0.3]), threshold=0.2) == 1
    assert np.isnan(best_possible_recall(np.zeros(0)))


def reach(anchors: AnchorSettings, boxes: np.ndarray, size: int) -> float:
    """What a fit maximises: recall at IoU .5 plus mean IoU."""
    ious = best_ious(anchors, boxes, size, size)
    return float(ious.mean()) + float((ious >= 0.5).mean())


def mean_reach(anchors: AnchorSettings, boxes: np.ndarray, size: int) -> float:
    return float(best_ious(anchors, boxes, size, size).mean())


@given(boxes=boxes_in(256, max_size=4))
@example(boxes=np.array([[3, 0, 256, 207], [0, 0, 129, 129], [0, 0, 32, 1]], np.float32))
@settings(max_examples=6)
def test_fit_is_never_worse_than_the_default(boxes):
    fitted = fit_anchors(boxes, 256, 256)
    assert reach(fitted, boxes, 256) >= reach(AnchorSettings(), boxes, 256)


def test_fit_finds_anchors_for_small_and_for_long_boxes():
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 850, (600, 2))
    small = np.concatenate([start, start + rng.uniform(10, 18, (600, 2))], axis=1)
    long = np.concatenate([start * [0.7, 1], start * [0.7, 1] + [240, 30]], axis=1)
    for boxes, recall in ((small, 0.78), (long, 1.0)):  # every 8th pixel reaches no more
        fitted = fit_anchors(boxes, 900, 900)
        assert mean_reach(fitted, boxes, 900) > mean_reach(AnchorSettings(), boxes, 900) + 0.1
        assert best_possible_recall(best_ious(fitted, boxes, 900, 900)) >= recall


def test_fit_without_labels_is_the_default():
    assert fit_anchors(np.zeros((0, 4)), 900, 900) == AnchorSettings()


@pytest.mark.slow
def test_fit_can_be_repeated_on_many_boxes():
    rng = np.random.default_rng(1)
    start = rng.uniform(0, 200, (3100, 2))
    boxes = np.concatenate([start, start + rng.uniform(9, 50, (3100, 2))], axis=1)
    first = fit_anchors(boxes, 256, 256)
    assert first == fit_anchors(boxes, 256, 256)
    assert len(first.sizes) == len(STRIDES)
    assert first.per_location == 9
