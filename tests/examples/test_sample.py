"""The sample set: repeatable, honest boxes, all classes, normals."""

import cv2
import numpy as np
import pytest

from examples.wafers.sample import (
    CLASSES,
    LARGEST_SIDE,
    SMALLEST_SIDE,
    draw_image,
    is_normal,
    make_sample,
)
from inspection.data.boxes import box_iou
from inspection.data.images import image_size, read_image
from inspection.data.voc import read_voc
from inspection.errors import InputError

SEED = 7


@pytest.fixture(scope="module")
def pictures():
    return [draw_image(SEED, index) for index in range(5)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("웨이퍼")
    steps = []
    labels = make_sample(
        folder / "images_900",
        folder / "annotations",
        count=5,
        seed=SEED,
        on_progress=lambda done, count: steps.append((done, count)),
    )
    return folder, labels, steps


def test_files_agree_with_the_labels_returned(sample):
    folder, labels, steps = sample
    assert [entry.image for entry in labels] == [f"wafer_{k:03d}.jpg" for k in range(1, 6)]
    assert steps == [(k, 5) for k in range(1, 6)]
    for entry in labels:
        assert image_size(folder / "images_900" / entry.image) == (900, 900)
        voc = read_voc(entry.source)
        assert (voc.filename, voc.width, voc.height) == (entry.image, 900, 900)
        assert tuple(thing.name for thing in voc.objects) == entry.label
        np.testing.assert_array_equal(voc.xyxy, entry.xyxy)


def test_images_are_small_enough_to_ship(sample):
    folder, _, _ = sample
    assert all(path.stat().st_size < 120_000 for path in (folder / "images_900").iterdir())


def test_a_file_is_the_drawn_image(sample):
    folder, labels, _ = sample
    drawn = draw_image(SEED, 3, normal=is_normal(SEED, 3, 0.3))
    assert labels[3].label == drawn.label
    np.testing.assert_array_equal(labels[3].xyxy, drawn.xyxy)
    difference = read_image(folder / "images_900" / labels[3].image).astype(int) - drawn.rgb
    assert np.abs(difference).mean() < 3  # JPEG


def test_a_shorter_set_is_the_beginning_of_a_longer_one(sample, tmp_path):
    folder, labels, _ = sample
    shorter = make_sample(tmp_path / "images_900", tmp_path / "annotations", count=2, seed=SEED)
    for ours, theirs in zip(shorter, labels, strict=False):
        for kind in ("images_900", "annotations"):
            name = ours.image if kind == "images_900" else ours.image.replace(".jpg", ".xml")
            assert (tmp_path / kind / name).read_bytes() == (folder / kind / name).read_bytes()
        assert ours.label == theirs.label


def test_one_seed_one_image(pictures):
    again = draw_image(SEED, 1)
    np.testing.assert_array_equal(again.rgb, pictures[1].rgb)
    assert not np.array_equal(draw_image(SEED + 1, 1).rgb, pictures[1].rgb)


def test_normals_are_spread_over_the_set():
    for normals in (0.0, 0.3, 1.0):
        chosen = [is_normal(3, index, normals) for index in range(100)]
        assert abs(sum(chosen) - 100 * normals) <= 1
    assert draw_image(SEED, 0, normal=True, size=500).xyxy.shape == (0, 4)


def test_boxes_lie_on_the_wafer_with_legal_sides_apart_from_each_other(pictures):
    for image in pictures:
        sides = image.xyxy[:, 2:] - image.xyxy[:, :2]
        assert len(image.label) == len(sides) >= 1
        assert sides.min() >= SMALLEST_SIDE
        assert sides.max() <= LARGEST_SIDE
        for x1, y1, x2, y2 in image.xyxy.astype(int):
            assert image.free[y1:y2, x1:x2].all()
        overlap = box_iou(image.xyxy, image.xyxy)
        assert np.array_equal(overlap > 0, np.eye(len(sides), dtype=bool))


def test_all_classes_occur(pictures):
    assert {name for image in pictures for name in image.label} == set(CLASSES)


def test_boxes_fit_what_the_defects_change(pictures):
    ious = []
    for index, image in enumerate(pictures):
        bare = draw_image(SEED, index, defects=False)
        np.testing.assert_array_equal(bare.xyxy, image.xyxy)
        change = np.abs(image.rgb.astype(np.float32) - bare.rgb)
        # Noise follows brightness and values are rounded: a level of change means nothing.
        change = cv2.GaussianBlur(change, (0, 0), 0.5).max(axis=2)
        elsewhere = change.copy()
        for x1, y1, x2, y2 in image.xyxy.astype(int):
            elsewhere[y1 - 6 : y2 + 6, x1 - 6 : x2 + 6] = 0
            window = change[y1 - 6 : y2 + 6, x1 - 6 : x2 + 6]
            rows, columns = np.nonzero(window >= 0.35 * window.max())
            left, top = x1 - 6, y1 - 6
            seen = [left + columns.min(), top + rows.min()]
            seen += [left + columns.max() + 1, top + rows.max() + 1]
            ious.append(float(box_iou(np.float32([seen]), np.float32([[x1, y1, x2, y2]]))[0, 0]))
        assert elsewhere.max() <= 1.5
    assert min(ious) > 0.6
    assert np.median(ious) > 0.85


def test_wrong_arguments_are_all_named(tmp_path):
    with pytest.raises(InputError) as caught:
        make_sample(tmp_path, tmp_path, count=0, seed=-1, normals=1.5, size=100)
    assert len(caught.value.problems) == 4
    assert not list(tmp_path.iterdir())
