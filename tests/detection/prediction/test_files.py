import csv
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from detection.prediction.files import predict_files
from inspection.data.images import image_size, list_images, read_image, write_image
from inspection.data.voc import read_voc, write_voc
from inspection.decisions.operating_point import DEFECTIVE, NORMAL, OperatingPoint, Rate
from inspection.errors import InputError
from inspection.finite import check_finite
from inspection.prediction.detections import Detections

BOX = [2.25, 3.0, 12.5, 13.0]


class FakeDetector:
    """Finds one box with the score red / 200, and a weak one; a black picture holds nothing."""

    classes = ("긁힘", "dust")
    bits = 16

    def __init__(self, operating_point=None, stop_after=None):
        self.operating_point = operating_point
        self.stop_after = stop_after
        self.batches: list[int] = []

    @property
    def seen(self) -> int:
        return sum(self.batches)

    def predict_batch(self, pictures):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(len(pictures))
        return [self._detections(picture) for picture in pictures]

    def _detections(self, picture):
        assert picture.dtype == np.uint8
        score = float(picture[0, 0, 0]) / 200
        if not score:
            return Detections([], [], ())
        return Detections([BOX, [0, 0, 5, 5]], [score, 0.1], self.classes)


class BrokenDetector(FakeDetector):
    """Gives no finite numbers for a picture of this red."""

    def __init__(self, red, **options):
        super().__init__(**options)
        self.red = red

    def _detections(self, picture):
        check_finite(logits=np.nan if picture[0, 0, 0] == self.red else 0.0)
        return super()._detections(picture)


