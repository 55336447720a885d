"""A whole run: what it leaves, what it records, what it refuses."""

from __future__ import annotations

import json
import os
import shutil

import keras
import numpy as np
import pytest
import yaml

from detection.cli.arguments import resume_settings
from detection.models.detector import Detector
from detection.models.retinanet import RetinaNet
from detection.models.snapshots import run_folder, snapshot_card
from detection.settings import TrainSettings
from detection.training import loop as training
from detection.training import setup as training_setup
from detection.training.loop import train
from inspection.data.split import load_split
from inspection.data.voc import write_voc
from inspection.errors import InputError
from inspection.files.locks import locked
from inspection.training.loop import TrainingStopped
from inspection.training.run import RUN_LOCK
from tests.conftest import CLASSES, SmallSet, write_small_set
from tests.detection.small_runs import (
    EPOCHS,
    STEPS,
    Recorder,
    assert_complete,
    hidden_files,
    log_rows,
    resumed,
    settings_for,
)

# --- a whole run -------------------------------------------------------------------------------


def test_a_run_leaves_everything_behind(unbroken):
    folder, _ = unbroken
    assert_complete(folder)
    names = {path.name for path in folder.iterdir()}
    assert {f"epoch_{epoch:03d}.keras" for epoch in range(1, EPOCHS + 1)} <= names
    assert {
        "samples.jpg",
        "log.csv",
        "curves.png",
        "tensorboard",
        "settings.yaml",
        "record.json",
    } <= names
    assert sorted(name for name in names if name.endswith(".npz")) == ["epoch_003.optimizer.npz"]
    assert not hidden_files(folder)
    assert any((folder / "tensorboard").iterdir())


def test_log_holds_the_means_of_the_steps(unbroken):
    folder, log = unbroken
    for number, row in enumerate(log_rows(folder)):
        steps = log.losses[number * STEPS : (number + 1) * STEPS]
        assert float(row["loss"]) == pytest.approx(np.mean(steps), rel=1e-4)
        parts = float(row["classification_loss"]) + float(row["box_loss"])
        assert parts == pytest.approx(float(row["loss"]), rel=1e-4)
        assert float(row["learning_rate"]) > 0
        assert 0 <= float(row["waiting_for_data"]) <= 1
        assert {f"ap_{name}" for name in CLASSES} <= set(row)


def test_what_is_said_before_it_starts(unbroken):
    text = "\n".join(unbroken[1].said)
    for word in ("train: 8 images, 2 normal", "val: 2 images", "dot 6", "긁힘 6", "2 steps"):
        assert word in text
    for word in ("an epoch takes about", "Disk", "MB", "memory"):
        assert word in text


def test_settings_in_the_run_folder_are_complete(unbroken, data):
    stored = yaml.safe_load((unbroken[0] / "settings.yaml").read_text(encoding="utf-8"))
    settings = TrainSettings(**stored)
    assert settings.lr is not None
    assert settings.batch_size == 2
    assert settings.norm != "auto"
    assert settings.annotations == data.annotations


def test_record_names_data_split_and_versions(unbroken, data):
    record = json.loads((unbroken[0] / "record.json").read_text(encoding="utf-8"))
    assert record["split_hash"] == load_split(data.annotations / "split.csv").hash
    assert len(record["data_hash"]) == 64
    assert record["versions"]["keras"] == keras.__version__
    assert record["settings"]["weights"] == "none"  # what was chosen, not what was asked for
    assert (unbroken[0] / "split.csv").read_bytes() == (data.annotations / "split.csv").read_bytes()


def test_best_snapshot_predicts_with_everything_inside(light, unbroken, data):
    detector = Detector.load(unbroken[0] / "best.keras")
    assert detector.classes == tuple(sorted(CLASSES))
    assert (detector.size, detector.fit) == (96, "letterbox")
    detector.predict(next(data.images.glob("val_*")))


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(
    light, data, unbroken, tmp_path
):
    again = Recorder()
    train(settings_for(data, tmp_path, epochs=1), log=again)
    # The schedule of a shorter run differs after the first step.
    assert again.losses[0] == pytest.approx(unbroken[1].losses[0], rel=1e-5)
    # A second run beside it: the copy at the top stays, as it was not beaten, and that is said.
    other = Recorder()
    train(settings_for(data, tmp_path, run="night", epochs=1, seed=6), log=other)
    assert other.losses[0] != pytest.approx(unbroken[1].losses[0], rel=1e-3)
    told = [text for text in other.said if "best.keras stays that of run run" in text]
    assert len(told) == 1
    assert "--promote night" in told[0]
    assert not any("best.keras" in text for text in again.said)
    assert snapshot_card(tmp_path / "best.keras").provenance.run == "run"


