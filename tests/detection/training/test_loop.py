"""Training end to end: learning, logging, and going on after every kind of end."""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from rich.console import Console

from detection.cli.arguments import resume_settings
from detection.data.annotations import read_annotations
from detection.evaluation.snapshot import EvaluationRequest, evaluate_snapshot
from detection.models.detector import Detector
from detection.models.retinanet import RetinaNet
from detection.models.snapshots import run_folder, snapshot_settings
from detection.settings import TrainSettings
from detection.training import loop as training
from detection.training import setup as training_setup
from detection.training.log import TrainingLog
from detection.training.loop import TrainingStopped, train
from inspection.data.images import write_image
from inspection.data.split import load_split
from inspection.data.voc import write_voc
from inspection.errors import InputError
from inspection.files.locks import RUN_LOCK, locked
from inspection.models import backbones
from tests.conftest import CLASSES, SmallSet, write_small_set
from tests.places import ROOT

EPOCHS, STEPS = 3, 2


class Recorder(TrainingLog):
    """Keeps what is said, and the loss of every step."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.said: list[str] = []
        self.losses: list[float] = []
        self.rates: list[float] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, losses, learning_rate, *arguments, **options) -> None:
        self.losses.append(losses["loss"])
        self.rates.append(learning_rate)
        super().step(losses, learning_rate, *arguments, **options)


def make_light(patch: pytest.MonkeyPatch) -> None:
    """One block a stage and no graph: heads and norms are what is shipped."""
    import tensorflow as tf

    patch.setitem(backbones._DEPTHS, "resnet18", ((1, 1, 1, 1), False))
    tf.config.run_functions_eagerly(True)


@contextlib.contextmanager
def light_network():
    import tensorflow as tf

    with pytest.MonkeyPatch.context() as patch:
        make_light(patch)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)


@pytest.fixture
def light():
    """A network that builds and runs in a moment."""
    with light_network():
        yield


def settings_for(data: SmallSet, snapshots: Path, **options) -> TrainSettings:
    values = {
        "annotations": data.annotations,
        "images": data.images,
        "snapshots": snapshots,
        "run": "run",
        "backbone": "resnet18",
        "weights": "none",
        "channels": 32,
        "size": 96,
        "crop": 64,
        "augment": "heavy",
        "anchors": "default",
        "epochs": EPOCHS,
        "steps": STEPS,
        "batch_size": 2,
        "warmup": 0,
        "seed": 5,
    }
    return TrainSettings(**(values | options))


def resumed_log(snapshots: Path, **changes) -> Recorder:
    """Goes on with the newest run as `--resume` does."""
    settings = resume_settings(TrainSettings(snapshots=snapshots), changes)
    log = Recorder()
    train(settings, resume=True, log=log)
    return log


def resumed(snapshots: Path, **changes) -> list[float]:
    """Goes on with the newest run, and returns the losses of its steps."""
    return resumed_log(snapshots, **changes).losses


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hidden_files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SmallSet:
    return write_small_set(tmp_path_factory.mktemp("현장 자료"))


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A run that nothing happened to: its folder, and what it told."""
    snapshots = tmp_path_factory.mktemp("unbroken")
    log = Recorder()
    with light_network():
        best = train(settings_for(data, snapshots), log=log)
    assert best == snapshots / "run" / "best.keras"
    assert len(log.losses) == EPOCHS * STEPS
    return snapshots / "run", log


def assert_goes_on_equally(found: list[float], unbroken) -> None:
    """The last steps' losses, to the relative 1e-5 that is promised."""
    expected = unbroken[1].losses
    assert found
    np.testing.assert_allclose(found, expected[-len(found) :], rtol=1e-5)