class Place:
    """A folder of pictures and an output folder."""

    def __init__(self, root: Path) -> None:
        self.raw, self.out = root / "사진", root / "out"

    def picture(self, name: str, red: int = 180, size: tuple[int, int] = (40, 30)) -> Path:
        rgb = np.zeros((size[1], size[0], 3), np.uint8)
        rgb[..., 0] = red
        write_image(self.raw / name, rgb)
        return self.raw / name

    def predict(self, *paths: Path, detector=None, **options):
        return predict_files(detector or FakeDetector(), paths or [self.raw], self.out, **options)

    @property
    def rows(self) -> list[list[str]]:
        with (self.out / "detections.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))[1:]

    @property
    def records(self) -> dict[str, dict]:
        lines = (self.out / "detections.jsonl").read_text("utf-8").splitlines()
        records = {record["image"]: record for record in map(json.loads, lines)}
        assert len(records) == len(lines)
        return records

    def files(self, folder: str) -> set[str]:
        paths = (self.out / folder).rglob("*")
        return {p.relative_to(self.out / folder).as_posix() for p in paths if p.is_file()}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def point(threshold: float, review: float | None = None) -> OperatingPoint:
    rates = Rate(0, 10, DEFECTIVE), Rate(0, 10, NORMAL)
    return OperatingPoint(threshold, "test", 0.0, *rates, review_threshold=review)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_is_no_finite_number_is_a_reject_and_the_rest_goes_on(place, batch_size):
    for name, red in (("a.png", 180), ("b.png", 140), ("c.png", 0)):
        place.picture(name, red)
    for _ in range(2):  # a second call does not forget it
        detector = BrokenDetector(140)
        result = place.predict(detector=detector, batch_size=batch_size)
        assert result.decisions == {"OK": 1, "review": 0, "NG": 2}
        (problem,) = result.problems
        assert str(place.raw / "b.png") in problem
        assert "not finite" in problem
        assert {name: place.records[name]["decision"] for name in place.records} == {
            "a.png": "NG",
            "b.png": "NG",
            "c.png": "OK",
        }
        assert place.records["b.png"]["score"] is None
        assert place.rows[1] == ["b.png", "", "", "", "", "not decided", ""]
        # An XML or overlay without boxes would say that the part is good.
        assert place.files("xml") == {"a.xml", "c.xml"}
        assert place.files("overlays") == {"a.jpg", "c.jpg"}
    result = place.predict(batch_size=batch_size)  # another time the network may be sound
    assert (result.done, result.skipped, result.problems) == (1, 2, ())
    assert place.rows[1][5] == FakeDetector.classes[0]


def test_writes_every_format_in_the_files_own_pixels(place):
    place.picture("웨이퍼 1.png", size=(80, 40))
    place.picture("line2/clean.bmp", red=0)
    steps = []
    result = place.predict(on_progress=lambda *step: steps.append(step))
    assert (result.done, result.skipped, result.problems) == (2, 0, ())
    assert result.decisions == {"OK": 1, "review": 0, "NG": 1}
    assert steps == [(0, 2), (1, 2), (2, 2)]
    assert place.rows == [
        ["line2/clean.bmp", "", "", "", "", "", ""],
        ["웨이퍼 1.png", "2.25", "3", "12.5", "13", "긁힘", "0.900000"],
    ]
    record = place.records["웨이퍼 1.png"]
    assert (record["width"], record["height"], record["decision"]) == (80, 40, "NG")
    assert record["score"] == pytest.approx(0.9)
    assert [record["boxes"][0][edge] for edge in ("xmin", "ymin", "xmax", "ymax")] == BOX
    assert place.records["line2/clean.bmp"]["decision"] == "OK"
    assert place.records["line2/clean.bmp"]["score"] == 0
    voc = read_voc(place.out / "xml" / "웨이퍼 1.xml")
    assert (voc.filename, voc.width, voc.height) == ("웨이퍼 1.png", 80, 40)
    assert voc.xyxy.tolist() == [[2, 3, 13, 13]]
    assert Path(voc.image_path) == place.raw / "웨이퍼 1.png"
    assert read_voc(place.out / "xml" / "line2" / "clean.xml").objects == ()
    assert place.files("overlays") == {"웨이퍼 1.jpg", "line2/clean.jpg"}
    overlay = read_image(place.out / "overlays" / "웨이퍼 1.jpg")
    assert overlay.shape == (320, 640, 3)  # small pictures are enlarged
    assert len(np.unique(overlay.reshape(-1, 3), axis=0)) > 10
    assert not (place.out / "problems.txt").exists()


def test_only_the_wanted_formats_are_written(place):
    place.picture("a.png")
    place.predict(formats=("csv",))
    assert {path.name for path in place.out.iterdir()} == {
        "detections.csv",
        "detections.jsonl",
        "prediction.json",
        "settings.json",
    }


def test_formats_added_later_need_no_second_prediction(place):
    place.picture("a.png")
    place.predict(formats=("jsonl",))
    detector = FakeDetector()
    result = place.predict(detector=detector)
    assert (result.skipped, detector.seen) == (1, 0)
    assert place.files("xml") == {"a.xml"}
    assert place.files("overlays") == {"a.jpg"}


@pytest.mark.parametrize(
    ("options", "boxes", "decision"),
    [
        ({}, 1, "NG"),
        ({"threshold": 0.95}, 0, "OK"),
        ({"threshold": 0.05}, 2, "NG"),
        ({"detector": FakeDetector(point(0.95))}, 0, "OK"),
        ({"detector": FakeDetector(point(0.95)), "threshold": 0.9}, 1, "NG"),
        ({"detector": FakeDetector(point(0.95, review=0.5))}, 0, "review"),
    ],
)
def test_threshold_is_the_given_one_else_the_models_else_half(place, options, boxes, decision):
    place.picture("a.png", red=181)
    place.predict(**options)
    assert len(place.records["a.png"]["boxes"]) == boxes
    assert place.records["a.png"]["decision"] == decision


def test_a_score_just_under_the_threshold_is_neither_ng_nor_written(place):
    place.picture("a.png", red=140)  # float32(.7) lies under .7
    place.predict(threshold=0.7)
    assert place.records["a.png"]["decision"] == "OK"
    assert place.records["a.png"]["boxes"] == []


def test_pictures_of_one_name_do_not_collide(place):
    for name in ("A/1.png", "A/1.jpg", "A/1.png.png", "B/1.png", "B/sub/1.bmp"):
        place.picture(name)
    folders = place.raw / "A", place.raw / "B"
    assert place.predict(*folders, place.raw / "A" / "1.png").done == 5
    assert place.files("xml") == {"1.xml", "1.png.xml", "1.png.png.xml", "B/1.xml", "sub/1.xml"}
    assert len(place.files("overlays")) == 5
    assert set(place.records) == {"1.jpg", "1.png", "1.png.png", "B/1.png", "sub/1.bmp"}
    # The same again, in another order and with one picture more, keeps every name.
    before = place.records
    place.picture("C/1.png")
    result = place.predict(place.raw / "C", *reversed(folders))
    assert (result.done, result.skipped) == (1, 5)
    assert place.records == before | {"C/1.png": place.records["C/1.png"]}


def test_goes_on_past_unreadable_files_and_lists_them(place):
    place.picture("a.png")
    place.picture("c.png")
    (place.raw / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    missing = place.raw / "missing.png"
    result = place.predict(place.raw, missing, batch_size=2)
    assert result.done == 2
    assert len(result.problems) == 2
    listed = (place.out / "problems.txt").read_text("utf-8")
    assert listed.splitlines() == list(result.problems)
    assert "b.png" in listed
    assert "missing.png" in listed
    place.picture("b.png")
    again = place.predict()
    assert (again.done, again.skipped, again.problems) == (1, 2, ())
    assert not (place.out / "problems.txt").exists()


def test_nothing_to_predict_is_an_error(place):
    place.raw.mkdir()
    with pytest.raises(InputError, match="no such file or folder"):
        place.predict(place.raw / "typo")
    with pytest.raises(InputError, match="holds no PNG"):
        place.predict()
    assert not place.out.exists()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_goes_on_where_it_was_killed(place, batch_size):
    for index in range(8):
        place.picture(f"{index}.png", red=100 + 10 * index)
    with pytest.raises(KeyboardInterrupt):
        place.predict(detector=FakeDetector(stop_after=5), batch_size=batch_size)
    # A kill -9 leaves a torn line, half-written files, and no CSV.
    journal = place.out / "detections.jsonl"
    done = len(journal.read_bytes().splitlines())
    with journal.open("ab") as file:
        file.write('{"image": "웨'.encode()[:-1])
    (place.out / "overlays" / ".7.abc.jpg").write_bytes(b"half")
    (place.out / "detections.csv").unlink()
    detector = FakeDetector()
    steps = []
    result = place.predict(
        detector=detector, batch_size=batch_size, on_progress=lambda *step: steps.append(step)
    )
    assert (result.skipped, result.done, detector.seen) == (done, 8 - done, 8 - done)
    assert 0 < done < 8
    assert steps[0] == (done, 8)
    assert steps[-1] == (8, 8)
    assert len(place.records) == 8
    assert [row[0] for row in place.rows] == [f"{index}.png" for index in range(8)]
    assert place.files("overlays") == {f"{index}.jpg" for index in range(8)}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"stem": "../../victim"},
        {"stem": "a/../../../victim"},
        {"stem": ""},
        {"stem": None},
        {"stem": ["a"]},
        {"score": float("nan")},
        {"boxes": [{"xmin": 1}]},
        {"state": "old"},
        {"decision": "maybe"},
    ],
)
def test_a_journal_that_no_prediction_wrote_touches_nothing_outside(place, change, restart):
    path = place.picture("a.png")
    place.predict()
    for name in ("victim.xml", "victim.jpg"):
        (place.out.parent / name).write_bytes(b"precious")
    record = json.loads((place.out / "detections.jsonl").read_text("utf-8")) | change
    (place.out / "detections.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    os.utime(path, (path.stat().st_mtime + 5,) * 2)  # else nothing of it would be removed
    result = place.predict(resume=not restart)
    assert (result.done, result.problems) == (1, ())
    assert place.records["a.png"]["decision"] == "NG"
    for name in ("victim.xml", "victim.jpg"):
        assert (place.out.parent / name).read_bytes() == b"precious"


def test_an_absolute_stem_is_not_followed(place, tmp_path):
    path = place.picture("a.png")
    place.predict()
    (tmp_path / "victim.jpg").write_bytes(b"precious")
    record = json.loads((place.out / "detections.jsonl").read_text("utf-8"))
    record["stem"] = str(tmp_path / "victim")
    lines = [json.dumps(record), "[" * 100_000, '{"image": 1}', "null", '"text"']
    (place.out / "detections.jsonl").write_text("\n".join(lines), "utf-8")
    os.utime(path, (path.stat().st_mtime + 5,) * 2)
    assert place.predict().done == 1
    assert (tmp_path / "victim.jpg").read_bytes() == b"precious"


def test_two_predictions_into_one_folder_lose_nothing(place):
    """The second is refused while the first runs, and goes on with what that did."""
    place.picture("a.png")
    place.picture("b.png")
    refused = []

    class Meanwhile(FakeDetector):
        def predict_batch(self, pictures):
            for resume in (True, False):
                with pytest.raises(InputError) as caught:
                    place.predict(resume=resume)
                refused.append(str(caught.value))
            return super().predict_batch(pictures)

    assert place.predict(detector=Meanwhile()).done == 2
    assert all(f"is in use by process {os.getpid()} on" in text for text in refused)
    assert len(place.records) == 2
    assert not (place.out / "prediction.lock").exists()
    assert place.predict().skipped == 2


def test_an_interrupted_run_leaves_a_table_of_what_is_done(place):
    for index in range(6):
        place.picture(f"{index}.png")
    with pytest.raises(KeyboardInterrupt):
        place.predict(detector=FakeDetector(stop_after=4))
    assert len(place.rows) == len(place.records) > 0


def test_a_changed_picture_is_done_again(place):
    path = place.picture("a.png")
    place.picture("b.png")
    place.predict()
    place.picture("a.png", red=0, size=(50, 60))
    os.utime(path, (path.stat().st_mtime + 5,) * 2)
    result = place.predict()
    assert (result.done, result.skipped) == (1, 1)
    assert (place.records["a.png"]["width"], place.records["a.png"]["decision"]) == (50, "OK")
    assert len(place.records) == 2
    assert read_voc(place.out / "xml" / "a.xml").objects == ()


def test_a_changed_model_or_threshold_is_refused_until_restarted(place):
    place.picture("a.png")
    place.picture("b.png")
    place.predict(model_hash="one")
    before = {path: path.read_bytes() for path in place.out.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"model was another one; threshold was 0\.5, now 0\.3"):
        place.predict(model_hash="two", threshold=0.3)
    assert {path: path.read_bytes() for path in before} == before
    (place.raw / "b.png").unlink()
    result = place.predict(model_hash="two", threshold=0.3, resume=False)
    assert (result.done, result.skipped) == (1, 0)
    assert set(place.records) == {"a.png"}
    assert place.files("xml") == {"a.xml"}
    assert place.files("overlays") == {"a.jpg"}


def annotate(path: Path) -> None:
    write_voc(path, "a.png", (40, 30, 3), [[1, 2, 10, 20]], ["dust"])


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "where", ["out/a.xml", "out/xml/a.xml", "out/line/A.XML", "a.xml", "out/annotations.csv"]
)
def test_refuses_a_folder_of_annotations(place, where, resume):
    place.picture("a.png")
    theirs = place.out.parent / where
    theirs.parent.mkdir(parents=True, exist_ok=True)
    if theirs.suffix == ".csv":
        theirs.write_text("image\n")
    else:
        annotate(theirs)
    before = theirs.read_bytes()
    with pytest.raises(InputError, match="output folder of its own"):
        place.predict(resume=resume)
    assert theirs.read_bytes() == before
    assert sorted(place.out.rglob("*.jsonl")) == []


