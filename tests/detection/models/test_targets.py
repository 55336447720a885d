"""Targets against a plain loop, against KerasCV's encoding, and with awkward boxes."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.targets import make_targets_plainly, match_plainly, random_boxes
from detection.models.anchors import AnchorGrid, AnchorSettings
from detection.models.targets import (
    BACKGROUND,
    IGNORED,
    decode_boxes,
    encode_boxes,
    make_targets,
    match_anchors,
)
from inspection.data.boxes import box_iou

SIZE = 64
GRID = AnchorGrid(AnchorSettings(), SIZE, SIZE)
ANCHORS = GRID.boxes
SETTINGS = {
    "paper": AnchorSettings(),
    "many": AnchorSettings((21.5, 43.0, 86.0, 172.0, 344.0), (1.0, 1.4), (0.31, 1.0, 1.7, 4.0)),
    "large": AnchorSettings((64.0, 128.0, 256.0, 512.0, 1024.0), (1.0, 2.8), (0.1, 1.0, 10.0)),
    "gaps": AnchorSettings((3.0, 6.0, 12.0, 24.0, 48.0)),  # between anchors, not only beside
}
VARIANCE = [0.1, 0.1, 0.2, 0.2]

coordinate = st.floats(0, SIZE, width=32)
side = st.floats(0.25, SIZE, width=32)


@st.composite
def some_boxes(draw, max_size: int = 12):
    """Boxes from a quarter pixel to the whole image, some of them repeated or shifted a little."""
    boxes: list[tuple[float, ...]] = []
    for _ in range(draw(st.integers(1, max_size))):
        if boxes and draw(st.integers(0, 3)) == 0:
            shift = draw(st.sampled_from([0.0, 0.0, 0.5, 3.0]))
            x1, y1, x2, y2 = draw(st.sampled_from(boxes))
            boxes.append((x1 + shift, y1, x2 + shift, y2))
            continue
        x, y = draw(coordinate), draw(coordinate)
        boxes.append((x, y, x + draw(side), y + draw(side)))
    return np.array(boxes, np.float32)


def match_by_loop(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The paper's assignment, one anchor after another, without forced matches."""
    result = np.full(len(anchors), BACKGROUND)
    for row, anchor in enumerate(anchors.astype(np.float64)):
        best, best_iou = BACKGROUND, 0.0
        for index, box in enumerate(boxes.astype(np.float64)):
            width = max(0.0, min(anchor[2], box[2]) - max(anchor[0], box[0]))
            height = max(0.0, min(anchor[3], box[3]) - max(anchor[1], box[1]))
            union = (
                (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])
                + (box[2] - box[0]) * (box[3] - box[1])
                - width * height
            )
            if width * height / union > best_iou:
                best, best_iou = index, width * height / union
        if best_iou >= 0.5:
            result[row] = best
        elif best_iou >= 0.4:
            result[row] = IGNORED
    return result


@given(boxes=some_boxes())
@settings(max_examples=150)
def test_every_box_is_matched(boxes):
    match = match_anchors(GRID, boxes)
    assert match.shape == (len(ANCHORS),)
    assert match.dtype == np.int32
    assert set(range(len(boxes))) <= set(match.tolist())
    assert match.min() >= IGNORED
    assert match.max() < len(boxes)


def test_more_boxes_in_one_place_than_anchors_near_it():
    """200 labels on one spot: an image of a scratch field, or a labelling accident."""
    boxes = np.tile(np.array([[30, 30, 33, 33]], np.float32), (200, 1))
    match = match_anchors(GRID, boxes)
    assert set(range(200)) <= set(match.tolist())
    offset, _ = make_targets(GRID, boxes, np.zeros(200, int))
    assert np.isfinite(offset).all()


def test_no_boxes_means_background():
    match = match_anchors(GRID, np.zeros((0, 4), np.float32))
    assert (match == BACKGROUND).all()
    offsets, labels = make_targets(GRID, np.zeros((0, 4), np.float32), np.zeros(0, int))
    assert (labels == BACKGROUND).all()
    assert not offsets.any()
    assert (offsets.dtype, labels.dtype) == (np.float32, np.int32)


def test_matches_equal_the_loop_where_none_is_forced():
    """Each box stands on an anchor, so its best anchor is above the threshold anyway."""
    rng = np.random.default_rng(5)
    small = ANCHORS[(ANCHORS >= 0).all(axis=1) & (ANCHORS <= SIZE).all(axis=1)]
    for count in (1, 2, 3, 4):
        boxes = small[rng.choice(len(small), count, replace=False)] + np.float32(0.3)
        np.testing.assert_array_equal(match_anchors(GRID, boxes), match_by_loop(ANCHORS, boxes))