def assert_complete(folder: Path) -> None:
    """What a run leaves behind, also after it was resumed."""
    assert [int(row["epoch"]) for row in log_rows(folder)] == list(range(1, EPOCHS + 1))
    assert all(row["val_map"] for row in log_rows(folder))
    minutes = [float(row["minutes"]) for row in log_rows(folder)]
    assert minutes == sorted(minutes)
    state = run_folder(folder).load_state()
    assert (state.epoch, state.step) == (EPOCHS, EPOCHS * STEPS)
    best = snapshot_settings(folder / "best.keras")["preprocessing"]
    assert (best["epoch"], best["val_map"]) == (state.best_epoch, state.best_score)
    assert (folder.parent / "best.keras").read_bytes() == (folder / "best.keras").read_bytes()
    assert not list(folder.glob("interrupted*"))


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
    assert snapshot_settings(tmp_path / "best.keras")["preprocessing"]["run"] == "run"


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

    def noted(model):
        judged.append(model)
        return true_detector(model)

    monkeypatch.setattr(training, "Detector", noted)
    settings = settings_for(data, tmp_path, precision="bfloat16", epochs=1, keep=1)
    best = train(settings, log=Recorder())
    images = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype(np.float32)
    found, expected = judged[0]({"images": images}), Detector.load(best).forward(images)
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(found[name]), value, rtol=1e-5, atol=1e-6)


def test_resume_of_nothing_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="resume"):
        resume_settings(TrainSettings(snapshots=tmp_path), {})
    with pytest.raises(InputError, match="absent"):
        resume_settings(TrainSettings(snapshots=tmp_path, run="absent"), {})


def test_epochs_between_validations_have_no_score_and_are_never_the_best(light, data, tmp_path):
    log = Recorder()
    settings = settings_for(data, tmp_path, epochs=3, steps=1, val_every=2, val_images=1)
    best = train(settings, log=log)
    scores = [row["val_map"] for row in log_rows(best.parent)]
    assert [bool(score) for score in scores] == [False, True, True]  # the last one always
    state = run_folder(best.parent).load_state()
    assert state.best_epoch in (2, 3)
    between = snapshot_settings(best.parent / "epoch_001.keras")
    assert between["preprocessing"]["val_map"] is None
    assert between["operating_point"] is None
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


# --- learning ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """The whole way from XML to mAP, in a compiled graph: its data, log, snapshot and detector."""
    root = tmp_path_factory.mktemp("learnt")
    data = write_small_set(root / "자료", train=4, val=4, repeat_val=True)
    settings = settings_for(
        data,
        data.snapshots,
        norm="group",
        crop=None,
        augment="none",
        anchors="auto",
        epochs=1,
        steps=90,
        batch_size=4,
        lr=2e-3,
        warmup=10,
    )
    log = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones._DEPTHS, "resnet18", ((1, 1, 1, 1), False))
        patch.setattr(training_setup, "RetinaNet", functools.partial(RetinaNet, head_convs=2))
        best = train(settings, log=log)
        return data, log, best, Detector.load(best)


def test_four_pictures_are_learnt_by_heart(learnt):
    """The loss falls, the boxes are found."""
    data, log, best, detector = learnt
    assert np.mean(log.losses[-5:]) < 0.2 * np.mean(log.losses[:5])
    (row,) = log_rows(best.parent)
    assert float(row["val_map"]) > 0.9
    found = detector.predict(data.images / "train_00.png").above(0.7)
    assert sorted(found.label) == sorted(CLASSES)
    assert detector.operating_point is not None


def test_int8_of_a_trained_model_is_as_good(learnt, tmp_path):
    """Calibrated on two of the images it has learnt and measured on the other two."""
    pytest.importorskip("nncf", reason="int8 needs nncf")
    pytest.importorskip("openvino", reason="needs openvino")
    from detection.export.write import export

    data, _, _, detector = learnt
    labels = [item for item in read_annotations(data.annotations, data.images) if len(item)]
    held_out = [item for item in labels if item.image in ("val_06.png", "val_07.png")]
    assert len(held_out) == 2
    images = [data.images / item.image for item in held_out]
    report = export(
        detector,
        tmp_path / "model.xml",
        int8=True,
        calibration=[data.images / f"train_{number:02d}.png" for number in range(2)],
        held_out=images,
        held_out_labels=held_out,
        check_images=images,
    )
    assert report.int8.map_float32 > 0.9
    assert report.int8.map_int8 > 0.9


