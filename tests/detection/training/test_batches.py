"""Batches: windows hold what their boxes say, and a position decides everything in them."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.data.dataset import open_dataset
from detection.models.anchors import AnchorSettings, anchor_boxes
from detection.models.targets import decode_boxes
from detection.training.augment import Sample
from detection.training.batches import Batches, FittedImages, Window, cut_window, plan_windows
from inspection.data.boxes import ImageLabels, box_iou
from inspection.data.images import write_image
from inspection.errors import InputError
from inspection.training.prefetch import ahead
from tests.conftest import CLASSES


def fitted_images(small_set, size=96, **options) -> FittedImages:
    dataset = open_dataset(
        small_set.annotations, small_set.images, small_set.snapshots, say=lambda text: None
    )
    return FittedImages(dataset.part("train"), small_set.images, CLASSES, size, **options)


def make_batches(small_set, **options) -> Batches:
    options = {"batch_size": 3, "seed": 7} | options
    return Batches(fitted_images(small_set), AnchorSettings(), **options)


def assert_same(first, second):
    assert first.names == second.names
    np.testing.assert_array_equal(first.images, second.images)
    for key in first.targets:
        np.testing.assert_array_equal(first.targets[key], second.targets[key])


# --- reading -----------------------------------------------------------------------------------


def test_images_of_any_size_are_fitted_with_their_boxes(tmp_path):
    image = np.full((80, 160, 3), 50, np.uint8)
    image[20:40, 100:150] = 250
    write_image(tmp_path / "넓은.png", image)
    labels = [ImageLabels("넓은.png", [[100, 20, 150, 40]], ("긁힘",))]
    sample = FittedImages(labels, tmp_path, CLASSES, 64)[0]
    assert sample.image.shape == (64, 64, 3)
    np.testing.assert_allclose(sample.boxes, [[40, 24, 60, 32]])
    assert sample.classes.tolist() == [1]
    bright = np.argwhere(sample.image[..., 0] > 200)
    assert bright.min(axis=0).tolist() == [24, 40]
    assert (bright.max(axis=0) + 1).tolist() == [32, 60]


def test_cache_stays_within_its_bound_and_changes_nothing(small_set):
    none, some = fitted_images(small_set, cache_bytes=0), fitted_images(small_set)
    for index in range(len(none)):
        np.testing.assert_array_equal(none[index].image, some[index].image)
    assert some[0] is some[0]
    assert none[0] is not none[0]


def test_a_difficult_box_is_neither_learnt_nor_held_against_the_model(tmp_path):
    """An evaluation ignores it; learning it as a defect would contradict that."""
    write_image(tmp_path / "a.png", np.full((96, 96, 3), 50, np.uint8))
    boxes = [[10, 10, 40, 40], [50, 50, 80, 80]]
    labels = [ImageLabels("a.png", boxes, (CLASSES[0],) * 2, [True, False])]
    images = FittedImages(labels, tmp_path, CLASSES, 96)
    assert images[0].classes.tolist() == [-1, 0]
    assert {window.box for window in plan_windows(images, 64)} == {-1, 1}
    batch = Batches(images, AnchorSettings(), 1, augment="none")[0]
    label, anchors = batch.targets["classification"][0], anchor_boxes(AnchorSettings(), 96, 96)
    iou = box_iou(anchors, np.array(boxes, np.float32))
    assert (label[iou[:, 0] > 0.5] < -1).all()
    assert (label[iou[:, 1] > 0.5] == 0).all()


# --- windows -----------------------------------------------------------------------------------


@st.composite
def pictures(draw):
    """An image of side 60 to 120 with up to three boxes in it, and a window's side."""
    size = draw(st.integers(60, 120))
    boxes = []
    for _ in range(draw(st.integers(0, 3))):
        width, height = draw(st.floats(1, size)), draw(st.floats(1, size))
        x, y = draw(st.floats(0, 1)) * (size - width), draw(st.floats(0, 1)) * (size - height)
        boxes.append((x, y, x + width, y + height))
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    image = np.concatenate([grid, np.zeros((size, size, 1), int)], axis=-1).astype(np.uint8)
    crop = draw(st.integers(16, size))
    box = draw(st.integers(-1, len(boxes) - 1))
    return Sample(image, boxes, np.arange(len(boxes))), box, crop, draw(st.integers(0, 2**32 - 1))


