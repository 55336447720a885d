"""The classical baseline finds what is plain to see and little of the sample set."""

import cv2
import numpy as np
import pytest

from detection.evaluation.average_precision import measure_average_precision
from examples.wafers.blob_baseline import (
    BlobSettings,
    blob_detections,
    class_agnostic,
    tune,
    wafer_mask,
)
from examples.wafers.sample import CLASSES, draw_image, is_normal
from inspection.data.boxes import ImageLabels
from inspection.errors import InputError

SMALL_GRID = {"k": (2.5, 4.0)}
PLAIN_GRID = {"background": (12.0, 40.0), "k": (4.0, 8.0)}


@pytest.fixture
def plain():
    """A bright disc with noise, a dark square of 20 pixels, and one beside the disc."""
    grey = np.full((400, 400), 40, np.uint8)
    cv2.circle(grey, (200, 200), 170, 130, -1)
    grey[150:170, 220:240] = 90
    grey[8:28, 8:28] = 200
    noise = np.random.default_rng(0).normal(0, 2, grey.shape)
    rgb = np.repeat(np.clip(grey + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return rgb, ImageLabels("plain.png", np.float32([[220, 150, 240, 170]]), ("particle",))


def test_a_plain_blob_is_found_and_nothing_beside_the_wafer(plain):
    rgb, labels = plain
    settings = tune([rgb], [labels], CLASSES, None, PLAIN_GRID)
    found = blob_detections(rgb, settings)
    result = measure_average_precision([labels], [found], CLASSES)
    assert result.mean_ap == 1.0
    assert (found.xyxy[:, 0] > 30).all()
    assert ((found.score > 0) & (found.score < 1)).all()


def test_the_mask_is_the_wafer(plain):
    mask = wafer_mask(plain[0])
    assert mask.sum() == pytest.approx(np.pi * 170**2, rel=0.03)
    assert not wafer_mask(plain[0], margin=20)[200, 200 + 155]


def test_a_image_of_nothing_has_no_blobs():
    assert len(blob_detections(np.zeros((300, 300, 3), np.uint8))) == 0


def test_tuning_needs_boxes(plain):
    with pytest.raises(InputError):
        tune([plain[0]], [ImageLabels("a.png", np.zeros((0, 4), np.float32))], ["particle"])


def test_it_stays_low_on_the_sample_set():
    images, labels = [], []
    for index in range(20):
        image = draw_image(11, index, normal=is_normal(11, index, 0.3))
        images.append(image.rgb)
        labels.append(ImageLabels(f"{index}.jpg", image.xyxy, image.label))
    settings = tune(
        images[:8], labels[:8], CLASSES, BlobSettings(background=6.0, smooth=1.2), SMALL_GRID
    )
    found = [blob_detections(rgb, settings) for rgb in images]
    assert measure_average_precision(labels, found, CLASSES).mean_ap < 0.4
    assert measure_average_precision(*class_agnostic(labels, found), ["defect"]).mean_ap < 0.4