def test_what_is_learnt_on_windows_is_found_on_whole_images(tmp_path):
    """With the shipped norm and heads: windows of 128 px in training, images of 256 px in use."""
    data = write_small_set(tmp_path / "자료", train=4, val=4, size=256, repeat_val=True)
    settings = settings_for(
        data,
        data.snapshots,
        norm="auto",
        size=256,
        crop=128,
        augment="none",
        anchors="auto",
        epochs=1,
        steps=60,
        batch_size=4,
        lr=2e-3,
        warmup=10,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones._DEPTHS, "resnet18", ((1, 1, 1, 1), False))
        best = train(settings, log=Recorder())
        evaluation, _ = evaluate_snapshot(EvaluationRequest(best, split="val"))
    assert evaluation.mean_ap > 0.9
    (row,) = log_rows(best.parent)
    assert float(row["val_map"]) == pytest.approx(evaluation.mean_ap, abs=1e-4)


# --- every kind of end -------------------------------------------------------------------------

CHILD = """
import sys
import pytest
from pathlib import Path
from tests.detection.training.test_loop import light_network, settings_for
from tests.conftest import SmallSet
from detection.training.loop import train
annotations, images, snapshots = map(Path, sys.argv[1:])
with light_network():
    train(settings_for(SmallSet(annotations, images, snapshots), snapshots))
"""