@given(boxes=some_boxes(max_size=5))
@settings(max_examples=25)
def test_only_needed_matches_are_forced(boxes):
    """What no box is short of anchors for stays as the paper has it.

    An anchor differs from the plain assignment only if it is (nearly) the best one of the box
    that got it, or if that box had none left.
    """
    plain = match_by_loop(ANCHORS, boxes)
    match = match_anchors(GRID, boxes)
    iou = box_iou(ANCHORS, boxes)
    for row in np.flatnonzero(plain != match):
        index = match[row]
        assert index >= 0
        is_best = iou[row, index] >= iou[:, index].max() - 2e-6
        assert is_best or (match == index).sum() == 1


def test_a_small_box_does_not_take_the_anchors_of_a_large_one():
    """A pinhole on a large defect: all anchors that hold the pinhole tie for it.

    It needs one of them. The large defect must keep the anchors that fit it well.
    """
    grid = AnchorGrid(AnchorSettings(), 256, 256)
    large = np.array([[100, 100, 132, 132]], np.float32)
    both = np.concatenate([large, [[114, 114, 118, 118]]]).astype(np.float32)
    alone = match_anchors(grid, large) == 0
    kept = match_anchors(grid, both) == 0
    fits_well = alone & (box_iou(grid.boxes, large)[:, 0] >= 0.5)
    assert (kept & fits_well).sum() >= 0.9 * fits_well.sum()


def squares(side: float) -> AnchorGrid:
    """One square anchor every 8 pixels; those of higher levels are out of reach of any box."""
    return AnchorGrid(AnchorSettings((side, 4096, 4096, 4096, 4096), (1.0,), (1.0,)), SIZE, SIZE)


@pytest.mark.parametrize(("side", "shift", "expected"), [(24, 0, 0), (28, -4, IGNORED)])
def test_thresholds_belong_to_the_upper_class(side, shift, expected):
    """An anchor 8 px beside one of 24 px overlaps it at .5; one of 28 px, 12 px off, at .4."""
    grid = squares(side)
    box = grid.boxes[[27]] + np.float32([shift, 0, shift, 0])
    beside = box_iou(grid.boxes, box)[28, 0]
    assert beside == (0.4 if shift else 0.5)
    match = match_anchors(grid, box)
    assert match[27] == 0
    assert match[28] == expected
    assert match_anchors(grid, box, positive_iou=beside + 1e-9)[28] == IGNORED
    assert match_anchors(grid, box, negative_iou=np.nextafter(beside, 1))[28] != IGNORED


def test_equal_best_anchors_are_all_taken():
    """As in Faster R-CNN: each of the anchors with the highest overlap."""
    grid = squares(8)
    edge = grid.boxes[27]
    box = np.array([[edge[2] - 2, edge[1] + 2, edge[2] + 2, edge[1] + 6]])
    assert np.flatnonzero(match_anchors(grid, box) == 0).tolist() == [27, 28]


@pytest.mark.parametrize("name", SETTINGS)
@given(
    boxes=some_boxes(),
    ignored=some_boxes(max_size=2),
    whole=st.booleans(),
    extra=st.tuples(st.integers(0, 70), st.integers(0, 70)),
)
@settings(max_examples=60)
def test_targets_equal_those_from_a_table_of_all_ious(name, boxes, ignored, whole, extra):
    """Ties, forced matches, shared best anchors, boxes of a quarter pixel: the same anchors."""
    if whole:
        boxes = np.concatenate([np.floor(boxes[:, :2]), np.floor(boxes[:, 2:]) + 1], axis=1)
    grid = AnchorGrid(SETTINGS[name], SIZE + extra[0], SIZE + extra[1])
    np.testing.assert_array_equal(match_anchors(grid, boxes), match_plainly(grid.boxes, boxes))
    classes = np.arange(len(boxes)) % 3
    expected = make_targets_plainly(grid.boxes, boxes, classes, ignored[1:])
    for found, plain in zip(make_targets(grid, boxes, classes, ignored[1:]), expected, strict=True):
        np.testing.assert_array_equal(found, plain)
        assert found.dtype == plain.dtype


@pytest.mark.parametrize(("low", "high"), [(0.05, 4), (8, 60), (60, 400)])
def test_targets_of_many_boxes_equal_those_from_a_table(low, high):
    grid = AnchorGrid(AnchorSettings(), 400, 400)
    rng = np.random.default_rng(1)
    side = rng.uniform(low, high, (60, 2))
    corner = rng.uniform(0, 400 - side)
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    np.testing.assert_array_equal(match_anchors(grid, boxes), match_plainly(grid.boxes, boxes))


