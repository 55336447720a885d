"""From a picture of any size to boxes in its own pixels."""

from __future__ import annotations

import zipfile

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.anchors import AnchorSettings, anchor_boxes
from detection.model import RetinaNet
from detection.prediction import Detector, predict_all
from detection.targets import encode_boxes
from inspection.boxes import box_iou
from inspection.errors import InputError
from inspection.images import read_image, write_image
from inspection.operating_point import fixed_threshold
from tests.conftest import CLASSES

SIZE = 128


class BrightSpotFinder:
    """Stands in for a perfect network: it finds what is bright, and what is dark."""

    def __init__(self, fit="letterbox"):
        self.anchors = AnchorSettings()
        self.classes = CLASSES
        self.settings = {
            "preprocessing": {"size": SIZE, "fit": fit, "bits": 16},
            "operating_point": None,
        }
        self.seen: list[int] = []

    def predict_on_batch(self, inputs):
        images = inputs["images"]
        assert images.dtype == np.float32
        assert images.shape[1:] == (SIZE, SIZE, 3)
        self.seen.append(len(images))
        anchors = anchor_boxes(self.anchors, SIZE, SIZE)
        offsets = np.zeros((len(images), len(anchors), 4), np.float32)
        logits = np.full((len(images), len(anchors), 2), -9, np.float32)
        for index, image in enumerate(images):
            for label, mask in enumerate((image[..., 0] > 200, image[..., 0] < 30)):
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                if len(rows):
                    box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
                    best = int(box_iou(anchors, box)[:, 0].argmax())
                    offsets[index, best] = encode_boxes(anchors[best : best + 1], box)[0]
                    logits[index, best, label] = 2.0 - label
        return {"box": offsets, "classification": logits}