def test_run_killed_at_any_point_goes_on_equally(light, data, unbroken, tmp_path):
    """kill -9 at a moment of chance after the first epoch; then --resume."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, data.annotations, data.images, tmp_path],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    folder = tmp_path / "run"
    delay = random.SystemRandom().uniform(0, 3)
    try:
        while not (folder / "state.json").exists():
            if child.poll() is not None:
                pytest.fail(child.stderr.read().decode()[-3000:])
            time.sleep(0.05)
        time.sleep(delay)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    killed_at = run_folder(folder).load_state().step
    if killed_at < EPOCHS * STEPS:
        found = resumed(tmp_path)
        assert len(found) == EPOCHS * STEPS - killed_at, f"after {delay:.2f} s"
        assert_goes_on_equally(found, unbroken)
    assert_complete(folder)


@contextlib.contextmanager
def after_call(owner, name: str, number: int, action):
    """Does something right after the n-th call of a method since training began."""
    function, started = getattr(owner, name), []
    start = TrainingLog.start

    def counted_start(*arguments, **options):
        started.append(0)
        return start(*arguments, **options)

    def wrapped(*arguments, **options):
        result = function(*arguments, **options)
        if started:
            started[-1] += 1
            if started[-1] == number:
                action()
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLog, "start", counted_start)
        patch.setattr(owner, name, wrapped)
        yield


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def interrupted(data, snapshots: Path, owner, name: str, number: int) -> Recorder:
    """A run that Ctrl-C reaches at one point; it must say how to go on."""
    log = Recorder()
    # A shell ignores Ctrl-C for what it runs in the background, and so would the tests there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with after_call(owner, name, number, interrupt), pytest.raises(KeyboardInterrupt):
            train(settings_for(data, snapshots), log=log)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert any("--resume" in text and "run" in text for text in log.said)
    return log


def test_ctrl_c_inside_an_epoch_loses_no_step(light, data, unbroken, tmp_path):
    """The signal arrives while the third step computes; its weights are already changed."""
    first = interrupted(data, tmp_path, keras.Model, "train_on_batch", 3)
    assert len(first.losses) == 3
    rest = resumed(tmp_path)
    assert_goes_on_equally(rest, unbroken)
    assert len(first.losses) + len(rest) == EPOCHS * STEPS
    assert_complete(tmp_path / "run")
    # The epoch's mean covers the steps before and after the interrupt.
    for row, wanted in zip(log_rows(tmp_path / "run"), log_rows(unbroken[0]), strict=True):
        assert float(row["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-4)


def test_ctrl_c_while_validating_loses_no_epoch(light, data, unbroken, tmp_path):
    interrupted(data, tmp_path, Detector, "forward", 3)  # two pictures an epoch: in the second
    rest = resumed(tmp_path)
    assert_goes_on_equally(rest, unbroken)
    assert_complete(tmp_path / "run")


def no_space(*_arguments, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


def stopped(data, snapshots: Path, owner, name: str, number: int) -> str:
    """A run whose disk is full from the n-th call on; what it stopped with."""
    function, calls = getattr(owner, name), []

    def filling_up(*arguments, **options):
        calls.append(name)
        return (no_space if len(calls) >= number else function)(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, filling_up)
        with pytest.raises(TrainingStopped) as caught:
            train(settings_for(data, snapshots, keep=1), log=Recorder())
    return str(caught.value)


def test_full_disk_while_saving_harms_no_earlier_snapshot(light, data, unbroken, tmp_path):
    message = stopped(data, tmp_path, keras.Model, "save", 2)
    assert "No space left" in message
    assert "--resume" in message
    folder = tmp_path / "run"
    assert not hidden_files(folder)
    assert run_folder(folder).load_state().epoch == 1
    Detector.load(folder / "epoch_001.keras")
    rest = resumed(tmp_path)
    assert len(rest) == (EPOCHS - 1) * STEPS
    assert_goes_on_equally(rest, unbroken)
    assert_complete(folder)
    # --keep 1 of the first start holds for the rest of the run.
    assert [path.name for path in folder.glob("epoch_*.keras")] == ["epoch_003.keras"]


def test_full_disk_while_copying_the_best_is_reported_and_made_good(
    light, data, unbroken, tmp_path
):
    """The epoch counts as finished by then; its best.keras must not stay behind."""
    message = stopped(data, tmp_path, shutil, "copyfile", 2)  # the first copies the split
    assert "No space left" in message
    assert_goes_on_equally(resumed(tmp_path), unbroken)
    assert_complete(tmp_path / "run")


@pytest.mark.parametrize("name", ["log.csv", "curves.png"])
def test_full_disk_while_writing_the_log_is_reported(light, data, name, tmp_path):
    """A log that cannot be written must not look like a bug of the program."""
    replace = Path.replace

    def full(self, target):
        return no_space() if Path(target).name == name else replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(TrainingStopped, match="No space left"):
            train(settings_for(data, tmp_path, epochs=1, steps=1), log=Recorder())
    assert run_folder(tmp_path / "run").load_state().epoch == 1


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


def test_an_image_that_cannot_be_read_costs_no_step(light, data, tmp_path):
    copy = SmallSet(data.annotations, tmp_path / "i", tmp_path / "s")
    shutil.copytree(data.images, copy.images)
    settings = settings_for(copy, copy.snapshots, epochs=1)
    path = sorted(copy.images.glob("val_*"))[-1]  # the first is read before the first step
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    log = Recorder()
    with pytest.raises(InputError, match=path.name):
        train(settings, log=log)
    assert len(log.losses) == STEPS
    path.write_bytes(whole)
    assert resumed(copy.snapshots) == []
    assert run_folder(copy.snapshots / "run").load_state().epoch == 1


def test_resume_refuses_what_it_would_not_heed(unbroken):
    folder, _ = unbroken
    settings = TrainSettings(snapshots=folder.parent, lr=0.5)
    with pytest.raises(InputError, match=r"--lr 0\.5"):
        resume_settings(settings, {"lr": 0.5, "weights": "auto"})
    (folder / "settings.yaml").rename(folder / "kept.yaml")
    try:
        (folder / "settings.yaml").write_text("- nothing", encoding="utf-8")
        with pytest.raises(InputError, match=r"settings\.yaml"):
            resume_settings(settings, {})
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


def test_resume_keeps_the_length_of_an_epoch_when_images_join(light, data, tmp_path):
    """Else the epochs of the rest begin and end at other steps than the count says."""
    copy = SmallSet(tmp_path / "a", tmp_path / "i", tmp_path / "s")
    shutil.copytree(data.annotations, copy.annotations)
    shutil.copytree(data.images, copy.images)
    settings = settings_for(copy, copy.snapshots, steps=None, batch_size=10, epochs=1)
    log = Recorder()
    train(settings, log=log)
    steps = len(log.losses)
    for number in range(4):
        name = f"joined_{number}.png"
        write_image(copy.images / name, np.full((96, 96, 3), 100, np.uint8))
        write_voc(
            copy.annotations / f"joined_{number}.xml",
            name,
            (96, 96, 3),
            np.array([[10, 10, 40, 40], [50, 50, 70, 90]], np.float32),
            CLASSES,
        )
    with (copy.annotations / "split.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"joined_{n}.png,joined_{n}.png,train\n" for n in range(4))
    rest = resumed_log(copy.snapshots, epochs=2)
    assert len(rest.losses) == steps
    # The rate does not jump up again where the run was to end.
    assert max(rest.rates) <= 1.001 * log.rates[-1]
    assert any("1 epochs were planned, now 2. It stays at" in text for text in rest.said)
    assert [int(row["epoch"]) for row in log_rows(copy.snapshots / "run")] == [1, 2]
    assert run_folder(copy.snapshots / "run").load_state().epoch == 2


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


JAX_CHILD = """
import functools
import sys
import numpy as np
import keras
from pathlib import Path
from detection.training import setup as training_setup
from detection.models.retinanet import RetinaNet
from detection.models.detector import Detector
from detection.training.loop import train
from inspection.models import backbones
from tests.conftest import SmallSet
from tests.detection.training.test_loop import Recorder, settings_for

