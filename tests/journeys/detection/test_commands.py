"""The commands as they are typed: what they print, write and exit with."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from detection.cli import app
from detection.settings import TrainSettings
from inspection.cli.console import console
from inspection.data.images import read_image, write_image
from inspection.data.split import Split, load_split, save_split
from inspection.data.voc import read_voc
from inspection.settings import save_settings
from tests.conftest import CLASSES, SmallSet
from tests.places import ROOT

LABEL_VERBS = ["label", "resize", "convert", "check", "split", "anchors", "show"]
MODEL_VERBS = ["train", "evaluate", "predict", "export"]
TINY = ["--backbone", "resnet18", "--weights", "none", "--channels", "32", "--size", "64"]


def typed(*arguments: object) -> tuple[int, str]:
    """Exit status and everything printed."""
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def folders(data: SmallSet) -> list[object]:
    return ["--annotations", data.annotations, "--images", data.images]


def test_help_lists_the_verbs_in_the_order_of_the_work():
    status, text = typed("--help")
    assert status == 0
    places = [text.index(f" {verb} ") for verb in LABEL_VERBS + MODEL_VERBS]
    assert places == sorted(places)


@pytest.mark.parametrize("script", ["train_retinanet.py", "evaluate_map.py"])
def test_scripts_answer_from_any_folder(script, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / script, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "--images" in done.stdout


def test_labels_to_csv_and_back(small_set, tmp_path):
    status, text = typed("convert", *folders(small_set))
    assert status == 0, text
    table = small_set.annotations / "annotations.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["label"]) for row in rows) == 16
    assert sum(not row["label"] for row in rows) == 3
    status, text = typed(
        "convert", "--csv", table, "--images", small_set.images, "--xml", tmp_path / "다시"
    )
    assert status == 0, text
    for path in small_set.annotations.glob("*.xml"):
        assert read_voc(tmp_path / "다시" / path.name).objects == read_voc(path).objects


def test_rows_by_hand_survive_and_are_not_overwritten(small_set):
    typed("convert", *folders(small_set))
    table = small_set.annotations / "annotations.csv"
    (small_set.annotations / "train_00.xml").unlink()
    lines = table.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if "train_00" not in line] + ["train_00.png,1,2,30,40,dot,0,"]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    status, text = typed("convert", *folders(small_set))
    assert status == 0, text
    assert "train_00.png,1,2,30,40,dot,0," in table.read_text(encoding="utf-8")
    before = table.read_bytes()
    for flags in (["--csv", table], ["--one-based"]):
        status, text = typed("convert", *folders(small_set), *flags)
        assert (status, "--output" in text) == (2, True), text
    assert table.read_bytes() == before


def test_what_cannot_be_written_is_a_sentence(small_set):
    status, text = typed("convert", *folders(small_set), "--output", "/dev/null/x.csv")
    assert status == 2
    assert "/dev/null" in text


def test_check_exits_2_only_when_something_is_wrong(small_set):
    status, text = typed("check", *folders(small_set))
    assert (status, "0 problems" in text) == (0, True), text
    half = small_set.images / "train_01.png"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    broken = next(small_set.annotations.glob("train_00.xml"))
    broken.write_text(broken.read_text(encoding="utf-8").replace("<name>dot", "<name> Dot"))
    next(small_set.images.glob("val_*")).unlink()
    status, text = typed("check", *folders(small_set))
    assert status == 2
    assert "train_00.xml" in text
    assert "train_01.png" in text
    assert "val_08" in text


def test_split_counts_and_stays(small_set):
    status, text = typed("split", *folders(small_set))
    assert status == 0, text
    assert "hash" in text
    again = typed("split", *folders(small_set), "--seed", 9)
    assert again == (status, text)


def test_anchors_table_and_page(small_set, tmp_path):
    status, text = typed("anchors", *folders(small_set), "--size", 96)
    assert status == 0, text
    assert "paper" in text
    assert "fitted" in text
    config = tmp_path / "설정.yaml"
    settings = {"annotations": str(small_set.annotations), "images": str(small_set.images)}
    config.write_text(yaml.safe_dump(settings | {"size": 96, "augment": "heavy"}))
    page = tmp_path / "page.html"
    status, text = typed("show", "--config", config, "--output", page, "--limit", 2)
    assert status == 0, text
    assert page.read_text(encoding="utf-8").count("data:image/") >= 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--images", "absent", "--annotations", "absent"], "absent"),
        (["train", "--backbone", "resnet19"], "--backbone"),
        (["train", "--size", "8", "--augment", "much"], "--augment"),
        (["train", "--batch-size", "0"], "--batch-size"),
        (["train", "--fractions", "1,2"], "--fractions"),
        (["train", "--resume", "--snapshots", "absent"], "absent"),
        (["evaluate", "absent.keras"], "absent.keras"),
        (["evaluate", "absent.keras", "--split", "tset"], "--split tset"),
        (["evaluate", "."], "best.keras: there is no such snapshot"),
        (["predict", "absent.png", "--model", "absent.keras"], "absent.keras"),
        (["predict", "absent.png", "--threshold", "2"], "--threshold"),
        (["export", "absent.keras"], "absent.keras"),
        (["resize", "absent"], "absent"),
        (["resize", ".", "--fit", "crop"], "--fit"),
        (["check", "--annotations", "absent", "--images", "absent"], "absent"),
        (["split", "--unlabelled", "good", "--images", "."], "unlabelled"),
        (["convert", "--csv", "absent.csv", "--images", "."], "absent.csv"),
        (["show", "--config", "absent.yaml"], "absent.yaml"),
        (["anchors", "--images", "absent"], "absent"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, text = typed(*arguments)
    assert status == 2, text
    assert words in text
    assert "Traceback" not in text
    assert not list(tmp_path.rglob("*")), "a refused command leaves nothing behind"


def test_a_resume_with_another_setting_is_refused_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "run").mkdir()
    save_settings(TrainSettings(batch_size=2), tmp_path / "run" / "settings.yaml")
    code = "import sys; sys.modules['tensorflow'] = None; from detection.cli import app; app()"
    words = ["train", "--resume", "--snapshots", str(tmp_path), "--batch-size", "4"]
    for run in ([], ["--run", "run"]):
        (tmp_path / "run" / "state.json").touch()
        done = subprocess.run(
            [sys.executable, "-c", code, *words, *run], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 2, done.stderr
        assert "--batch-size 4: this run was started with 2" in done.stderr + done.stdout


def test_promote_trains_nothing_and_takes_no_other_flag(tmp_path):
    status, text = typed("train", "--promote", "밤", "--epochs", 3, "--resume")
    assert status == 2
    assert "--epochs: --promote trains nothing" in text
    assert "--resume: --promote trains nothing" in text
    status, text = typed("train", "--promote", "밤", "--snapshots", tmp_path)
    assert status == 2
    assert "there is no" in text


def test_from_labels_to_report_and_predictions(small_set, tmp_path):
    """The whole work of a user, with the smallest network and one step."""
    (small_set.annotations / "test_10.xml").unlink()  # normal by being without boxes
    status, text = typed(
        *("train", *folders(small_set), *TINY, "--snapshots", small_set.snapshots),
        *("--run", "밤", "--epochs", 1, "--steps", 1, "--batch-size", 2, "--augment", "none"),
        *("--unlabelled", "normal"),
    )
    assert status == 0, text
    best = small_set.snapshots / "best.keras"
    assert str(best) in text.replace("\n", "")
    # Labels are read as in training, and its own folders do not make other images of them.
    for given in ([], folders(small_set)):
        status, text = typed("evaluate", best, *given)
        assert status == 0, text
        assert "mAP" in text
        with (best.parent / "evaluation_test/images.csv").open(encoding="utf-8") as file:
            assert [row["image"] for row in csv.DictReader(file)] == ["test_10.png"]
    status, text = typed("evaluate", best, "--split", "all", *folders(small_set))
    assert status == 0, text
    for name in CLASSES:
        assert f"instances of class {name} with average precision: " in text
    assert "11 of 11 images are the run's" in " ".join(text.split())
    # A copy of the training's folder is still the training's, and new labels are left out.
    copy = SmallSet(tmp_path / "a", tmp_path / "i", tmp_path / "s")
    shutil.copytree(small_set.annotations, copy.annotations)
    shutil.copytree(small_set.images, copy.images)
    write_image(copy.images / "new.png", read_image(copy.images / "train_00.png")[::-1])
    xml = (copy.annotations / "train_00.xml").read_text(encoding="utf-8")
    (copy.annotations / "new.xml").write_text(xml.replace("train_00", "new"), encoding="utf-8")
    status, text = typed("evaluate", best, *folders(copy), "--iou", 0.75)
    assert status == 0, text
    assert "1 is another and left out" in " ".join(text.split())
    assert "AP@.75" in text
    assert "AP@.5 " not in text
    # A run that was moved, and whose stored split was made anew since, keeps its own.
    moved = shutil.copytree(small_set.snapshots / "밤", tmp_path / "옮김")
    other = load_split(small_set.annotations / "split.csv")
    sides = {**other.assignments, "test_10.png": "train", "train_00.png": "test"}
    save_split(Split(sides, other.groups), small_set.annotations / "split.csv")
    status, text = typed("evaluate", moved / "best.keras")
    assert status == 0, text
    with (moved / "evaluation_test/images.csv").open(encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["test_10.png"]
    broken = small_set.images / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path / "결과"
    order = ["predict", small_set.images, "--model", best, "--output", out, "--threshold", 0.0]
    status, text = typed(*order)
    assert status == 2
    assert "broken.png" in text
    # Which model decides is said: its run, what it was trained on, and its classes.
    told = text.replace("\n", "")
    for words in ("run 밤, epoch 1, val mAP 0.000", str(small_set.annotations), "2 classes (dot"):
        assert words in told
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        assert len([row for row in csv.DictReader(file) if row["score"]]) == 11
    broken.unlink()
    status, text = typed(*order)
    assert status == 0, text
    assert "11 were done before" in text


def test_class_names_are_shown_as_they_are(small_set, monkeypatch):
    for number, name in enumerate(("[/Red]", "[red]a", ":bug:", "=1+1")):
        path = small_set.annotations / f"train_0{number}.xml"
        text = path.read_text(encoding="utf-8").replace("<name>dot<", f"<name>{name}<")
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(console, "width", 200)
    status, text = typed("check", *folders(small_set), "--classes", "dot,긁힘")
    assert status == 2
    for name in ("'[/Red]'", "'[red]a'", "':bug:'"):
        assert name in text
    status, text = typed("split", *folders(small_set))
    assert status == 0, text
    for name in ("[/Red] boxes", "[red]a boxes", ":bug: boxes"):
        assert name in text


def test_equal_problems_are_one_group(small_set, tmp_path):
    (tmp_path / "docs").mkdir()
    wrong = ("--annotations", small_set.annotations, "--images", tmp_path / "docs")
    status, text = typed("convert", *wrong)
    assert status == 2
    assert text.count("Error:") == 4
    assert "... and 8 more like these: train_02.xml" in text
    status, text = typed("check", *wrong)
    assert status == 2
    assert text.count("is not in") == 1
    assert all(path.name in "".join(text.split()) for path in small_set.annotations.glob("*.xml"))
