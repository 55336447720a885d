"""`predict` is the same in every room: resumable, one model's, and it goes on past bad files."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from inspection.data.images import list_images
from inspection.errors import InputError
from inspection.prediction.folder import predict_folder
from inspection.prediction.journal import JOURNAL, RECORD
from tests.places import ROOT
from tests.rooms import NG, NO_NUMBER, OK, ROOMS, Place, fake, owner_of


@pytest.fixture(params=ROOMS)
def place(request, tmp_path):
    return Place(request.param, tmp_path)


@pytest.fixture
def any_place(tmp_path):
    """For what no room has a say in."""
    return Place("anomaly", tmp_path)


def stopping(room: str, after: int):
    """A predictor that is interrupted once its model has seen so many images."""
    predictor, batches = fake(room)
    decide = predictor.decide

    def until(images):
        if sum(batches) >= after:
            raise KeyboardInterrupt
        return decide(images)

    predictor.decide = until
    return predictor


@pytest.mark.parametrize("batch_size", [1, 3])
def test_one_table_in_the_order_given(place, batch_size):
    for name, red in (("웨이퍼 2.png", NG), ("웨이퍼 1.png", OK), ("a/줄.bmp", NG)):
        place.image(name, red)
    steps = []
    result = place.predict(
        place.raw / "웨이퍼 2.png",
        place.raw,
        batch_size=batch_size,
        on_progress=lambda *step: steps.append(step),
    )
    assert (result.done, result.skipped, result.problems) == (3, 0, ())
    assert result.decisions == {"OK": 1, "NG": 2}
    assert steps == [(count, 3) for count in range(4)]
    assert list(place.rows[0])[:3] == ["image", "score", "decision"]
    assert [row["image"] for row in place.rows] == ["웨이퍼 2.png", "a/줄.bmp", "웨이퍼 1.png"]
    assert [row["decision"] for row in place.rows] == ["NG", "NG", "OK"]
    assert [row["file"] for row in place.rows] == [line.file for line in result.lines]
    for row, line in zip(place.rows, result.lines, strict=True):
        assert Path(row["file"]) == place.raw / row["image"]
        assert float(row["score"]) == pytest.approx(line.score, rel=1e-8)
    assert place.all_drawn == place.drawings("웨이퍼 2", "웨이퍼 1", "a/줄")
    assert not (place.out / "problems.txt").exists()
    again = place.predict()
    assert (again.done, again.skipped, again.decisions) == (0, 3, result.decisions)


def test_a_killed_prediction_goes_on_and_ends_as_if_it_had_not_been(place):
    for index in range(6):
        place.image(f"{index}.png", red=100 + 10 * index)
    place.predict()
    whole, place.out = place.content, place.out.with_name("다시")
    done = subprocess.run(
        [sys.executable, "-m", "tests.rooms", place.room, place.raw, place.out, "4"],
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not (place.out / "predictions.csv").exists()
    for name, suffix in place.drawn.items():
        (place.out / name / f".5.abcdefgh{suffix}").write_bytes(b"half")
    predictor, batches = fake(place.room)
    steps = []
    result = place.predict(by=predictor, on_progress=lambda *step: steps.append(step))
    assert (result.skipped, result.done, sum(batches)) == (3, 3, 3)
    assert steps == [(count, 6) for count in range(3, 7)]
    assert place.content == whole


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_cannot_be_decided_is_listed_and_the_rest_goes_on(place, batch_size):
    place.image("a.png", OK)
    place.image("b.png", NO_NUMBER)
    (place.raw / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    place.image("d.png", NG)
    missing = place.raw / "missing.png"
    for _ in range(2):  # a second call does not forget it
        result = place.predict(place.raw, missing, batch_size=batch_size)
        assert result.decisions == {"OK": 1, "NG": 2, "not decided": 1}
        assert len(result.problems) == 3
        assert "missing.png" in result.problems[0]
        assert "b.png: 1" in result.problems[1]
        assert "not finite" in result.problems[1]
        assert "c.png: is no PNG" in result.problems[2]
        listed = (place.out / "problems.txt").read_text("utf-8")
        assert listed.splitlines() == list(result.problems)
        assert [row["decision"] for row in place.rows] == ["OK", "NG", "not decided", "NG"]
        assert [row["score"] == "" for row in place.rows] == [False, True, True, False]
        assert "nan" not in (place.out / "predictions.csv").read_text("utf-8").casefold()
        # A drawing without boxes or heat would say that the part is good.
        assert place.all_drawn == place.drawings("a", "d")
    for name in "bc":
        place.image(f"{name}.png", NG)
    result = place.predict(batch_size=batch_size)
    assert (result.done, result.skipped, result.problems) == (2, 2, ())
    assert not (place.out / "problems.txt").exists()
    assert place.all_drawn == place.drawings("a", "b", "c", "d")


def test_what_another_model_wrote_is_refused_until_restarted(place):
    place.image("a.png")
    place.image("b.png")
    place.predict()
    record = json.loads((place.out / RECORD).read_text(encoding="utf-8"))
    assert (record["room"], record["run"]) == (place.room, "밤")
    before = place.content
    with pytest.raises(InputError, match=rf"results of {place.room} \(run 밤, model abab.*restart"):
        place.predict(model="cd")
    other = next(room for room in ROOMS if room != place.room)
    for restart in (False, True):
        with pytest.raises(InputError, match=f"holds results of {place.room}"):
            predict_folder(fake(other)[0], [place.raw], place.out, owner_of(other), restart=restart)
    assert place.content == before
    (place.raw / "b.png").unlink()
    result = place.predict(model="cd", restart=True)
    assert (result.done, result.skipped) == (1, 0)
    assert [row["image"] for row in place.rows] == ["a.png"]
    assert place.all_drawn == place.drawings("a")


def test_what_an_older_program_began_is_refused_and_stays(place):
    """Its journal had another form in each room, so nothing of it could be gone on with."""
    place.image("a.png")
    place.out.mkdir()
    record = {"room": place.room, "model_hash": "ab" * 32, "run": "밤"}
    (place.out / RECORD).write_text(json.dumps(record), encoding="utf-8")
    (place.out / JOURNAL).write_text('{"file": "/a.png", "row": ["OK"]}\n', encoding="utf-8")
    before = place.content
    for restart in (False, True):
        with pytest.raises(InputError, match=r"another version of this tool.*another --output"):
            place.predict(restart=restart)
    assert place.content == before


def test_images_of_one_name_do_not_collide(place):
    for name in ("A/1.png", "A/1.jpg", "A/1.png.png", "B/1.png", "B/sub/1.bmp"):
        place.image(name)
    folders = place.raw / "A", place.raw / "B"
    assert place.predict(*folders, place.raw / "A" / "1.png").done == 5
    assert place.all_drawn == place.drawings("1", "1.png", "1.png.png", "B/1", "sub/1")
    names = {row["image"] for row in place.rows}
    assert names == {"1.jpg", "1.png", "1.png.png", "B/1.png", "sub/1.bmp"}
    # The same again, in another order and with one image more, keeps every name.
    place.image("C/1.png")
    result = place.predict(place.raw / "C", *reversed(folders))
    assert (result.done, result.skipped) == (1, 5)
    assert {row["image"] for row in place.rows} == names | {"C/1.png"}
    # Another call's images stand before.
    place.image("D/2.png")
    place.predict(place.raw / "D")
    assert (place.rows[0]["image"], place.rows[-1]["image"]) == ("1.jpg", "2.png")


def test_an_image_that_changed_or_lacks_a_drawing_is_done_again(place):
    path = place.image("a.png")
    for name in "bc":
        place.image(f"{name}.png")
    place.predict()
    place.image("a.png", OK, size=(50, 60))
    os.utime(path, (path.stat().st_mtime + 5,) * 2)
    for name in place.drawings("b"):
        (place.out / name).unlink()
    result = place.predict()
    assert (result.done, result.skipped) == ((2, 1) if place.drawn else (1, 2))
    assert [row["decision"] for row in place.rows] == ["OK", "NG", "NG"]
    assert place.all_drawn == place.drawings("a", "b", "c")


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"stem": "../../victim"},
        {"stem": "a/../../../victim"},
        {"stem": ""},
        {"stem": None},
        {"stem": "ABSOLUTE"},
        {"score": float("nan")},
        {"decision": None},
        {"state": "old"},
        {"more": 1},
    ],
)
def test_a_journal_that_no_prediction_wrote_touches_nothing_outside(place, change, restart):
    path = place.image("a.png")
    place.predict()
    victims = [place.out.parent / f"victim{suffix}" for suffix in (".xml", ".jpg")]
    for victim in victims:
        victim.write_bytes(b"precious")
    if change.get("stem") == "ABSOLUTE":
        change = {"stem": str(place.out.parent / "victim")}
    lines = [json.dumps(place.lines[0] | change), "[" * 100_000, '{"image": 1}', "null", '"text"']
    (place.out / JOURNAL).write_text("\n".join(lines), "utf-8")
    os.utime(path, (path.stat().st_mtime + 5,) * 2)  # else nothing of it would be removed
    result = place.predict(restart=restart)
    assert (result.done, result.problems) == (1, ())
    assert [line["decision"] for line in place.lines] == ["NG"]
    assert all(victim.read_bytes() == b"precious" for victim in victims)


def test_an_interrupted_run_leaves_a_table_of_what_is_done(place):
    for index in range(6):
        place.image(f"{index}.png")
    with pytest.raises(KeyboardInterrupt):
        place.predict(by=stopping(place.room, after=4))
    assert [row["image"] for row in place.rows] == [line["image"] for line in place.lines]
    assert 0 < len(place.rows) < 6


def test_an_interrupted_run_says_nothing_of_an_image_that_changed(place):
    path = place.image("a.png")
    place.predict()
    os.utime(path, (path.stat().st_mtime + 5,) * 2)
    with pytest.raises(KeyboardInterrupt):
        place.predict(by=stopping(place.room, after=0))
    assert place.rows == []
    assert place.all_drawn == set()
    assert place.predict().done == 1


def test_a_score_that_is_no_finite_number_is_a_reject_whatever_the_room_says(place):
    place.image("a.png", OK)
    predictor, _ = fake(place.room)
    decide = predictor.decide
    predictor.decide = lambda images: [
        replace(answer, score=float("inf"), decision="OK") for answer in decide(images)
    ]
    assert place.predict(by=predictor).decisions == {"NG": 1}
    assert place.rows[0]["score"] == ""


def test_two_predictions_into_one_folder_lose_nothing(any_place):
    """The second is refused while the first runs, and goes on with what that did."""
    place = any_place
    for name in "ab":
        place.image(f"{name}.png")
    predictor, _ = fake(place.room)
    decide, refused = predictor.decide, []

    def meanwhile(images):
        for restart in (True, False):
            with pytest.raises(InputError) as caught:
                place.predict(restart=restart)
            refused.append(str(caught.value))
        return decide(images)

    predictor.decide = meanwhile
    assert place.predict(by=predictor).done == 2
    assert len(refused) == 4
    assert all(f"is in use by process {os.getpid()} on" in text for text in refused)
    assert len(place.lines) == 2
    assert not (place.out / "prediction.lock").exists()
    assert place.predict().skipped == 2


def test_reads_the_next_image_while_the_model_runs(place):
    for index in range(4):
        place.image(f"{index}.png")
    read = threading.Semaphore(0)
    predictor, batches = fake(place.room)
    look, decide = predictor.read, predictor.decide

    def counted(path):
        image = look(path)
        read.release()
        return image

    def waiting(images):
        # The second image arrives while the first is decided, or never.
        assert read.acquire(timeout=10)
        if not batches:
            assert read.acquire(timeout=10)
            read.release()
        return decide(images)

    predictor.read, predictor.decide = counted, waiting
    assert place.predict(by=predictor).done == 4


def test_an_output_that_cannot_be_written_is_said(any_place, monkeypatch):
    place = any_place
    for name in "ab":
        place.image(f"{name}.png")

    def full(path, rgb):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("anomaly.prediction.files.write_image", full)
        with pytest.raises(InputError, match=r"No space left on device.*finished images are kept"):
            place.predict()
    assert place.predict().done == 2


def test_nothing_to_predict_is_an_error(place):
    place.raw.mkdir()
    with pytest.raises(InputError, match="no such file or folder"):
        place.predict(place.raw / "typo")
    with pytest.raises(InputError, match="holds no "):
        place.predict()
    with pytest.raises(InputError, match="--batch-size 0"):
        place.predict(batch_size=0)
    assert not place.out.exists()


def test_names_that_are_not_utf8_are_refused_before_anything_is_predicted(place):
    place.image("a.png")
    bad = Path(os.fsdecode(os.fsencode(place.raw) + b"/\xb1\xdc.png"))
    bad.write_bytes((place.raw / "a.png").read_bytes())
    predictor, batches = fake(place.room)
    for paths in ([place.raw], [bad]):
        with pytest.raises(InputError, match="1 name is not UTF-8"):
            place.predict(*paths, by=predictor)
    assert not batches
    assert not place.out.exists()


def test_what_was_drawn_below_the_images_is_no_image(place):
    place.image("a.png")
    place.out = place.raw / "out"
    place.predict()
    result = place.predict()
    assert (result.done, result.skipped) == (0, 1)
    assert len(list_images(place.raw)) == 1 + sum(s == ".jpg" for s in place.drawn.values())


def test_names_are_no_formulas_in_the_table(place):
    place.image("=a.png")
    place.predict()
    assert place.rows[0]["image"] == "'=a.png"
    assert place.lines[0]["image"] == "=a.png"


def test_results_without_a_record_are_nobodys(place):
    place.image("a.png")
    (place.out / "overlays").mkdir(parents=True)
    (place.out / "predictions.csv").write_text("file,label\n", encoding="utf-8")
    before = place.content
    for restart in (False, True):
        with pytest.raises(InputError, match=rf"predictions\.csv, overlays, and no {RECORD}"):
            place.predict(restart=restart)
    assert place.content == before
    (place.out / "predictions.csv").unlink()
    (place.out / "overlays").rmdir()
    for text in ("{", "[]", "null", '{"room": 1}', '{"version": 1e999}'):
        (place.out / RECORD).write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="is damaged"):
            place.predict()


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    ("verb", "same"),
    [
        ("train", {"--config", "--resume", "--run", "--name", "--runs", "--snapshots", "--seed"}),
        ("train", {"--size", "--fit", "--bits", "--weights", "--fractions", "--group-by"}),
        ("train", {"--target-miss"}),
        ("evaluate", {"--split", "--output"}),
        ("predict", {"--output", "--restart", "--batch-size"}),
        ("export", {"--format", "--images", "--output"}),
    ],
)
def test_every_room_takes_the_same_options(room, verb, same):
    app = importlib.import_module(f"{room}.cli").app
    options = {name for one in get_command(app).commands[verb].params for name in one.opts}
    assert same <= options
