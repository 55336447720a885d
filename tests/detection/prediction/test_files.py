"""What detection adds to the prediction of a folder; the rest is `tests/journeys`'."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from detection.prediction.files import BoxPredictor
from inspection.data.images import image_size, read_image
from inspection.data.voc import read_voc, write_voc
from inspection.decisions.operating_point import DEFECTIVE, NORMAL, OperatingPoint, Rate
from inspection.errors import InputError
from tests.rooms import BOX, NG, NO_NUMBER, OK, FakeDetector, Place


@pytest.fixture
def place(tmp_path):
    return Place("detection", tmp_path)


def boxes_of(place: Place) -> list[list[str]]:
    with (place.out / "detections.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def point(threshold: float, review: float | None = None) -> OperatingPoint:
    rates = Rate(0, 10, DEFECTIVE), Rate(0, 10, NORMAL)
    return OperatingPoint(threshold, "test", 0.0, *rates, review_threshold=review)


def test_writes_boxes_in_every_form_in_the_files_own_pixels(place):
    place.image("웨이퍼 1.png", size=(80, 40))
    place.image("line2/clean.bmp", red=0)
    place.predict()
    assert boxes_of(place) == [
        ["line2/clean.bmp", "", "", "", "", "", ""],
        ["웨이퍼 1.png", "2.25", "3", "12.5", "13", "긁힘", "0.900000"],
    ]
    normal, record = place.lines
    assert (record["width"], record["height"], record["decision"]) == (80, 40, "NG")
    assert record["score"] == pytest.approx(0.9)
    assert [record["boxes"][0][edge] for edge in ("xmin", "ymin", "xmax", "ymax")] == BOX
    assert (normal["image"], normal["decision"], normal["score"]) == ("line2/clean.bmp", "OK", 0)
    voc = read_voc(place.out / "xml" / "웨이퍼 1.xml")
    assert (voc.filename, voc.width, voc.height) == ("웨이퍼 1.png", 80, 40)
    assert voc.xyxy.tolist() == [[2, 3, 13, 13]]
    assert Path(voc.image_path) == place.raw / "웨이퍼 1.png"
    assert read_voc(place.out / "xml" / "line2" / "clean.xml").objects == ()
    overlay = read_image(place.out / "overlays" / "웨이퍼 1.jpg")
    assert overlay.shape == (320, 640, 3)  # small images are enlarged
    assert len(np.unique(overlay.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ("options", "boxes", "decision"),
    [
        ({}, 1, "NG"),
        ({"threshold": 0.95}, 0, "OK"),
        ({"threshold": 0.05}, 2, "NG"),
        ({"point": point(0.95)}, 0, "OK"),
        ({"point": point(0.95), "threshold": 0.9}, 1, "NG"),
        ({"point": point(0.95, review=0.5)}, 0, "review"),
    ],
)
def test_threshold_is_the_given_one_else_the_models_else_half(place, options, boxes, decision):
    place.image("a.png", red=181)
    detector = FakeDetector(options.get("point"))
    place.predict(by=BoxPredictor(detector, options.get("threshold")))
    assert len(place.lines[0]["boxes"]) == boxes
    assert place.lines[0]["decision"] == decision


def test_a_score_just_under_the_threshold_is_neither_ng_nor_written(place):
    place.image("a.png", red=140)  # float32(.7) lies under .7
    place.predict(by=BoxPredictor(FakeDetector(), 0.7))
    assert place.lines[0]["decision"] == "OK"
    assert place.lines[0]["boxes"] == []


def test_a_changed_threshold_is_refused_until_restarted(place):
    place.image("a.png")
    place.predict()
    before = place.content
    with pytest.raises(InputError, match=r"model abab.*threshold was 0\.5, now 0\.3"):
        place.predict(by=BoxPredictor(FakeDetector(), 0.3))
    assert place.content == before
    result = place.predict(by=BoxPredictor(FakeDetector(), 0.3), restart=True)
    assert (result.done, result.skipped) == (1, 0)


def test_what_is_not_decided_is_so_in_the_table_of_boxes(place):
    for name, red in (("a.png", NG), ("b.png", NO_NUMBER), ("c.png", OK)):
        place.image(name, red)
    place.predict()
    assert [row[0] for row in boxes_of(place)] == ["a.png", "b.png", "c.png"]
    assert boxes_of(place)[1] == ["b.png", "", "", "", "", "not decided", ""]
    assert [row["boxes"] for row in place.rows] == ["1", "", "0"]
    assert [row["label"] for row in place.rows] == ["긁힘", "not decided", ""]


@pytest.mark.parametrize("change", [{"boxes": [{"xmin": 1}]}, {"decision": "maybe"}])
def test_a_line_that_no_detector_wrote_is_done_again(place, change):
    place.image("a.png")
    place.predict()
    (place.out / "predictions.jsonl").write_text(json.dumps(place.lines[0] | change), "utf-8")
    assert place.predict().done == 1
    assert place.lines[0]["decision"] == "NG"


def annotate(path: Path) -> None:
    write_voc(path, "a.png", (40, 30, 3), [[1, 2, 10, 20]], ["dust"])


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "where", ["결과/a.xml", "결과/xml/a.xml", "결과/line/A.XML", "a.xml", "결과/annotations.csv"]
)
def test_refuses_a_folder_of_annotations(place, where, restart):
    place.image("a.png")
    theirs = place.out.parent / where
    theirs.parent.mkdir(parents=True, exist_ok=True)
    if theirs.suffix == ".csv":
        theirs.write_text("image\n")
    else:
        annotate(theirs)
    before = theirs.read_bytes()
    with pytest.raises(InputError, match="output folder of its own"):
        place.predict(restart=restart)
    assert theirs.read_bytes() == before
    assert sorted(place.out.rglob("*.jsonl")) == []


def test_refuses_below_an_annotations_folder(place):
    place.image("a.png")
    (place.out.parent / "split.csv").write_text("image,group,part\n")
    place.out /= "deep/er"
    with pytest.raises(InputError, match=r"lies in an annotations folder .*split\.csv"):
        place.predict()


@pytest.mark.parametrize("restart", [False, True])
def test_a_prediction_that_a_human_corrected_is_never_touched(place, restart):
    place.image("a.png")
    place.predict()
    corrected = place.out / "xml" / "a.xml"
    corrected.write_text(corrected.read_text("utf-8").replace("<xmin>2<", "<xmin>4<"), "utf-8")
    before = corrected.read_bytes()
    with pytest.raises(InputError, match="a human changed"):
        place.predict(restart=restart)
    assert corrected.read_bytes() == before


def test_a_large_image_keeps_its_overlay_within_bounds(place):
    place.image("a.png", size=(5000, 20))
    place.predict()
    assert image_size(place.out / "overlays" / "a.jpg")[0] == 4096


def test_deep_images_are_read_with_the_models_bits(place):
    import cv2

    place.raw.mkdir()
    deep = np.full((30, 40), 2048, np.uint16)
    (place.raw / "a.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    detector = FakeDetector()
    detector.bits = 12
    place.predict(by=BoxPredictor(detector))
    assert place.lines[0]["score"] == pytest.approx(128 / 200)


def test_a_threshold_that_is_no_score_is_refused():
    with pytest.raises(InputError, match=r"--threshold 1\.5: must lie within 0 and 1"):
        BoxPredictor(FakeDetector(), 1.5)
