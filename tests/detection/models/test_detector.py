"""From an image of any size to boxes in its own pixels."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.models.anchors import AnchorSettings, anchor_boxes
from detection.models.detector import Detector, predict_all
from detection.models.retinanet import RetinaNet
from detection.models.targets import encode_boxes
from inspection.data.boxes import box_iou
from inspection.data.images import read_image, write_image
from inspection.data.voc import is_sealed, read_voc
from inspection.decisions.operating_point import (
    DEFECTIVE,
    NORMAL,
    OperatingPoint,
    Rate,
    fixed_threshold,
)
from inspection.errors import InputError
from inspection.finite import NotFinite
from inspection.prediction.detections import PREDICTION
from tests.cards import detector_card
from tests.conftest import CLASSES
from tests.places import ROOT

SIZE = 128


class BrightSpotFinder:
    """Stands in for a perfect network: it finds what is bright, and what is dark."""

    def __init__(self, fit="letterbox"):
        self.anchors = AnchorSettings()
        self.classes = CLASSES
        self.card = detector_card(SIZE, fit)
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


def detector_of(model: BrightSpotFinder) -> Detector:
    return Detector(model, model.card)


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
def test_boxes_come_back_in_the_pixels_of_the_image(width, height, place, fit):
    x, y, share = place
    box = np.array([x * width, y * height, (x + share) * width, (y + share) * height]).astype(int)
    box[2:] = np.maximum(box[2:], box[:2] + 8)
    found = detector_of(BrightSpotFinder(fit)).predict(picture(width, height, box))
    assert found.label == (CLASSES[0],)
    # The network sees whole pixels of its own, of which one is this many of the image's.
    pixel = max(1, max(width, height) / SIZE)
    assert np.abs(found.xyxy[0] - box).max() <= 1.5 * pixel
    assert (found.xyxy[0] >= 0).all()
    assert (found.xyxy[0] <= [width, height, width, height]).all()


def test_scores_and_names():
    image = picture(200, 100, (20, 20, 60, 50))
    image[60:90, 120:180] = 5
    found = detector_of(BrightSpotFinder()).predict(image)
    assert found.label == CLASSES
    np.testing.assert_allclose(found.score, 1 / (1 + np.exp([-2.0, -1.0])), rtol=1e-5)
    assert found.xyxy.dtype == np.float32
    few = detector_of(BrightSpotFinder()).predict(image, max_detections=1)
    assert few.label == CLASSES[:1]
    assert len(detector_of(BrightSpotFinder()).predict(image, min_score=0.8)) == 1


def test_what_lies_in_the_border_of_the_letterbox_is_dropped():
    model = BrightSpotFinder()
    plain = model.predict_on_batch

    def with_a_ghost(inputs):
        outputs = plain(inputs)
        anchors = anchor_boxes(model.anchors, SIZE, SIZE)
        ghost = np.array([[40, 2, 70, 28]])  # above the image, which begins at row 32
        best = int(box_iou(anchors, ghost)[:, 0].argmax())
        outputs["box"][0, best] = encode_boxes(anchors[best : best + 1], ghost)[0]
        outputs["classification"][0, best, 0] = 5
        return outputs

    model.predict_on_batch = with_a_ghost
    found = detector_of(model).predict(picture(256, 128, (20, 20, 60, 50)))
    assert len(found) == 1
    assert found.score[0] < 0.95


def test_files_and_arrays_give_the_same(tmp_path):
    detector = detector_of(BrightSpotFinder())
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
    assert CLASSES[0] not in detector_of(model).predict(path).label  # as 16 bits it is dark
    model.card.preparation = replace(model.card.preparation, bits=12)
    assert detector_of(model).predict(path).label == (CLASSES[0],)


def test_batches_equal_single_images():
    detector = detector_of(BrightSpotFinder())
    images = [
        picture(200, 90, (20, 20, 60, 50)),
        picture(64, 64, (0, 0, 1, 1), value=110),
        picture(90, 200, (10, 120, 60, 150), value=0),
    ]
    assert detector.predict_batch(images) == [detector.predict(image) for image in images]
    assert detector.predict_batch([]) == []


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((10, 10), np.int64),
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((4, 10, 10, 3), np.uint8),
        np.zeros(10, np.uint8),
    ],
    ids=["alpha", "float", "int64", "empty", "stack", "line"],
)
def test_arrays_of_another_form_are_refused(array):
    with pytest.raises(InputError, match="uint8"):
        detector_of(BrightSpotFinder()).predict(array)


@pytest.mark.parametrize("shape", [(200, 300), (200, 300, 1)])
@pytest.mark.parametrize("bits", [8, 12])
def test_grey_and_deep_arrays_are_taken_as_files_are(shape, bits):
    image = picture(300, 200, (50, 60, 120, 110))
    model = BrightSpotFinder()
    expected = detector_of(model).predict(image)
    assert len(expected) == 1
    grey = image[..., 0]
    if bits > 8:
        model.card.preparation = replace(model.card.preparation, bits=bits)
        grey = np.round(grey / 255 * (2**bits - 1)).astype(np.uint16)
    assert detector_of(model).predict(grey.reshape(shape)) == expected


def test_a_list_gives_a_list(tmp_path):
    path = tmp_path / "불량.png"
    write_image(path, picture(200, 90, (20, 20, 60, 50)))
    detector = detector_of(BrightSpotFinder())
    images = [path, str(path), picture(90, 200, (10, 120, 60, 150), value=0)]
    assert detector.predict(images) == [detector.predict(image) for image in images]
    assert detector.predict([]) == []


# --- the decision, and what may be done with the result ----------------------------------------


def deciding(threshold, review=None) -> Detector:
    model = BrightSpotFinder()
    rates = Rate(0, 10, DEFECTIVE), Rate(0, 10, NORMAL)
    point = OperatingPoint(threshold, "test", 0.0, *rates, review_threshold=review)
    model.card.operating_point = point
    return detector_of(model)


BOTH = picture(200, 100, (20, 20, 60, 50))
BOTH[60:90, 120:180] = 5
"""A bright spot of score .88, a dark one of .73."""


@pytest.mark.parametrize(
    ("threshold", "review", "decision", "count"),
    [(0.5, None, "NG", 2), (0.8, None, "NG", 1), (0.9, 0.8, "review", 0), (0.95, None, "OK", 0)],
)
def test_the_decision_is_that_of_the_operating_point(threshold, review, decision, count):
    detector = deciding(threshold, review)
    found = detector.predict(BOTH)
    assert len(found) == 2
    assert found.decision == decision
    assert len(found.above()) == count
    assert len(found.above(0.8)) == 1
    # Whatever is left out of the boxes, the part stays what it is.
    assert found.above().decision == found.above(0.99).decision == decision
    few = detector.predict(BOTH, min_score=0.99, max_detections=1)
    assert (len(few), few.decision) == (0, decision)
    assert detector.predict(BOTH, max_detections=0).decision == decision


def test_without_an_operating_point_nothing_is_decided_in_silence():
    found = detector_of(BrightSpotFinder()).predict(BOTH)
    with pytest.raises(InputError, match="operating point"):
        _ = found.decision
    with pytest.raises(InputError, match="give a score"):
        found.above()
    assert len(found.above(0.8)) == 1


def test_detections_are_saved_by_suffix(tmp_path):
    path = tmp_path / "부품 1.png"
    write_image(path, BOTH)
    found = deciding(0.8).predict(path)
    values = json.loads(found.save(tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (values["image"], values["width"], values["height"]) == (str(path), 200, 100)
    assert (values["decision"], values["score"]) == ("NG", pytest.approx(found.score[0]))
    (box,) = values["boxes"]
    assert box["label"] == CLASSES[0]
    np.testing.assert_allclose([box[e] for e in ("xmin", "ymin", "xmax", "ymax")], found.xyxy[0])
    assert len(json.loads(found.save(tmp_path / "b.json", 0).read_text("utf-8"))["boxes"]) == 2
    voc = read_voc(found.save(tmp_path / "a.xml"))
    assert (voc.filename, [item.name for item in voc.objects]) == (path.name, [CLASSES[0]])
    assert is_sealed(tmp_path / "a.xml", PREDICTION)
    drawn = read_image(found.save(tmp_path / "drawn.png"))
    assert not np.array_equal(drawn, np.asarray(found.plot(0.99)))
    np.testing.assert_array_equal(drawn, np.asarray(found.plot()))
    with pytest.raises(InputError, match="image itself"):
        found.save(path)
    with pytest.raises(InputError, match=r"\.json, \.xml"):
        found.save(tmp_path / "a.txt")
    np.testing.assert_array_equal(read_image(path), BOTH)
    assert np.asarray(deciding(0.8).predict(BOTH).plot()).shape[2] == 3  # an array has no file
    assert deciding(0.8).predict(BOTH).save(tmp_path / "c.xml").is_file()


def test_files_that_are_no_image_are_refused(tmp_path):
    (tmp_path / "a.png").write_text("nothing")
    detector = detector_of(BrightSpotFinder())
    for name in ("a.png", "absent.png"):
        with pytest.raises(InputError, match=name):
            detector.predict(tmp_path / name)


def test_a_network_that_gives_nan_is_refused_by_the_name_of_the_image(tmp_path):
    path = tmp_path / "b.png"
    write_image(path, BOTH)
    for name in ("box", "classification"):
        model = BrightSpotFinder()
        plain = model.predict_on_batch

        def broken(inputs, plain=plain, name=name):
            outputs = plain(inputs)
            outputs[name][-1, -1, -1] = np.nan
            return outputs

        model.predict_on_batch = broken
        with pytest.raises(NotFinite, match=r"b\.png: 1 of \d+ (offsets|logits)"):
            detector_of(model).predict_batch([BOTH, path])
        with pytest.raises(NotFinite):
            detector_of(model).predict(BOTH)


def test_predict_all_takes_every_image_once_in_batches():
    model = BrightSpotFinder()
    told: list[int] = []
    named = [
        (f"{index}.png", picture(80 + index, 80, (10, 10, 40 + index, 40))) for index in range(5)
    ]
    found = predict_all(detector_of(model), iter(named), batch_size=2, on_progress=told.append)
    assert model.seen == [2, 2, 1]
    assert told == [2, 4, 5]
    single = detector_of(BrightSpotFinder())
    assert list(found) == [name for name, _ in named]
    for name, image in named:
        assert found[name] == single.predict(image)
    assert predict_all(detector_of(model), []) == {}


def test_operating_point_travels_with_the_model():
    model = BrightSpotFinder()
    assert detector_of(model).operating_point is None
    model.card.operating_point = fixed_threshold(0.42)
    assert detector_of(model).operating_point.threshold == pytest.approx(0.42)


# --- loading -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    model = RetinaNet(
        "resnet18",
        CLASSES,
        channels=32,
        head_convs=1,
    )
    path = tmp_path_factory.mktemp("snapshots") / "best.keras"
    Detector(model, detector_card()).save(path)
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


def test_the_sample_of_the_readme_prints_what_matters(snapshot, tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sample = text.partition("## In Python")[2].partition("```python\n")[2].partition("```")[0]
    detector = Detector.load(snapshot)
    bias = detector.model.classification_head.prediction.bias
    bias.assign(np.zeros(bias.shape))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    everything = detector.predict(image)
    assert len(everything) > 20
    detector.card.operating_point = fixed_threshold(everything.score[2])
    monkeypatch.chdir(tmp_path)
    Path("snapshots").mkdir()
    detector.save("snapshots/best.keras")
    write_image("part.png", image)
    exec(compile(sample, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    count = np.count_nonzero(everything.score >= everything.score[2])
    assert lines[0] == "NG"
    assert len(lines) == 1 + count < 10
    assert all(line.startswith(CLASSES) for line in lines[1:])
    assert {path.name for path in tmp_path.iterdir()} == {
        "snapshots",
        "part.png",
        "part_defects.png",
    }


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


def test_a_snapshot_with_nan_among_its_weights_is_refused(snapshot, tmp_path):
    """Fused with its ReLU a convolution makes 0 of NaN, so the outputs would not tell."""
    detector = Detector.load(snapshot)
    kernel = detector.model.feature_extractor.get_layer("conv1_conv").kernel
    values = np.asarray(kernel).copy()
    values[0, 0, 0, 0] = np.nan
    kernel.assign(values)
    detector.save(tmp_path / "nan.keras")
    assert "1 of " in (problem := refused(tmp_path / "nan.keras"))
    assert "not finite" in problem


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