def test_a_run_in_progress_is_neither_resumed_nor_started_again(unbroken, data):
    folder, _ = unbroken
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with locked(folder / RUN_LOCK, "wait"):
        for resume in (False, True):
            with pytest.raises(InputError, match=rf"run: is in use by process {os.getpid()} on"):
                train(settings_for(data, folder.parent), resume=resume, log=Recorder())
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_existing_run_is_not_overwritten(unbroken, data):
    folder, _ = unbroken
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(InputError, match="--resume"):
        train(settings_for(data, folder.parent), log=Recorder())
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_nothing_to_learn_or_to_validate_is_said(data, tmp_path):
    copy = SmallSet(tmp_path / "a", data.images, tmp_path / "s")
    shutil.copytree(data.annotations, copy.annotations)
    path = copy.annotations / "split.csv"
    path.write_text(path.read_text().replace(",val", ",train"))
    with pytest.raises(InputError, match="val"):
        train(settings_for(copy, copy.snapshots), log=Recorder())


def test_a_window_that_cuts_every_view_of_a_box_is_refused(tmp_path):
    """It would be learnt as a shorter box; the message says which window fits."""
    data = write_small_set(tmp_path / "자료")
    write_voc(
        data.annotations / "train_00.xml", "train_00.png", (96, 96, 3), [[2, 2, 92, 12]], ["dot"]
    )
    with pytest.raises(InputError, match=r"--crop 64: .*up to 90 px.* Give --crop 96") as error:
        train(settings_for(data, data.snapshots), log=Recorder())
    assert "train_00.png" in str(error.value)
    assert not list(data.snapshots.iterdir())


def test_group_norm_is_refused_with_windows(data, tmp_path):
    with pytest.raises(InputError, match="--norm group with --crop 64"):
        train(settings_for(data, tmp_path, norm="group"), log=Recorder())


def test_windows_never_choose_group_norm_by_themselves(data):
    settings = settings_for(data, data.snapshots, norm="auto", batch_size=2)
    assert training_setup._filled(settings).norm == "batch"
    assert training_setup._filled(settings.model_copy(update={"crop": None})).norm == "group"


def test_half_precision_is_judged_as_its_snapshot_computes(light, data, tmp_path, monkeypatch):
    """Threshold and val mAP must be those of the file, which runs in float32."""
    judged = []
    true_detector = training.Detector

    def noted(model, card):
        judged.append(model)
        return true_detector(model, card)

    monkeypatch.setattr(training, "Detector", noted)
    settings = settings_for(data, tmp_path, precision="bfloat16", epochs=1, keep=1)
    best = train(settings, log=Recorder())
    images = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype(np.float32)
    found, expected = judged[0]({"images": images}), Detector.load(best).forward(images)
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(found[name]), value, rtol=1e-5, atol=1e-6)


def test_resume_of_nothing_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="resume"):
        resume_settings(TrainSettings(snapshots=tmp_path))
    with pytest.raises(InputError, match="absent"):
        resume_settings(TrainSettings(snapshots=tmp_path, run="absent"))


def test_epochs_between_validations_have_no_score_and_are_never_the_best(light, data, tmp_path):
    log = Recorder()
    settings = settings_for(data, tmp_path, epochs=3, steps=1, val_every=2, val_images=1)
    best = train(settings, log=log)
    scores = [row["val_map"] for row in log_rows(best.parent)]
    assert [bool(score) for score in scores] == [False, True, True]  # the last one always
    state = run_folder(best.parent).load_state()
    assert state.best_epoch in (2, 3)
    between = snapshot_card(best.parent / "epoch_001.keras")
    assert between.provenance.score is None
    assert between.operating_point is None
    record = json.loads((best.parent / "record.json").read_text(encoding="utf-8"))
    assert len(record["validated_on"]) == 1 < record["images"]["val"]
    assert all(name.startswith("val_") for name in record["validated_on"])
    assert any("validation on 1 image " in text and "every 2 epochs" in text for text in log.said)
    assert any("epoch 1/3" in text and "not validated" in text for text in log.said)
    # What was measured before is kept where a run goes on, and so are the images.
    resumed(tmp_path, epochs=5)
    rows = log_rows(best.parent)
    assert [bool(row["val_map"]) for row in rows] == [False, True, True, True, True]
    assert [row["val_map"] for row in rows[:3]] == scores
    again = json.loads((best.parent / "record.json").read_text(encoding="utf-8"))
    assert again["validated_on"] == record["validated_on"]


