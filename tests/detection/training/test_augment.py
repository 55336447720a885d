"""Augmentation: boxes follow the pixels, and one seed gives one image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.training.augment import RECIPES, Augmenter, Sample, paste_defect

SIZE = 96
AUGMENTERS = {recipe: Augmenter(recipe) for recipe in RECIPES}


def with_rectangle(x, y, width, height, size=SIZE, label=1, ground=70, bright=190):
    """A flat image with one bright rectangle and its box."""
    image = np.full((size, size, 3), ground, np.uint8)
    image[y : y + height, x : x + width] = bright
    return Sample(image, np.array([[x, y, x + width, y + height]], np.float32), np.array([label]))


def bright_box(image: np.ndarray) -> np.ndarray:
    """Edges of what is bright; noise of single pixels is taken away first."""
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    assert count > 1
    x, y, width, height, _ = stats[1 + stats[1:, 4].argmax()]
    return np.array([x, y, x + width, y + height])


rectangles = st.tuples(
    st.integers(0, 60), st.integers(0, 60), st.integers(12, 36), st.integers(12, 36)
)


@pytest.mark.parametrize("recipe", RECIPES)
@given(place=rectangles, seed=st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_boxes_follow_the_pixels(recipe, place, seed):
    # Local histograms of a flat image as small as the others here would blow up.
    sample = with_rectangle(*place, size=256)
    result = AUGMENTERS[recipe](sample, seed)
    assert result.image.shape == (256, 256, 3)
    assert result.image.dtype == np.uint8
    assert result.boxes.dtype == np.float32
    assert result.boxes.shape == (1, 4)
    assert result.classes.tolist() == [1]
    assert np.abs(bright_box(result.image) - result.boxes[0]).max() <= 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_seed_gives_one_image_whatever_came_before(recipe):
    sample = with_rectangle(10, 20, 30, 15)
    noise = np.random.default_rng(0).integers(0, 40, sample.image.shape).astype(np.uint8)
    sample = Sample(sample.image + noise, sample.boxes, sample.classes)
    fresh = Augmenter(recipe)
    used = AUGMENTERS[recipe]
    for seed in range(8):
        used(sample, 100 + seed)
        first, second = fresh(sample, seed), used(sample, seed)
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.boxes, second.boxes)


@pytest.mark.parametrize("recipe", ["basic", "heavy"])
def test_seeds_differ_and_all_eight_orientations_come(recipe):
    sample = with_rectangle(5, 10, 40, 20)
    seen = {tuple(AUGMENTERS[recipe](sample, seed).boxes[0].tolist()) for seed in range(80)}
    assert len(seen) == 8


def test_flip_mirrors_both_ways_and_never_turns():
    sample = with_rectangle(5, 10, 40, 20)
    seen = {tuple(AUGMENTERS["flip"](sample, seed).boxes[0].tolist()) for seed in range(60)}
    assert seen == {(5, 10, 45, 30), (51, 10, 91, 30), (5, 66, 45, 86), (51, 66, 91, 86)}


@pytest.mark.parametrize("recipe", ["flip", "basic"])
def test_steps_are_drawn_independently(recipe):
    """Noise or blur (.2) comes with and without a change of brightness or contrast (.5)."""
    sample = with_rectangle(0, 0, 32, 96)
    seen = {True: [], False: []}
    for seed in range(300):
        image = AUGMENTERS[recipe](sample, seed).image
        counts = np.bincount(image[..., 0].reshape(-1), minlength=256)
        dark, light = counts[:125].argmax(), 125 + counts[125:].argmax()
        changed = max(abs(dark - 70), abs(light - 190)) > 2
        seen[changed].append((counts > 0).sum() > 2)
    assert {0.12 < np.mean(several) < 0.3 for several in seen.values()} == {True}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_input_stays_as_it_was(recipe):
    sample = with_rectangle(10, 20, 30, 15)
    image, boxes = sample.image.copy(), sample.boxes.copy()
    sample.image.setflags(write=False)
    for seed in range(5):
        AUGMENTERS[recipe](sample, seed)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.boxes, boxes)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_normal_image_stays_normal(recipe):
    sample = Sample(np.full((64, 64, 3), 90, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0))
    for seed in range(6):
        result = AUGMENTERS[recipe](sample, seed)
        assert result.boxes.shape == (0, 4)
        assert result.classes.shape == (0,)


@pytest.mark.parametrize("recipe", RECIPES)
def test_boxes_up_to_the_edges_and_ignored_ones_stay(recipe):
    """Edges at 0 and at the image's size are legal; -1 marks a box to ignore."""
    boxes = np.array([[0, 0, 96, 96], [0, 40, 20, 96], [90, 0, 96, 5]], np.float32)
    sample = Sample(np.full((96, 96, 3), 90, np.uint8), boxes, np.array([2, -1, 0]))
    for seed in range(16):
        result = AUGMENTERS[recipe](sample, seed)
        assert sorted(result.classes.tolist()) == [-1, 0, 2]
        area = (result.boxes[:, 2:] - result.boxes[:, :2]).prod(axis=1)
        by_class = dict(zip(result.classes.tolist(), area.tolist(), strict=True))
        assert by_class == pytest.approx({2: 96 * 96, -1: 20 * 56, 0: 30}, rel=1e-3)