assert keras.backend.backend() == "jax"
annotations, images, snapshots, outputs = map(Path, sys.argv[1:])
backbones._DEPTHS["resnet18"] = ((1, 1, 1, 1), False)
training_setup.RetinaNet = functools.partial(RetinaNet, head_convs=1)
stored = np.load(outputs)
found = Detector.load(snapshots / "tensorflow.keras").forward(stored["images"])
data = SmallSet(annotations, images, snapshots)
options = {"crop": None, "augment": "none", "epochs": 1, "steps": 8, "lr": 2e-3}
log = Recorder()
best = train(settings_for(data, snapshots, **options), log=log)
after = Detector.load(best).forward(stored["images"])["classification"]
np.savez(outputs, losses=log.losses, after=after, **found)
"""


def test_jax_trains_as_well(tmp_path, monkeypatch):
    """The same numbers as TensorFlow from one snapshot, and a loss that falls."""
    pytest.importorskip("jax", reason="JAX is not installed; it is the backend of some GPU hosts")
    data = write_small_set(tmp_path / "자료", train=4, val=1, repeat_val=True)
    monkeypatch.setitem(backbones._DEPTHS, "resnet18", ((1, 1, 1, 1), False))
    preprocessing = {"size": 640, "fit": "letterbox", "bits": 16}
    model = RetinaNet("resnet18", CLASSES, channels=32, head_convs=1, preprocessing=preprocessing)
    model.save(data.snapshots / "tensorflow.keras")
    # Even black and white, as on a binary camera: the hardest case for a local contrast.
    rng = np.random.default_rng(0)
    images = np.zeros((1, 640, 640, 3), np.float32)
    for _ in range(25):
        (x, y), (width, height) = rng.integers(0, 580, 2), rng.integers(8, 200, 2)
        images[:, y : y + height, x : x + width] = 255
    expected = Detector(model).forward(images)
    outputs = tmp_path / "outputs.npz"
    np.savez(outputs, images=images)
    folders = (data.annotations, data.images, data.snapshots, outputs)
    done = subprocess.run(
        [sys.executable, "-c", JAX_CHILD, *map(str, folders)],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(outputs)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-3)
    assert np.isfinite(found["after"]).all()
    losses = found["losses"]
    assert np.isfinite(losses).all()
    assert losses[-2:].mean() < 0.7 * losses[:2].mean()
