"""The commands as a user types them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import classification
from classification.cli import app
from classification.models.classifier import Classifier
from classification.prediction.files import LabelPredictor
from inspection.data.images import read_image, write_image
from inspection.data.voc import PROPOSAL, is_sealed
from inspection.decisions.operating_point import fixed_threshold
from inspection.files.writing import write_text_atomic
from inspection.finite import NotFinite
from inspection.prediction.folder import predict_folder
from tests.cards import classifier_card
from tests.classification.conftest import KINDS, draw
from tests.places import ROOT


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, " ".join((done.output + done.stderr).split())


def test_the_script_works_as_typed_from_any_directory(tmp_path):
    """Without PYTHONPATH, without images: a sample is drawn, and trained on."""
    command = [
        sys.executable,
        str(ROOT / "classification" / "train.py"),
        "--model",
        "resnet18-small",
    ]
    command += [
        "--wandb",
        "False",
        "--name",
        "run1",
        "--aug",
        "heavy",
        "--epochs",
        "1",
        "--size",
        "32",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "runs" / "run1" / "best.keras").is_file()
    assert (tmp_path / "images_by_class" / "scratch").is_dir()


def test_evaluate_writes_figures_and_a_page(run):
    code, text = call("evaluate", run)
    assert code == 0, text
    folder = run / "evaluation_test"
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert 0 <= found["macro_f1"] <= 1
    assert found["miss"]["total"] >= 2
    page = (folder / "evaluation.html").read_text(encoding="utf-8")
    assert "긁힘" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    rows = rows_of(folder / "images.csv")
    wrong = sum(row["truth"] != row["label"] for row in rows)
    assert page.count("taken for") == wrong


def test_evaluate_counts_what_goes_to_review(run):
    model = classification.load(run)
    point = model.card.operating_point
    model.card.operating_point = replace(point, review_threshold=0.0)
    model.save(run / "best.keras")
    code, text = call("evaluate", run)
    assert code == 0, text
    found = json.loads((run / "evaluation_test" / "evaluation.json").read_text(encoding="utf-8"))
    decisions = [row["decision"] for row in rows_of(run / "evaluation_test" / "images.csv")]
    # Whatever is not NG is looked at, so nothing is passed.
    assert found["review"]["count"] == decisions.count("review") > 0
    assert found["miss"]["count"] == 0
    assert f"review load {decisions.count('review')} of {len(decisions)}" in text


def test_a_run_that_was_moved_keeps_its_split(run, tmp_path):
    """Else images that were learnt from would be tested on."""
    code, _ = call("evaluate", run, "--output", tmp_path / "before")
    assert code == 0
    moved = run.rename(tmp_path / "옮긴 런")
    for path in (tmp_path / "runs" / "splits").iterdir():
        path.unlink()
    code, text = call("evaluate", moved, "--output", tmp_path / "after")
    assert code == 0, text
    tables = [
        sorted(row["image"] for row in rows_of(tmp_path / name / "images.csv"))
        for name in ("before", "after")
    ]
    assert tables[0] == tables[1]


def test_maps_and_their_figures(run, shared_set, tmp_path):
    code, text = call(
        "cam", run, shared_set / "dot", "--road", "--randomise", "--output", tmp_path / "cams"
    )
    assert code == 0, text
    assert "shuffled weights" in text
    rows = rows_of(tmp_path / "cams" / "figures.csv")
    assert len(rows) == 8
    assert all(-1 <= float(row["road"]) <= 1 for row in rows)
    shown = read_image(tmp_path / "cams" / "overlays" / rows[0]["image"])
    assert shown.shape[1] == 2 * shown.shape[0]
    code, text = call("cam", run, shared_set, "--layer", "huh", "--output", tmp_path / "x")
    assert code == 2
    assert "--layer huh: there is no such layer" in text
    assert "conv5_block2_out" in text
    assert not (tmp_path / "x").exists()


def test_maps_meet_masks(run, shared_set, tmp_path):
    """On easy defects a fine layer's map lies where the defect is, far more than by chance."""
    layer = ("--layer", "conv3_block2_out", "--method", "score-cam", "--target", "known")
    code, text = call("cam", run, shared_set, *layer, "--output", tmp_path / "cams")
    assert code == 0, text
    found = json.loads((tmp_path / "cams" / "summary.json").read_text(encoding="utf-8"))
    assert found["with_masks"] == 16
    # A sixteenth of the images is defect: that is what chance would point at.
    assert found["pointing"] > 0.3
    assert found["energy"] > 0.1


