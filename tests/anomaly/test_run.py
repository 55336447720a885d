"""From a folder to a run, its evaluation, and a model that says the same after reloading."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

import anomaly
from anomaly.data.dataset import open_data
from anomaly.evaluation.measure import measure
from anomaly.evaluation.scored import figures_file, scores_file
from anomaly.features.extractor import Source
from anomaly.methods.cflow import CFlow
from anomaly.methods.cs_flow import CSFlow
from anomaly.methods.padim import PaDiM
from anomaly.methods.patchcore import PatchCore
from anomaly.settings import AnomalySettings
from anomaly.training.loop import train
from anomaly.training.method import stages_for
from inspection.data.images import read_image
from inspection.data.preparation import Preparation
from inspection.errors import InputError
from inspection.files.locks import locked
from inspection.models import backbones
from inspection.models.card import read_card
from inspection.settings import read_settings
from inspection.training.run import RUN_LOCK
from inspection.training.run_images import Chosen
from tests.anomaly.conftest import SMALL, make_product, typed


@pytest.mark.parametrize("method", ["patchcore", "cs-flow"])
def test_a_run_leaves_what_it_did_and_can_be_measured(runs, method):
    folder = runs / method
    assert {"model.anomaly", "settings.yaml", "record.json", "split.csv", "calibration.csv"} <= {
        path.name for path in folder.iterdir()
    }
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    card = read_card(folder / "model.anomaly", "anomaly")
    assert record["id"] == card.provenance.run_id
    assert record["seed"] == 0
    assert record["versions"]["keras"]
    assert record["operating_point"]["data_hash"] == record["data_hash"]
    found = json.loads(figures_file(folder).read_text(encoding="utf-8"))
    with scores_file(folder).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    defects = [row for row in rows if row["truth"] != "normal"]
    assert found["miss"]["total"] == len(defects)
    assert found["miss"]["count"] == sum(row["decision"] == "OK" for row in defects)
    assert 0 <= found["aupro"] <= 1


@pytest.mark.parametrize("method", ["patchcore", "cs-flow"])
def test_a_reloaded_model_decides_as_the_run_did(runs, shared_product, method):
    model = anomaly.load(runs / method / "model.anomaly")
    with (runs / method / "calibration.csv").open(encoding="utf-8") as file:
        for row in list(csv.DictReader(file))[:4]:
            path = shared_product / row["image"]
            found = model.predict(path)
            assert found.score == pytest.approx(float(row["score"]), rel=1e-5)
            assert found.decision == row["decision"]
            assert found.score_map.shape == read_image(path).shape[:2]
            assert np.isfinite(found.score_map).all()


def test_what_is_learnt_is_normal_and_no_side_is_shared(runs, shared_product):
    data = open_data(shared_product, runs, say=lambda text: None)
    assert not any(item.is_defect for item in data.part("train"))
    assert {item.is_defect for item in data.part("val")} == {True, False}


@pytest.mark.parametrize("method", ["patchcore", "cs-flow"])
def test_the_level_of_normal_cells_is_that_of_images_never_learnt(runs, shared_product, method):
    model = anomaly.load(runs / method / "model.anomaly")
    data = open_data(shared_product, runs, say=lambda text: None)
    unseen = [item.path for item in data.part("val") if not item.is_defect]
    source = Source(tuple(unseen), model.preparation)
    scored = [model.scored_of(source, index) for index in range(len(source))]
    cells = np.concatenate([one.cells for one in scored])
    assert len(unseen) > 1
    assert model.reference.level == pytest.approx(np.quantile(cells, 0.995), rel=1e-4)
    shown = np.concatenate([one.shown.ravel() for one in scored])
    assert model.normal[1] == pytest.approx(np.quantile(shown, 0.995), rel=1e-4)


def test_an_image_is_read_and_prepared_once_for_its_score(runs, shared_product, monkeypatch):
    file = runs / "patchcore/model.anomaly"
    model, data = anomaly.load(file), open_data(shared_product, runs, say=lambda text: None)
    read, times = Preparation.__call__, []

    def counting(preparation, path):
        times.append(path)
        return read(preparation, path)

    monkeypatch.setattr(Preparation, "__call__", counting)
    items = data.part("val")
    measure(model, replace(data.images, items=tuple(items)), Chosen("val", ()), file, "")
    assert len(times) == len(items)


def test_scores_that_are_all_equal_are_a_failure(runs, shared_product, tmp_path):
    """A map of one cell has no deviation."""
    again = tmp_path / "again"
    shutil.copytree(runs, again)
    command = ("train", shared_product, "--method", "oc-svm", "--runs", again, *SMALL)
    status, text = typed(*command, "--run", "std", "--aggregation", "std")
    assert status == 2
    assert "oc-svm: failed: all" in text
    assert "score 0 by its aggregation std" in " ".join(text.split())
    assert not (again / "std").exists()
    status, text = typed(*command, "--run", "own")
    assert status == 0, text
    assert "Aggregation: std" not in text
    status, text = typed("evaluate", again / "own")
    assert status == 0, text
    assert "no pixel figures" in text, "its map does not say where"
    figures = json.loads(figures_file(again / "own").read_text(encoding="utf-8"))
    assert figures["pixel_auroc"] is figures["aupro"] is None


def test_the_stages_of_a_backbone_are_those_of_a_methods_source():
    names = backbones.EFFICIENTNET_STAGES
    assert stages_for(PatchCore, None, names) == names[:2], "strides 8 and 16"
    assert stages_for(CFlow, None, names) == names
    assert stages_for(CSFlow, None, names) == names[2:]
    backbone = backbones.resnet("resnet18", "frozen")
    levels = backbone.pyramid_level_inputs
    usual = tuple(levels[level] for level in ("P2", "P3", "P4"))
    assert stages_for(PatchCore, backbone, usual) == usual[1:]
    assert stages_for(CFlow, backbone, usual) == (*usual[1:], levels["P5"]), "stages 2 to 4"
    assert stages_for(PaDiM, backbone, usual) == usual
    assert stages_for(PatchCore, backbone, usual, 3) == usual, "what the user asks for"


def test_a_run_that_is_being_trained_is_refused(runs, tmp_path):
    settings = read_settings(AnomalySettings, runs / "patchcore/settings.yaml", {})
    settings = settings.model_copy(update={"runs": tmp_path, "run": "밤"})
    with (
        locked(tmp_path / "밤" / RUN_LOCK, "wait"),
        pytest.raises(InputError, match=rf"밤: is in use by process {os.getpid()} on"),
    ):
        train(settings, say=lambda line: None)


def test_no_defects_at_all(tmp_path):
    root = make_product(tmp_path / "a", normals=12, defects=0)
    status, text = typed("train", root, "--runs", tmp_path / "r", "--run", "x", *SMALL)
    assert status == 0, text
    assert "quantile of normal scores" in text
    status, text = typed("evaluate", tmp_path / "r/x")
    assert status == 0, text
    assert "not measurable (0 defective images)" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "absent"], "absent"),
        (["train", ".", "--method", "patchcor"], "patchcore"),
        (["train", ".", "--size", "50"], "--size"),
        (["train", ".", "--roi", "1,2,3"], "--roi 1,2,3"),
        (["train", ".", "--aggregation", "most"], "--aggregation: must be 'auto'"),
        (["evaluate", "absent"], "absent"),
        (["evaluate", ".", "--split", "tset"], "--split tset"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, text = typed(*arguments)
    assert status == 2, text
    assert words in text
    assert text.count("Error:") == 1
    assert not list(tmp_path.rglob("*")), "a refused command leaves nothing behind"


def test_one_image_is_too_few(tmp_path):
    root = make_product(tmp_path / "a", normals=1, defects=0)
    with pytest.raises(InputError, match="holds 1 normal image; it takes at least 3"):
        open_data(root, tmp_path / "r")


def test_a_model_of_another_version_is_refused(runs, tmp_path):
    import zipfile

    path = tmp_path / "old.anomaly"
    with (
        zipfile.ZipFile(runs / "patchcore/model.anomaly") as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "card.json":
                content = content.replace(b'"version": 1', b'"version": 99')
            new.writestr(name, content)
    with pytest.raises(InputError, match="format 99"):
        anomaly.load(path)
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match="is no anomaly model"):
        anomaly.load(path)