@given(picture=pictures())
@settings(max_examples=200)
def test_windows_lie_inside_and_their_boxes_stand_right(picture):
    sample, chosen, crop, seed = picture
    window = cut_window(sample, chosen, crop, np.random.default_rng(seed))
    assert window.image.shape == (crop, crop, 3)
    # Each pixel of the image holds its own place.
    left, top = (int(value) for value in window.image[0, 0, :2])
    np.testing.assert_array_equal(window.image, sample.image[top : top + crop, left : left + crop])
    assert (window.boxes >= 0).all()
    assert (window.boxes <= crop).all()
    assert (window.boxes[:, 2:] > window.boxes[:, :2]).all()
    shift = np.array([left, top, left, top])
    for index, box in enumerate(sample.boxes):
        part = np.clip(box - shift, 0, crop)
        shown = (part[2:] - part[:2]).prod() / (box[2:] - box[:2]).prod()
        same = [i for i, other in enumerate(window.boxes) if np.allclose(other, part, atol=1e-4)]
        if shown >= 0.51 and (part[2:] - part[:2] >= 1).all():
            assert index in window.classes[same]
        elif shown < 0.49:
            assert index not in window.classes


@given(picture=pictures())
@settings(max_examples=100)
def test_the_box_that_a_window_is_for_is_whole_where_it_fits(picture):
    sample, chosen, crop, seed = picture
    if chosen < 0:
        return
    window = cut_window(sample, chosen, crop, np.random.default_rng(seed))
    box = sample.boxes[chosen]
    if (np.ceil(box[2:]) - np.floor(box[:2]) <= crop).all():
        at = np.flatnonzero(window.classes == chosen)
        assert len(at) == 1
        np.testing.assert_allclose(
            window.boxes[at[0], 2:] - window.boxes[at[0], :2], box[2:] - box[:2], atol=1e-3
        )


def test_a_pixel_wide_box_is_not_lost_to_rounding():
    box = np.array([[0, 3.6662095, 1, 4.666209]], np.float32)
    sample = Sample(np.zeros((96, 96, 3), np.uint8), box, np.array([0]))
    assert len(cut_window(sample, 0, 16, np.random.default_rng(0)).boxes) == 1


def test_windows_around_a_box_differ():
    sample = Sample(
        np.zeros((96, 96, 3), np.uint8), np.array([[40, 40, 60, 60]], np.float32), np.array([0])
    )
    seen = {
        tuple(cut_window(sample, 0, 48, np.random.default_rng(seed)).boxes[0].tolist())
        for seed in range(30)
    }
    assert len(seen) > 15


def test_plan_shows_every_box_and_every_image(small_set):
    images = fitted_images(small_set)
    whole = plan_windows(images, None)
    assert sorted(window.image for window in whole) == list(range(len(images)))
    windows = plan_windows(images, 48)
    around = {(window.image, window.box) for window in windows if window.box >= 0}
    assert around == {
        (index, box)
        for index, labels in enumerate(images.labels)
        for box in range(len(labels.xyxy))
    }
    # Also normal images are looked at.
    assert {window.image for window in windows if window.box < 0} == set(range(len(images)))


def test_plan_shows_as_much_background_as_asked(small_set):
    images = fitted_images(small_set)
    around = sum(len(labels.xyxy) for labels in images.labels)
    windows = plan_windows(images, 48, 5.0)
    assert sum(window.box < 0 for window in windows) == 5 * around
    shown = [window.image for window in windows if window.box < 0]
    assert max(map(shown.count, shown)) - min(map(shown.count, shown)) <= 1
    assert len(make_batches(small_set, crop=48, background=5.0).windows) == 6 * around


def test_plan_for_normal_images_only(tmp_path):
    images = FittedImages([ImageLabels("a.png", [], ())], tmp_path, CLASSES, 96)
    assert plan_windows(images, 48) == [Window(0, -1)]


# --- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", ["none", "basic", "heavy"])
@pytest.mark.parametrize("crop", [None, 64])
def test_a_position_decides_whatever_came_before(small_set, augment, crop):
    first = make_batches(small_set, augment=augment, crop=crop)
    forward = [first[step] for step in range(6)]
    second = make_batches(small_set, augment=augment, crop=crop)
    for step in (5, 0, 3, 5, 1):
        assert_same(second[step], forward[step])


def test_another_seed_gives_other_batches(small_set):
    first, second = make_batches(small_set), make_batches(small_set, seed=8)
    assert any(first[step].names != second[step].names for step in range(3))


@pytest.mark.parametrize("crop", [None, 64])
def test_each_turn_shows_every_window_once(small_set, crop):
    batches = make_batches(small_set, batch_size=1, crop=crop, augment="none")
    count = len(batches.windows)
    assert batches.steps == count
    turns = [
        [batches[step].names[0] for step in range(turn * count, (turn + 1) * count)]
        for turn in range(2)
    ]
    expected = sorted(batches.images.labels[window.image].image for window in batches.windows)
    assert sorted(turns[0]) == sorted(turns[1]) == expected
    assert turns[0] != turns[1]


