"""A folder of predictions is one model's, one process's, and gone on with after a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inspection.errors import InputError
from inspection.files.writing import file_hash
from inspection.prediction.folder import JOURNAL, RECORD, Owner, claimed, refuse_replaced
from tests.places import ROOT

OURS = Owner(room="anomaly", model_hash="ab" * 32, run="밤")


@pytest.fixture
def images(tmp_path) -> list[Path]:
    paths = [tmp_path / f"그림_{number}.png" for number in range(3)]
    for path in paths:
        path.write_bytes(b"x")
    return paths


def test_the_same_model_goes_on_where_it_was(tmp_path, images):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), claimed(out, OURS) as results:
        results.add(images[0], ["OK", "0.1"])
        results.add(images[1], ["not decided", ""], done=False)
        raise RuntimeError("killed")
    with (out / JOURNAL).open("a", encoding="utf-8") as file:
        file.write('{"file": "torn')
    images[2].write_bytes(b"xx")
    with claimed(out, OURS) as results:
        assert results.known(images[0]).row == ["OK", "0.1"]
        assert results.known(images[1]) is None, "what was not decided is asked again"
        results.add(images[1], ["NG", "0.9"])
        images[0].write_bytes(b"changed")
        assert results.known(images[0]) is None
    with claimed(out, OURS) as results:
        assert results.rows == [[str(images[0]), "OK", "0.1"], [str(images[1]), "NG", "0.9"]]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Owner(room="classification", model_hash=OURS.model_hash), "anomaly"),
        (Owner(room="anomaly", model_hash="cd" * 32), "--restart"),
        (Owner(room="anomaly"), "--restart"),
    ],
)
def test_what_another_model_wrote_is_refused(tmp_path, images, other, words):
    out = tmp_path / "out"
    with claimed(out, OURS) as results:
        results.add(images[0], ["OK", "0.1"])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError) as refused, claimed(out, other):
        pass
    assert words in str(refused.value)
    assert "밤" in str(refused.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    if other.room == OURS.room:
        with claimed(out, other, restart=True) as results:
            assert not results.rows
    else:
        with pytest.raises(InputError), claimed(out, other, restart=True):
            pass


def test_results_without_a_record_are_nobodys(tmp_path):
    (tmp_path / "predictions.csv").write_text("file,label\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"predictions\.csv"), claimed(tmp_path, OURS):
        pass
    (tmp_path / "predictions.csv").unlink()
    (tmp_path / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"), claimed(tmp_path, OURS):
        pass


def test_a_journal_names_nothing_outside(tmp_path, images):
    out = tmp_path / "out"
    with claimed(out, OURS) as results:
        results.add(images[0], ["OK", "1"], "heat_maps/a.jpg")
    text = (out / JOURNAL).read_text(encoding="utf-8")
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"mine")
    (out / JOURNAL).write_text(text.replace("heat_maps/a", "../victim"), encoding="utf-8")
    with claimed(out, OURS, restart=True):
        pass
    assert victim.exists()


def test_a_second_process_is_refused(tmp_path):
    code = (
        "import sys\n"
        "from inspection.prediction.folder import Owner, claimed\n"
        "from inspection.errors import InputError\n"
        "try:\n"
        "    with claimed(sys.argv[1], Owner(room='anomaly', model_hash='ab' * 32)): pass\n"
        "except InputError as error:\n"
        "    print(error); sys.exit(2)\n"
    )
    with claimed(tmp_path, OURS):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "is in use by process" in done.stdout


def test_a_model_that_a_training_replaced_meanwhile_is_not_recorded_as_the_old_one(tmp_path):
    model = tmp_path / "best.keras"
    model.write_bytes(b"old")
    owner = Owner(room="detection", model_hash=file_hash(model))
    refuse_replaced(model, owner)
    model.write_bytes(b"new")
    with pytest.raises(InputError, match="was replaced while it was being read"):
        refuse_replaced(model, owner)