@pytest.mark.parametrize("recipe", ["basic", "heavy"])
def test_a_box_too_small_to_learn_is_not_taught_as_background(recipe):
    """The defect is still to be seen, so its place must not count as normal."""
    boxes = np.array([[40, 40, 41.5, 60]], np.float32)
    sample = Sample(np.full((96, 96, 3), 90, np.uint8), boxes, np.array([0]))
    result = AUGMENTERS[recipe](sample, 3)
    assert len(result.boxes) == 1


@given(
    place=rectangles,
    seed=st.integers(0, 2**31 - 1),
    ground=st.integers(30, 110),
)
@settings(max_examples=60)
def test_pasted_defect_stands_where_its_box_says(place, seed, ground):
    """On ground of a brightness like its own; on another it may stay away."""
    source = with_rectangle(*place, label=3)
    target = Sample(
        np.full((130, 110, 3), ground, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int)
    )
    before = target.image.copy()
    result = paste_defect(target, source, np.random.default_rng(seed))
    np.testing.assert_array_equal(target.image, before)
    assert result.classes.tolist() == [3]
    box = result.boxes[0]
    assert sorted(box[2:] - box[:2]) == sorted(place[2:])
    changed = (result.image.astype(int) - ground)[..., 0] > 30
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert np.abs(found - box).max() <= 1


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=40)
def test_pasting_covers_no_labelled_box(seed):
    target = with_rectangle(40, 30, 30, 40)
    # A box to ignore is a defect too: the rest of one that a window cuts.
    target = Sample(
        target.image,
        np.concatenate([target.boxes, [[0, 0, 20, 96]]]).astype(np.float32),
        np.array([1, -1]),
    )
    result = paste_defect(target, with_rectangle(5, 5, 14, 14), np.random.default_rng(seed))
    for x1, y1, x2, y2 in target.boxes.astype(int):
        np.testing.assert_array_equal(result.image[y1:y2, x1:x2], target.image[y1:y2, x1:x2])
    for box in result.boxes[2:]:
        assert (box >= 0).all()
        assert (box <= SIZE).all()


def test_pasting_gives_up_where_there_is_no_room():
    rng = np.random.default_rng(0)
    source = with_rectangle(5, 5, 30, 30)
    full = Sample(
        np.zeros((64, 64, 3), np.uint8), np.array([[0, 0, 64, 64]], np.float32), np.array([0])
    )
    assert paste_defect(full, source, rng) is full
    small = Sample(np.zeros((16, 16, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
    assert paste_defect(small, source, rng) is small


def test_ignored_boxes_are_never_pasted():
    source = with_rectangle(5, 5, 30, 30, label=-1)
    target = Sample(np.zeros((96, 96, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
    assert paste_defect(target, source, np.random.default_rng(0)) is target


@pytest.mark.parametrize("box", [[40.6, 40.6, 41.4, 60], [0, 0, 1, 1], [95, 95, 96, 96]])
def test_tiny_defects_give_no_empty_boxes(box):
    source = Sample(np.zeros((96, 96, 3), np.uint8), np.array([box], np.float32), np.array([0]))
    target = Sample(np.zeros((96, 96, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
    for seed in range(8):
        result = paste_defect(target, source, np.random.default_rng(seed))
        assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
