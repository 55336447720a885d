"""A folder of predictions is one process's, and its record the model's that decided."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from inspection.errors import InputError
from inspection.files.writing import file_hash
from inspection.prediction.journal import JOURNAL, Journal, Line, Owner, claimed, refuse_replaced
from tests.places import ROOT

OURS = Owner(room="anomaly", model_hash="ab" * 32, run="밤", settings={"threshold": 0.5})


def test_a_folder_without_a_known_model_is_nobodys_to_go_on_with(tmp_path):
    for first, second, words in (
        (OURS, Owner(room="anomaly"), r"this is anomaly \(an unknown model\)"),
        (Owner(room="anomaly"), Owner(room="anomaly"), "--restart"),
    ):
        folder = tmp_path / first.run
        with claimed(folder, first, Line, {}):
            pass
        with pytest.raises(InputError, match=words), claimed(folder, second, Line, {}):
            pass


def test_a_changed_setting_is_refused_by_name(tmp_path):
    with claimed(tmp_path, OURS, Line, {}):
        pass
    now = OURS.model_copy(update={"settings": {"threshold": None}})
    with (
        pytest.raises(InputError, match=r"model abab.*\), threshold was 0\.5, now none; give"),
        claimed(tmp_path, now, Line, {}),
    ):
        pass
    # Before the model is loaded nobody knows its threshold.
    with claimed(tmp_path, OURS.model_copy(update={"settings": {}}), Line, {}):
        pass


def test_a_second_process_is_refused(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from inspection.prediction.journal import JOURNAL, Journal, Line, Owner, claimed\n"
        "from inspection.errors import InputError\n"
        "try:\n"
        "    owner = Owner(room='anomaly', model_hash='ab' * 32)\n"
        "    with claimed(Path(sys.argv[1]), owner, Line, {}): pass\n"
        "except InputError as error:\n"
        "    print(error); sys.exit(2)\n"
    )
    with claimed(tmp_path, OURS, Line, {}):
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
    owner = Owner.of("detection", "밤", model)
    assert owner.model_hash == file_hash(model)
    refuse_replaced(model, owner)
    model.write_bytes(b"new")
    with pytest.raises(InputError, match="was replaced while it was being read"):
        refuse_replaced(model, owner)


def test_weights_beside_an_openvino_graph_are_part_of_the_model(tmp_path):
    graph, weights = tmp_path / "model.xml", tmp_path / "model.bin"
    graph.write_bytes(b"graph")
    weights.write_bytes(b"old")
    owner = Owner.of("detection", "", graph)
    weights.write_bytes(b"new")
    with pytest.raises(InputError, match="was replaced while it was being read"):
        refuse_replaced(graph, owner)


@pytest.mark.parametrize(
    "change",
    [
        {"score": None},
        {"score": None, "decision": "NG"},
        {"score": None, "done": False},
        {"decision": "=HYPERLINK(1)"},
        {"decision": "not decided"},
        {"decision": ""},
    ],
)
def test_an_image_whose_line_no_prediction_wrote_is_done_again(tmp_path, change):
    line = Line(image="0.png", score=0.1, decision="OK", file="/0.png", stem="0", state=[1, 2])
    path = tmp_path / JOURNAL
    path.write_text(line.model_dump_json() + "\n")
    assert Journal(tmp_path, Line).lines == {"/0.png": line}
    path.write_text(json.dumps(line.model_dump() | change) + "\n")
    assert not Journal(tmp_path, Line).lines


@pytest.mark.parametrize("change", [{"image": "1.png"}, {"stem": "1"}])
def test_two_images_under_one_name_are_done_again(tmp_path, change):
    lines = [
        Line(image=f"{i}.png", score=0.1, decision="OK", file=f"/{i}.png", stem=f"{i}", state=[1])
        for i in range(3)
    ]
    lines[0] = lines[0].model_copy(update=change)
    (tmp_path / JOURNAL).write_text("".join(line.model_dump_json() + "\n" for line in lines))
    assert list(Journal(tmp_path, Line).lines) == ["/2.png"]


def test_what_could_not_be_decided_has_no_score(tmp_path):
    for decision in ("NG", "not decided"):
        Line(image="0", decision=decision, file="/0", stem="0", state=[], done=False)