def picture(width, height, box, value=255):
    image = np.full((height, width, 3), 110, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = value
    return image


@given(
    width=st.integers(64, 400),
    height=st.integers(64, 400),
    place=st.tuples(st.floats(0, 0.7), st.floats(0, 0.7), st.floats(0.15, 0.3)),
    fit=st.sampled_from(["letterbox", "stretch"]),
)
@settings(max_examples=60)
def test_boxes_come_back_in_the_pixels_of_the_picture(width, height, place, fit):
    x, y, share = place
    box = np.array([x * width, y * height, (x + share) * width, (y + share) * height]).astype(int)
    box[2:] = np.maximum(box[2:], box[:2] + 8)
    found = Detector(BrightSpotFinder(fit)).predict(picture(width, height, box))
    assert found.label == (CLASSES[0],)
    # The network sees whole pixels of its own, of which one is this many of the picture's.
    pixel = max(1, max(width, height) / SIZE)
    assert np.abs(found.xyxy[0] - box).max() <= 1.5 * pixel
    assert (found.xyxy[0] >= 0).all()
    assert (found.xyxy[0] <= [width, height, width, height]).all()


def test_scores_and_names():
    image = picture(200, 100, (20, 20, 60, 50))
    image[60:90, 120:180] = 5
    found = Detector(BrightSpotFinder()).predict(image)
    assert found.label == CLASSES
    np.testing.assert_allclose(found.score, 1 / (1 + np.exp([-2.0, -1.0])), rtol=1e-5)
    assert found.xyxy.dtype == np.float32
    few = Detector(BrightSpotFinder()).predict(image, max_detections=1)
    assert few.label == CLASSES[:1]
    assert len(Detector(BrightSpotFinder()).predict(image, min_score=0.8)) == 1


def test_what_lies_in_the_border_of_the_letterbox_is_dropped():
    model = BrightSpotFinder()
    plain = model.predict_on_batch

    def with_a_ghost(inputs):
        outputs = plain(inputs)
        anchors = anchor_boxes(model.anchors, SIZE, SIZE)
        ghost = np.array([[40, 2, 70, 28]])  # above the picture, which begins at row 32
        best = int(box_iou(anchors, ghost)[:, 0].argmax())
        outputs["box"][0, best] = encode_boxes(anchors[best : best + 1], ghost)[0]
        outputs["classification"][0, best, 0] = 5
        return outputs

    model.predict_on_batch = with_a_ghost
    found = Detector(model).predict(picture(256, 128, (20, 20, 60, 50)))
    assert len(found) == 1
    assert found.score[0] < 0.95


def test_files_and_arrays_give_the_same(tmp_path):
    detector = Detector(BrightSpotFinder())
    path = tmp_path / "불량 부품.png"
    write_image(path, picture(300, 200, (50, 60, 120, 110)))
    expected = detector.predict(picture(300, 200, (50, 60, 120, 110)))
    assert len(expected) == 1
    assert detector.predict(path) == expected
    assert detector.predict(str(path)) == expected
    assert detector.predict(read_image(path)) == expected


def test_deep_grey_files_are_scaled_as_the_training_did(tmp_path):
    path = tmp_path / "deep.png"
    grey = np.full((100, 150), 110 * 16, np.uint16)
    grey[30:60, 40:90] = 4095
    done, content = cv2.imencode(".png", grey)
    assert done
    path.write_bytes(content.tobytes())
    model = BrightSpotFinder()
    assert CLASSES[0] not in Detector(model).predict(path).label  # as 16 bits it is dark
    model.settings["preprocessing"]["bits"] = 12
    assert Detector(model).predict(path).label == (CLASSES[0],)


def test_batches_equal_single_pictures():
    detector = Detector(BrightSpotFinder())
    pictures = [
        picture(200, 90, (20, 20, 60, 50)),
        picture(64, 64, (0, 0, 1, 1), value=110),
        picture(90, 200, (10, 120, 60, 150), value=0),
    ]
    assert detector.predict_batch(pictures) == [detector.predict(image) for image in pictures]
    assert detector.predict_batch([]) == []


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_arrays_of_another_form_are_refused(array):
    with pytest.raises(InputError, match="uint8"):
        Detector(BrightSpotFinder()).predict(array)


def test_files_that_are_no_picture_are_refused(tmp_path):
    (tmp_path / "a.png").write_text("nothing")
    detector = Detector(BrightSpotFinder())
    for name in ("a.png", "absent.png"):
        with pytest.raises(InputError, match=name):
            detector.predict(tmp_path / name)


def test_predict_all_takes_every_picture_once_in_batches():
    model = BrightSpotFinder()
    told: list[int] = []
    named = [
        (f"{index}.png", picture(80 + index, 80, (10, 10, 40 + index, 40))) for index in range(5)
    ]
    found = predict_all(Detector(model), iter(named), batch_size=2, on_progress=told.append)
    assert model.seen == [2, 2, 1]
    assert told == [2, 4, 5]
    single = Detector(BrightSpotFinder())
    assert list(found) == [name for name, _ in named]
    for name, image in named:
        assert found[name] == single.predict(image)
    assert predict_all(Detector(model), []) == {}


def test_operating_point_travels_with_the_model():
    model = BrightSpotFinder()
    assert Detector(model).operating_point is None
    model.settings["operating_point"] = fixed_threshold(0.42).to_dict()
    assert Detector(model).operating_point.threshold == pytest.approx(0.42)


# --- loading -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    model = RetinaNet(
        "resnet18",
        CLASSES,
        channels=32,
        head_convs=1,
        preprocessing={"size": 64, "fit": "letterbox", "bits": 16},
    )
    path = tmp_path_factory.mktemp("snapshots") / "best.keras"
    model.save(path)
    return path


def refused(path) -> str:
    with pytest.raises(InputError) as caught:
        Detector.load(path)
    (problem,) = caught.value.problems
    assert str(path) in problem
    assert "\n" not in problem
    return problem


def test_a_snapshot_predicts(snapshot):
    detector = Detector.load(snapshot)
    assert detector.classes == CLASSES
    found = detector.predict(np.zeros((50, 70, 3), np.uint8), min_score=0.0, max_detections=3)
    assert len(found) == 3
    # 0.01 at the start: nothing to report yet.
    assert len(detector.predict(np.zeros((50, 70, 3), np.uint8), min_score=0.5)) == 0


def test_missing_snapshot(tmp_path):
    assert "train_retinanet.py" in refused(tmp_path / "없음.keras")
    refused(tmp_path)  # a folder


def test_damaged_snapshots(snapshot, tmp_path):
    content = snapshot.read_bytes()
    for name, part in (("empty", b""), ("text", b"hello"), ("half", content[: len(content) // 2])):
        path = tmp_path / f"{name}.keras"
        path.write_bytes(part)
        refused(path)


def test_snapshot_with_damaged_weights(snapshot, tmp_path):
    path = tmp_path / "weights.keras"
    with zipfile.ZipFile(snapshot) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(".h5"):
                content = content[: len(content) // 2]
            new.writestr(item, content)
    refused(path)


def test_other_archives_and_other_models(tmp_path):
    path = tmp_path / "photos.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    refused(path)
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    assert "Sequential" in refused(tmp_path / "other.keras")


def test_suffix_of_another_kind(snapshot, tmp_path):
    path = tmp_path / "best.h5"
    path.write_bytes(snapshot.read_bytes())
    refused(path)
