"""Figures of maps, and boxes from maps."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from classification.cam.boxes import (
    CSV_NAME,
    BoxRule,
    Proposal,
    boxes_of,
    check_folder,
    mask_boxes,
    match,
    write_proposals,
)
from classification.cam.measures import (
    energy_inside,
    fill_in,
    mask_iou,
    pointing_game,
    randomisation_check,
    road,
)
from detection.data.annotations import read_annotations
from inspection.data.images import write_image
from inspection.data.voc import PROPOSAL, is_sealed, read_voc, write_voc
from inspection.errors import InputError
from inspection.prediction.detections import Detections


def test_a_map_that_is_the_mask_has_perfect_figures():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:18] = True
    cam = mask.astype(np.float32)
    assert pointing_game(cam, mask)
    assert energy_inside(cam, mask) == 1
    assert mask_iou(cam > 0.5, mask) == 1
    assert energy_inside(1 - cam, mask) == 0
    assert not pointing_game(1 - cam, mask)
    even = np.ones_like(cam)
    assert energy_inside(even, mask) == pytest.approx(mask.mean())
    assert np.isnan(energy_inside(0 * cam, mask))
    assert np.isnan(mask_iou(mask & False, mask & False))


def test_what_is_filled_in_is_the_weighted_mean_of_its_neighbours():
    rng = np.random.default_rng(0)
    view = rng.uniform(0, 255, (12, 14, 3)).astype(np.float32)
    gone = rng.random((12, 14)) < 0.4

    class Silent:
        def normal(self, _mean, _spread, shape):
            return np.zeros(shape)

    filled = fill_in(view, gone, Silent())
    np.testing.assert_array_equal(filled[~gone], view[~gone])
    for y, x in np.argwhere(gone):
        total, weights = np.zeros(3), 0.0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                v, u = y + dy, x + dx
                if (dy, dx) != (0, 0) and 0 <= v < 12 and 0 <= u < 14:
                    weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
                    total += weight * filled[v, u]
                    weights += weight
        np.testing.assert_allclose(filled[y, x], total / weights, atol=1e-2)


def test_road_is_high_for_the_truth_low_for_its_opposite_and_nought_for_chance():
    view = np.full((24, 24, 3), 60, np.float32)
    view[5:10, 12:18] = 240
    truth = np.zeros((24, 24), np.float32)
    truth[5:10, 12:18] = 1

    def predict(views: np.ndarray) -> np.ndarray:
        seen = views[:, 5:10, 12:18].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - seen, seen], axis=1)

    good = road(predict, view, truth, 1)
    assert good > 0.15
    assert road(predict, view, 1 - truth, 1) == pytest.approx(-good, abs=0.12)
    rng = np.random.default_rng(1)
    chance = [road(predict, view, rng.random((24, 24)), 1) for _ in range(8)]
    assert abs(np.mean(chance)) < 0.3 * good


def test_a_map_without_a_place_has_no_road():
    """Its equal places are removed by chance, not from the top of the image on."""
    view = np.full((24, 24, 3), 60, np.float32)
    view[:6] = 240

    def predict(views: np.ndarray) -> np.ndarray:
        seen = views[:, :6].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - seen, seen], axis=1)

    even = np.ones((24, 24), np.float32)
    assert abs(road(predict, view, even, 1)) < 0.03
    assert road(predict, view, even, 1, seed=3) == road(predict, view, even, 1, seed=3)
    half = np.zeros_like(even)
    half[:12] = 1  # the truth in it, and many equal places beside
    assert road(predict, view, half, 1) > 0.05


def test_drawn_weights_change_maps_and_are_put_back():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20, 20, 3))
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 128)(inputs))
    x = layers.Conv2D(8, 3, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    views = np.random.default_rng(0).uniform(0, 255, (6, 20, 20, 3))
    before = model.get_weights()
    alike = randomisation_check(model, views, "hires-cam", seed=1)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert abs(alike) < 0.9


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from(["otsu", "0.4", "quantile:0.9"]), st.integers(1, 9))
def test_boxes_hold_every_place_over_the_threshold_and_no_more(seed, threshold, least):
    rng = np.random.default_rng(seed)
    cam = rng.random((17, 23)).astype(np.float32) ** 3
    cam[:, 11] = 0
    rule = BoxRule(threshold, least)
    over = (cam >= rule.level(cam)) & (cam > 0)
    found = boxes_of(cam, BoxRule(threshold, 1), "긁힘")
    inside = np.zeros_like(over)
    for x1, y1, x2, y2 in found.xyxy.astype(int):
        window = over[y1:y2, x1:x2]
        inside[y1:y2, x1:x2] |= window
        # Tight: every side of the box touches its object.
        assert all(side.any() for side in (window[0], window[-1], window[:, 0], window[:, -1]))
    np.testing.assert_array_equal(inside, over)
    assert len(boxes_of(cam, rule, "x")) <= len(found)
    assert len(boxes_of(cam, BoxRule(threshold, 1, most=2), "x")) <= 2
    assert not len(boxes_of(0 * cam, rule, "x"))


@pytest.mark.parametrize("text", ["0", "1.5", "huh", "quantile:2", "quantile:"])
def test_a_threshold_that_cannot_be_read_is_refused(text):
    with pytest.raises(InputError, match="--threshold"):
        BoxRule(text)


def test_boxes_are_matched_one_for_one():
    truth = mask_boxes(np.kron([[1, 0, 1], [0, 0, 0]], np.ones((10, 10))) > 0)
    assert sorted(truth.tolist()) == [[0, 0, 10, 10], [20, 0, 30, 10]]
    found = Detections(
        [[0, 0, 10, 9], [1, 0, 10, 10], [21, 0, 30, 10], [5, 5, 9, 9]], [1] * 4, "abcd"
    )
    one = match([found], [truth], 0.5)
    assert (one.hits, one.found, one.wanted) == (2, 4, 2)
    assert (one.recall, one.precision) == (1, 0.5)
    assert np.isnan(match([], [], 0.5).recall)


def proposal(name: str, root, boxes=((1, 2, 9, 8),)) -> Proposal:
    path = root / name
    write_image(path, np.full((20, 30, 3), 90, np.uint8))
    found = Detections(list(boxes), [0.9] * len(boxes), ("긁힘",) * len(boxes))
    return Proposal(name, path, (30, 20), found)


def test_proposals_are_sealed_and_refused_as_annotations_until_a_person_saves(tmp_path):
    images, folder = tmp_path / "그림", tmp_path / "proposals"
    write_proposals(folder, [proposal("a.png", images), proposal("b.png", images, ())])
    assert is_sealed(folder / "a.xml", PROPOSAL)
    assert not (folder / "b.xml").exists()
    rows = list(csv.reader((folder / CSV_NAME).read_text(encoding="utf-8").splitlines()))
    assert rows[1][:6] == ["a.png", "1", "2", "9", "8", "긁힘"]
    with pytest.raises(InputError, match=r"a\.xml: is a proposal that nobody has looked at"):
        read_annotations(folder, images)
    voc = read_voc(folder / "a.xml")
    # As labelImg saves it.
    write_voc(folder / "a.xml", "a.png", (30, 20, 3), voc.xyxy, ["긁힘"])
    (labels,) = read_annotations(folder, images)
    np.testing.assert_array_equal(labels.xyxy, [[1, 2, 9, 8]])


def test_proposals_never_go_where_annotations_are(tmp_path):
    images, folder = tmp_path / "images", tmp_path / "annotations"
    one = proposal("a.png", images)
    write_voc(folder / "z.xml", "z.png", (30, 20, 3), [[1, 1, 5, 5]], ["dot"])
    before = (folder / "z.xml").read_bytes()
    with pytest.raises(InputError, match=r"z\.xml: is no proposal .* another --output"):
        write_proposals(folder, [one])
    assert [path.name for path in folder.iterdir()] == ["z.xml"]
    assert (folder / "z.xml").read_bytes() == before


def test_a_corrected_proposal_is_not_written_over(tmp_path):
    images, folder = tmp_path / "images", tmp_path / "proposals"
    write_proposals(folder, [proposal("a.png", images)])
    text = (folder / "a.xml").read_text(encoding="utf-8")
    (folder / "a.xml").write_text(text.replace("<xmax>9<", "<xmax>12<"), encoding="utf-8")
    with pytest.raises(InputError, match="somebody's annotation"):
        write_proposals(folder, [proposal("a.png", images)])
    assert "<xmax>12<" in (folder / "a.xml").read_text(encoding="utf-8")


def test_the_table_keeps_what_other_images_have(tmp_path):
    images, folder = tmp_path / "images", tmp_path / "proposals"
    write_proposals(folder, [proposal("a.png", images), proposal("b.png", images)])
    write_proposals(folder, [proposal("b.png", images, ((2, 2, 6, 6), (8, 8, 12, 12)))])
    rows = list(csv.reader((folder / CSV_NAME).read_text(encoding="utf-8").splitlines()))[1:]
    assert sorted(row[0] for row in rows) == ["a.png", "b.png", "b.png"]
    with pytest.raises(InputError, match=r"1 names stand in several folders, such as x/a.png and"):
        check_folder(folder, ["x/a.png", "y/a.png"])