def test_targets_of_a_whole_image_take_little_time_and_memory():
    """A table of all IoUs takes 150 MB at 20 boxes; its time is measured by a benchmark."""
    grid = AnchorGrid(AnchorSettings(), 900, 900)
    boxes = random_boxes(200, 900, seed=0)
    make_targets(grid, boxes, np.zeros(200, int))
    tracemalloc.start()
    make_targets(grid, boxes, np.zeros(200, int))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    began = time.process_time()
    for seed in range(10):
        make_targets(grid, random_boxes(20, 900, seed), np.zeros(20, int))
    assert time.process_time() - began < 1  # 10 images in .02 s here; a table takes 5 s


def test_offsets_are_written_where_they_are_wanted():
    batch = np.zeros((2, len(ANCHORS), 4), np.float32)
    boxes = np.array([[2, 2, 34, 34]], np.float32)
    offsets, _ = make_targets(GRID, boxes, np.array([0]), offsets=batch[1])
    assert np.shares_memory(offsets, batch)
    np.testing.assert_array_equal(batch[1], make_targets(GRID, boxes, np.array([0]))[0])
    assert not batch[0].any()


@given(boxes=some_boxes(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_decode_undoes_encode(boxes, seed):
    chosen = np.random.default_rng(seed).choice(len(ANCHORS), len(boxes))
    # At float32 a box far from a large anchor is known to a fraction of that anchor.
    anchors = ANCHORS[chosen]
    decoded = decode_boxes(anchors, encode_boxes(anchors, boxes))
    tolerance = 1e-5 * (np.abs(anchors).max(axis=1) + np.abs(boxes).max(axis=1)) + 1e-5
    assert decoded.dtype == np.float32
    assert (np.abs(decoded - boxes).max(axis=1) <= tolerance).all()


@given(boxes=some_boxes(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_encoding_equals_keras_cv(boxes, seed):
    from keras_cv.src.bounding_box.converters import _decode_deltas_to_boxes, _encode_box_to_deltas

    anchors = ANCHORS[np.random.default_rng(seed).choice(len(ANCHORS), len(boxes))]
    ours = encode_boxes(anchors, boxes)
    form = {"anchor_format": "xyxy", "box_format": "xyxy", "variance": VARIANCE}
    theirs = np.asarray(_encode_box_to_deltas(anchors, boxes, **form))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)
    read = np.asarray(_decode_deltas_to_boxes(anchors, ours, **form))
    np.testing.assert_allclose(read, decode_boxes(anchors, ours), rtol=1e-4, atol=1e-3)


def test_decoding_wild_offsets_stays_finite():
    decoded = decode_boxes(ANCHORS[:4], np.full((4, 4), 1e3, np.float32))
    assert np.isfinite(decoded).all()


def test_targets_hold_class_and_offsets_of_the_matched_box():
    boxes = np.array([[2, 2, 34, 34], [40, 40, 60, 58]], np.float32)
    offsets, labels = make_targets(GRID, boxes, np.array([4, 2]))
    match = match_anchors(GRID, boxes)
    assert set(labels[match == 0]) == {4}
    assert set(labels[match == 1]) == {2}
    assert (labels[match < 0] == match[match < 0]).all()
    assert not offsets[match < 0].any()
    positive = match >= 0
    read = decode_boxes(ANCHORS[positive], offsets[positive])
    np.testing.assert_allclose(read, boxes[match[positive]], atol=1e-3)


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.array([[4, 4, 24, 24]])])
def test_ignored_boxes_quieten_background_only(boxes):
    boxes = boxes.astype(np.float32)
    cut = np.array([[2, 2, 30, 30], [50, 50, 64, 64]], np.float32)
    plain = make_targets(GRID, boxes, np.zeros(len(boxes), int))
    quiet = make_targets(GRID, boxes, np.zeros(len(boxes), int), cut)
    np.testing.assert_array_equal(plain[0], quiet[0])
    changed = plain[1] != quiet[1]
    assert changed.any()
    assert (plain[1][changed] == BACKGROUND).all()
    assert (quiet[1][changed] == IGNORED).all()
    untouched = box_iou(ANCHORS, cut).max(axis=1) == 0
    assert not changed[untouched].any()
    # What fits the cut box well must not be taught as background.
    assert (quiet[1][box_iou(ANCHORS, cut).max(axis=1) >= 0.5] != BACKGROUND).all()


@given(boxes=some_boxes(max_size=6))
@settings(max_examples=40)
def test_targets_are_always_finite(boxes):
    offsets, labels = make_targets(GRID, boxes, np.arange(len(boxes)))
    assert np.isfinite(offsets).all()
    assert set(np.arange(len(boxes))) <= set(labels.tolist())