def test_refuses_below_an_annotations_folder(place):
    place.picture("a.png")
    (place.out.parent / "split.csv").write_text("image,group,part\n")
    place.out /= "deep/er"
    with pytest.raises(InputError, match=r"lies in an annotations folder .*split\.csv"):
        place.predict()


@pytest.mark.parametrize("resume", [True, False])
def test_a_prediction_that_a_human_corrected_is_never_touched(place, resume):
    place.picture("a.png")
    place.predict()
    corrected = place.out / "xml" / "a.xml"
    corrected.write_text(corrected.read_text("utf-8").replace("<xmin>2<", "<xmin>4<"), "utf-8")
    before = corrected.read_bytes()
    with pytest.raises(InputError, match="a human changed"):
        place.predict(resume=resume)
    assert corrected.read_bytes() == before


def test_refuses_results_that_are_not_its_own(place):
    place.picture("a.png")
    (place.out / "overlays").mkdir(parents=True)
    write_image(place.out / "overlays" / "a.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="overlays that predict did not write"):
        place.predict()


def test_refuses_what_another_room_wrote_and_says_whose_its_own_are(place):
    place.picture("a.png")
    place.out.mkdir()
    (place.out / "predictions.csv").write_text("image,decision,score\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"predictions\.csv"):
        place.predict()
    assert [path.name for path in place.out.iterdir()] == ["predictions.csv"]
    (place.out / "predictions.csv").unlink()
    place.predict(model_hash="ab12", run="밤")
    record = json.loads((place.out / "prediction.json").read_text(encoding="utf-8"))
    assert record == {"room": "detection", "model_hash": "ab12", "run": "밤"}


def test_overlays_below_the_pictures_are_no_pictures(place):
    place.picture("a.png")
    place.out = place.raw / "out"
    place.predict()
    result = place.predict()
    assert (result.done, result.skipped) == (0, 1)
    assert len(list_images(place.raw)) == 2


def test_reads_the_next_picture_while_the_network_runs(place, monkeypatch):
    for index in range(4):
        place.picture(f"{index}.png")
    read = threading.Semaphore(0)

    def counted(path, bits):
        rgb = read_image(path, bits)
        read.release()
        return rgb

    class Waiting(FakeDetector):
        def predict_batch(self, pictures):
            # The second picture arrives during the first's forward pass, or never.
            assert read.acquire(timeout=10)
            if not self.batches:
                assert read.acquire(timeout=10)
                read.release()
            return super().predict_batch(pictures)

    monkeypatch.setattr("detection.prediction.files.read_image", counted)
    assert place.predict(detector=Waiting()).done == 4


def test_an_unwritable_output_is_said(place, monkeypatch):
    place.picture("a.png")
    place.picture("b.png")

    def full(path, rgb):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("detection.prediction.folder.write_image", full)
        with pytest.raises(InputError, match="No space left on device"):
            place.predict()
    assert place.predict().done == 2


def test_bad_options_are_listed_at_once(place):
    with pytest.raises(InputError) as caught:
        place.predict(threshold=1.5, formats=("csv", "yolo"), batch_size=0)
    assert len(caught.value.problems) == 3


def test_a_large_picture_keeps_its_overlay_within_bounds(place):
    place.picture("a.png", size=(5000, 20))
    place.predict(formats=("overlay",))
    assert image_size(place.out / "overlays" / "a.jpg")[0] == 4096


def test_deep_pictures_are_read_with_the_models_bits(place):
    import cv2

    place.raw.mkdir()
    deep = np.full((30, 40), 4095, np.uint16)
    (place.raw / "a.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    detector = FakeDetector()
    detector.bits = 12
    place.predict(detector=detector)
    assert place.records["a.png"]["score"] == pytest.approx(255 / 200)


def test_names_that_are_not_utf8_are_refused_before_anything_is_predicted(place):
    place.picture("a.png")
    bad = Path(os.fsdecode(os.fsencode(place.raw) + b"/\xb1\xdc.png"))
    bad.write_bytes((place.raw / "a.png").read_bytes())
    detector = FakeDetector()
    for paths in ([place.raw], [bad]):
        with pytest.raises(InputError, match="1 name is not UTF-8"):
            place.predict(*paths, detector=detector)
    assert detector.seen == 0
    assert not place.out.exists()


def test_names_are_no_formulas_in_the_table(place):
    place.picture("=a.png")
    place.predict()
    assert place.rows[0][0] == "'=a.png"
    assert list(place.records) == ["=a.png"]