def test_one_broken_image_does_not_take_the_maps_summary(run, shared_set, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "0 broken.png").write_bytes(b"no image")
    for path in sorted((shared_set / "dot").glob("*.png"))[:2]:
        shutil.copy(path, folder)
    how = ("--method", "eigen-cam", "--randomise")
    code, text = call("cam", run, folder, *how, "--output", tmp_path / "cams")
    assert code == 2
    assert "0 broken.png: is no PNG" in text
    found = json.loads((tmp_path / "cams" / "summary.json").read_text(encoding="utf-8"))
    assert -1 <= found["alike_with_shuffled_weights"] <= 1
    assert found["pictures"] == 2


def test_no_box_at_all_is_said_in_words(run, shared_set, tmp_path):
    code, text = call("cam", run, shared_set, "--min-area", 5000, "--output", tmp_path / "cams")
    assert code == 0, text
    assert "recall 0.000, no box found" in text
    assert "nan" not in text


def test_boxes_become_proposals_for_labelling(run, shared_set, tmp_path):
    out = tmp_path / "proposals"
    code, text = call("boxes", run, shared_set, "--output", out, "--min-area", 4)
    assert code == 0, text
    assert "python -m detection label" in text
    files = list(out.glob("*.xml"))
    assert files
    assert all(is_sealed(path, PROPOSAL) for path in files)
    assert not list(out.glob("normal*.xml"))


def sample(folder: Path, names, answer="0") -> Path:
    path = folder / "sample_submission.csv"
    lines = ["ImageId,answer", *(f"{name},{answer}" for name in names)]
    write_text_atomic(path, "\n".join(lines) + "\n")
    return path


@pytest.fixture
def unlabelled(tmp_path) -> Path:
    for number, kind in enumerate(("normal", "dot", "긁힘", "dot")):
        write_image(tmp_path / "test" / "images" / f"시험 {number}.png", draw(kind, 50 + number)[0])
    return tmp_path / "test"