def test_steps_round_up(small_set):
    assert make_batches(small_set, batch_size=3).steps == 3  # 8 images
    assert make_batches(small_set, batch_size=8).steps == 1


@pytest.mark.parametrize("crop", [None, 64])
@pytest.mark.parametrize("augment", ["none", "basic", "heavy"])
def test_batches_hold_what_training_needs(small_set, crop, augment):
    batches = make_batches(small_set, crop=crop, augment=augment)
    side = crop or 96
    anchors = anchor_boxes(AnchorSettings(), side, side)
    positives = 0
    for step in range(4):
        batch = batches[step]
        assert batch.images.shape == (3, side, side, 3)
        assert batch.images.dtype == np.float32
        assert batch.images.max() > 1.5  # RGB 0-255, not 0-1
        assert batch.targets["box"].shape == (3, len(anchors), 4)
        assert batch.targets["box"].dtype == np.float32
        assert batch.targets["classification"].shape == (3, len(anchors))
        assert batch.targets["classification"].dtype == np.int32
        assert np.isfinite(batch.targets["box"]).all()
        positives += (batch.targets["classification"] >= 0).any(axis=1).sum()
        assert len(batch.names) == 3
    assert positives >= 4


@pytest.mark.parametrize("augment", ["none", "basic", "heavy"])
def test_targets_point_at_the_pixels(small_set, augment):
    """Class 0 is brighter than everything, class 1 darker: read both back from the targets."""
    batches = make_batches(small_set, crop=64, augment=augment)
    anchors = anchor_boxes(AnchorSettings(), 64, 64)
    checked = 0
    for step in range(5):
        batch = batches[step]
        for image, boxes, labels in zip(
            batch.images, batch.targets["box"], batch.targets["classification"], strict=True
        ):
            middle = np.median(image)
            for index in (0, 1):
                at = np.flatnonzero(labels == index)
                for box in np.unique(decode_boxes(anchors[at], boxes[at]).round(1), axis=0):
                    x1, y1, x2, y2 = box.round().astype(int)
                    inside = np.median(image[y1:y2, x1:x2])
                    assert (inside > middle) == (index == 0)
                    checked += 1
    assert checked >= 5


def test_whole_images_where_the_crop_is_not_smaller(small_set):
    assert make_batches(small_set, crop=96).crop is None
    assert make_batches(small_set, crop=200)[0].images.shape[1:3] == (96, 96)


def test_normal_images_come_in_batches(small_set):
    batches = make_batches(small_set, batch_size=8, augment="none")
    batch = batches[0]
    normal = [labels.image for labels in batches.images.labels if not len(labels.xyxy)]
    assert normal
    for name, labels in zip(batch.names, batch.targets["classification"], strict=True):
        assert (labels >= 0).any() == (name not in normal)


# --- a thread ahead ----------------------------------------------------------------------------


def batch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_ahead_yields_the_same_batches_in_order(small_set):
    batches = make_batches(small_set)
    found = list(ahead(batches, 2, 6))
    assert len(found) == 4
    for step, batch in zip(range(2, 6), found, strict=True):
        assert_same(batch, batches[step])
    assert not batch_threads()


def test_ahead_stops_its_thread_when_left_early(small_set):
    steps = ahead(make_batches(small_set), 0, 1000, depth=2)
    next(steps)
    assert batch_threads()
    steps.close()
    assert not batch_threads()


def test_ahead_makes_no_more_than_asked_for():
    class Counting:
        made = 0

        def __getitem__(self, step):
            self.made += 1
            return step

    batches = Counting()
    steps = ahead(batches, 0, 1000, depth=3)
    next(steps)
    time.sleep(0.3)
    steps.close()
    assert batches.made <= 6


@pytest.mark.parametrize("error", [InputError("a.png: is damaged"), MemoryError(), SystemExit()])
def test_ahead_raises_what_goes_wrong_where_it_would_have_come(error):
    class Broken:
        def __getitem__(self, step):
            if step == 3:
                raise error
            return step

    steps = ahead(Broken(), 0, 10)
    assert [next(steps) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        next(steps)
    assert caught.value is error
    assert not batch_threads()


def test_an_unreadable_image_is_named(small_set):
    victim = sorted(small_set.images.glob("train_*"))[2]
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(InputError, match=victim.name):
        list(ahead(make_batches(small_set, batch_size=8), 0, 1))
    assert not batch_threads()
