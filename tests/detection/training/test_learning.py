"""What a training is for: the loss falls and the boxes are found, on both backends."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

from detection.data.annotations import read_annotations
from detection.evaluation.snapshot import EvaluationRequest, evaluate_snapshot
from detection.models.detector import Detector
from detection.models.retinanet import RetinaNet
from detection.training import setup as training_setup
from detection.training.loop import train
from inspection.models import backbones
from tests.cards import detector_card
from tests.conftest import CLASSES, write_small_set
from tests.detection.small_runs import Recorder, log_rows, settings_for
from tests.places import ROOT


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


def test_four_images_are_learnt_by_heart(learnt):
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
from tests.cards import detector_card
from tests.conftest import SmallSet
from tests.detection.small_runs import Recorder, settings_for

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


@pytest.mark.slow
def test_jax_trains_as_well(tmp_path, monkeypatch):
    """The same numbers as TensorFlow from one snapshot, and a loss that falls."""
    pytest.importorskip("jax", reason="JAX is not installed; it is the backend of some GPU hosts")
    data = write_small_set(tmp_path / "자료", train=4, val=1, repeat_val=True)
    monkeypatch.setitem(backbones._DEPTHS, "resnet18", ((1, 1, 1, 1), False))
    model = RetinaNet("resnet18", CLASSES, channels=32, head_convs=1)
    detector = Detector(model, detector_card(640))
    detector.save(data.snapshots / "tensorflow.keras")
    # Even black and white, as on a binary camera: the hardest case for a local contrast.
    rng = np.random.default_rng(0)
    images = np.zeros((1, 640, 640, 3), np.float32)
    for _ in range(25):
        (x, y), (width, height) = rng.integers(0, 580, 2), rng.integers(8, 200, 2)
        images[:, y : y + height, x : x + width] = 255
    expected = detector.forward(images)
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