def test_a_submission_has_the_samples_names_order_and_rows(run, unlabelled, tmp_path):
    names = ["시험 2", "시험 0", "시험 3", "시험 1"]
    path = sample(unlabelled, names)
    out = tmp_path / "submission.csv"
    code, text = call("submit", run, "--sample", path, "--output", out)
    assert code == 2
    assert "by --answers" in text
    code, text = call("submit", run, "--sample", path, "--output", out, "--answers", "0,1,2")
    assert code == 0, text
    assert "1 is dot" in text
    rows = list(csv.reader(out.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["ImageId", "answer"]
    model = classification.load(run)
    told = [model.predict(unlabelled / "images" / f"{name}.png").label for name in names]
    assert len(set(told)) > 1, "else any order of the answers would do"
    numbers = {"normal": "0", "dot": "1", "긁힘": "2"}
    assert rows[1:] == [[name, numbers[label]] for name, label in zip(names, told, strict=True)]
    sample(unlabelled, [f"{name}.png" for name in names], "dot")
    code, text = call("submit", run, "--sample", path, "--output", out)
    rows = list(csv.reader(out.read_text(encoding="utf-8").splitlines()))[1:]
    assert rows == [[f"{name}.png", label] for name, label in zip(names, told, strict=True)]
    code, _ = call("submit", run, "--sample", path, "--output", out, "--answers", "0,1,1")
    rows = list(csv.reader(out.read_text(encoding="utf-8").splitlines()))[1:]
    assert [row[1] for row in rows] == ["0" if label == "normal" else "1" for label in told]


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["시험 0", "시험 1", "시험 2", "시험 3", "gone"], "1 of its names have no image"),
        (["시험 0", "시험 0", "시험 2", "시험 3"], "시험 0 occurs 2 times"),
        ([], "holds no line"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_and_nothing_is_written(
    run, unlabelled, tmp_path, names, match
):
    out = tmp_path / "submission.csv"
    code, text = call("submit", run, "--sample", sample(unlabelled, names), "--output", out)
    assert code == 2
    assert match in text
    assert not out.exists()


def test_one_broken_image_does_not_stop_the_rest(run, unlabelled, tmp_path):
    (unlabelled / "images" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "predictions"
    code, text = call("predict", run, unlabelled / "images", "--output", out)
    assert code == 2
    assert "broken.png: is no PNG" in text
    assert "1 not decided" in text
    rows = rows_of(out / "predictions.csv")
    assert len(rows) == 5
    broken = next(row for row in rows if row["image"] == "broken.png")
    assert broken["label"] == broken["decision"] == "not decided"
    assert {broken[name] for name in ("score", "normal", "dot", "긁힘")} == {""}
    assert all(row["score"] for row in rows if row is not broken)
    assert "Model: run run, epoch " in text
    assert "trained on /" in text
    table = (out / "predictions.csv").read_text(encoding="utf-8")
    # The same model goes on, another one and another room do not write here.
    code, text = call("predict", run, unlabelled / "images", "--output", out)
    assert code == 2
    assert "0 images done, 4 were done before" in text
    assert (out / "predictions.csv").read_text(encoding="utf-8") == table
    record = out / "prediction.json"
    ours = record.read_text(encoding="utf-8")
    for old, new, words in (
        ('"classification"', '"anomaly"', "holds results of anomaly"),
        ('"model_hash": "', '"model_hash": "0', "--restart"),
    ):
        record.write_text(ours.replace(old, new), encoding="utf-8")
        code, text = call("predict", run, unlabelled / "images", "--output", out)
        assert code == 2
        assert words in text
        assert (out / "predictions.csv").read_text(encoding="utf-8") == table


def test_what_is_typed_wrongly_is_one_sentence(run, shared_set, tmp_path):
    for arguments, match in (
        (("train", "--data", tmp_path / "no"), "there is no such folder or CSV"),
        (("train", "--wandb", "perhaps"), "--wandb: must be True or False"),
        (("train", "--model", "vgg"), "--model: must be 'resnet18'"),
        (("train", "--roi", "1,2"), "--roi 1,2: give 4 numbers"),
        (("evaluate", tmp_path / "no.keras"), "there is no such model"),
        (("evaluate", run, "--split", "huh"), "--split huh: must be one of"),
        (("cam", run, shared_set, "--method", "huh"), "--method huh: must be one of grad-cam"),
        (("cam", run, shared_set, "--target", "huh"), "--target huh: must be one of"),
        (("boxes", run, shared_set, "--threshold", "5"), "--threshold 5: must be otsu"),
        (("predict", run, tmp_path / "nowhere"), "nowhere: there is no such file or folder"),
    ):
        code, text = call(*arguments)
        assert code == 2, (arguments, text)
        assert match in text
        assert "Traceback" not in text


def test_augmentation_is_shown_as_a_image(shared_set, tmp_path):
    path = tmp_path / "보기.png"
    code, text = call("show", shared_set, "--aug", "rotate4", "--output", path)
    assert code == 0, text
    shown = read_image(path)
    assert shown.shape == (3 * 128, 8 * 128, 3)
    assert np.abs(shown[:128, :128].astype(int) - shown[:128, 128:256]).mean() > 1


class NanForBright:
    """A network that gives no finite numbers for an image whose first pixel is white."""

    def predict_on_batch(self, views: np.ndarray) -> np.ndarray:
        logits = np.tile(np.float32([3, 0, 0]), (len(views), 1))
        logits[views[:, 0, 0, 0] > 250, 1] = np.nan
        return logits


@pytest.mark.parametrize("point", [fixed_threshold(0.5), None])
def test_what_is_no_finite_number_is_a_reject_and_the_rest_goes_on(tmp_path, point):
    card = classifier_card(KINDS, "normal", 32)
    card.operating_point = point
    model = Classifier(NanForBright(), card)
    for name, level in (("a", 100), ("b", 255), ("c", 90)):
        write_image(tmp_path / "in" / f"{name}.png", np.full((32, 32, 3), level, np.uint8))
    with pytest.raises(NotFinite, match=r"b\.png: 1 of 3 logits"):
        model.predict(tmp_path / "in" / "b.png")
    with pytest.raises(NotFinite):
        model.probabilities(np.full((2, 32, 32, 3), 255, np.float32))
    result = predict_folder(LabelPredictor(model), [tmp_path / "in"], tmp_path)
    (problem,) = result.problems
    assert problem.startswith(f"{tmp_path / 'in' / 'b.png'}: ")
    rows = rows_of(tmp_path / "predictions.csv")
    assert [row["decision"] for row in rows] == ["OK", "NG", "OK"]
    assert [row["label"] for row in rows] == ["normal", "not decided", "normal"]
    assert [row["score"] == "" for row in rows] == [False, True, False]
    assert "nan" not in (tmp_path / "predictions.csv").read_text(encoding="utf-8")


def test_a_model_with_nan_among_its_weights_is_refused(run, tmp_path):
    model = Classifier.load(run)
    weight = model.model.weights[0]
    weight.assign(np.full(weight.shape, np.nan))
    model.save(tmp_path / "nan.keras")
    with pytest.raises(NotFinite, match=r"nan\.keras: .* weights of"):
        Classifier.load(tmp_path / "nan.keras")


def test_images_that_the_sample_does_not_name_are_left_out_and_said(run, unlabelled, tmp_path):
    names, out = ["시험 2", "시험 0"], tmp_path / "submission.csv"
    path = sample(unlabelled, names, "dot")
    code, text = call("submit", run, "--sample", path, "--output", out)
    assert code == 0, text
    assert "2 images more than" in text
    assert "시험 1.png, 시험 3.png" in text
    assert [row["ImageId"] for row in rows_of(out)] == names


def test_submit_names_the_flag_that_is_missing_with_all_else(run, unlabelled, tmp_path):
    path = sample(unlabelled, ["a", "a"])
    lone = tmp_path / path.name
    lone.write_bytes(path.read_bytes())
    code, text = call("submit", run, "--sample", lone, "--output", tmp_path / "submission.csv")
    assert code == 2
    assert "--images: left out, and" in text
    assert "a occurs 2 times" in text


def test_a_class_that_is_a_formula_is_none_in_the_proposals(tmp_path):
    from classification.cam.boxes import CSV_NAME, Proposal, write_proposals
    from inspection.prediction.detections import Detections

    write_image(tmp_path / "=a.png", np.zeros((20, 30, 3), np.uint8))
    found = Detections([[1, 2, 9, 8]], [0.9], ("=1+1",))
    one = Proposal("=a.png", tmp_path / "=a.png", (30, 20), found)
    write_proposals(tmp_path / "out", [one])
    before = rows_of(tmp_path / "out" / CSV_NAME)
    assert (before[0]["image"], before[0]["label"]) == ("'=a.png", "'=1+1")
    write_image(tmp_path / "b.png", np.zeros((20, 30, 3), np.uint8))
    other = Proposal("b.png", tmp_path / "b.png", (30, 20), found)
    write_proposals(tmp_path / "out", [other])
    assert rows_of(tmp_path / "out" / CSV_NAME)[0] == before[0]