# --- every kind of end -------------------------------------------------------------------------


def test_nan_stops_with_the_names_of_the_images(light, data, tmp_path):
    log = Recorder()
    settings = settings_for(data, tmp_path, lr=1e30, clip_norm=1e9, steps=6, epochs=1)
    with pytest.raises(TrainingStopped) as caught:
        train(settings, log=log)
    message = str(caught.value)
    assert "nan" in message or "inf" in message
    assert any(path.name in message for path in data.images.glob("train_*"))
    assert "--lr" in message
    assert not list(tmp_path.rglob("*.keras"))


def test_weights_that_are_not_finite_are_no_snapshot(light, data, tmp_path, monkeypatch):
    """The loss of an epoch's last step may be finite, and its gradient not."""
    step = keras.Model.train_on_batch

    def spoil(model, *arguments, **options):
        told = step(model, *arguments, **options)
        weight = model.trainable_variables[0]
        weight.assign(np.full(weight.shape, np.nan))
        return told

    monkeypatch.setattr(training_setup, "_seconds_per_step", lambda run: 0.1)
    monkeypatch.setattr(keras.Model, "train_on_batch", spoil)
    with pytest.raises(TrainingStopped, match="weights are not finite after step 1"):
        train(settings_for(data, tmp_path, steps=1, epochs=1), log=Recorder())
    assert not list(tmp_path.rglob("*.keras"))


def test_resume_refuses_what_it_would_not_heed(unbroken):
    folder, _ = unbroken
    settings = TrainSettings(snapshots=folder.parent, lr=0.5, weights="auto")
    with pytest.raises(InputError, match=r"--lr 0\.5"):
        resume_settings(settings)
    (folder / "settings.yaml").rename(folder / "kept.yaml")
    try:
        (folder / "settings.yaml").write_text("- nothing", encoding="utf-8")
        with pytest.raises(InputError, match=r"settings\.yaml"):
            resume_settings(settings)
    finally:
        (folder / "kept.yaml").replace(folder / "settings.yaml")


def test_float16_scales_its_loss(light, data, tmp_path):
    best = train(settings_for(data, tmp_path, steps=1, epochs=1, precision="float16"))
    assert best.is_file()
    assert keras.config.dtype_policy().name == "float32"
    model = RetinaNet("resnet18", CLASSES)
    settings = TrainSettings(precision="float16", lr=1e-3)
    training_setup._compile(model, settings, 1)
    assert model.optimizer.scale_loss(2.0) > 2.0


def test_validation_boxes_that_are_all_difficult(light, data, tmp_path):
    """mAP is not a number then: refused at the start, or a best.keras all the same."""
    copy = SmallSet(tmp_path / "a", data.images, tmp_path / "s")
    shutil.copytree(data.annotations, copy.annotations)
    for path in copy.annotations.glob("val_*.xml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("<difficult>0", "<difficult>1"), encoding="utf-8")
    (copy.annotations / "annotations.csv").unlink(missing_ok=True)
    try:
        best = train(settings_for(copy, copy.snapshots, epochs=1, steps=1), log=Recorder())
    except InputError as error:
        assert "val" in str(error)
    else:
        assert best.is_file()


def test_half_precision_frozen_from_a_snapshot(light, data, unbroken, tmp_path):
    """The policy is the run's alone, the weights come from the file, the choice is recorded."""
    source = unbroken[0] / "best.keras"
    settings = settings_for(
        data,
        tmp_path,
        weights=str(source),
        freeze=True,
        precision="bfloat16",
        augment="basic",
        epochs=1,
        steps=1,
    )
    best = train(settings, log=Recorder())
    assert keras.config.dtype_policy().name == "float32"
    old, new = (Detector.load(path).model for path in (source, best))
    for before, after in zip(old.backbone.weights, new.backbone.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
    stored = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text(encoding="utf-8"))
    assert stored["weights"] == str(source)
    assert stored["precision"] == "bfloat16"
