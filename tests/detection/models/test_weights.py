"""Where weights come from: what is taken, what is left out, and what is said."""

from __future__ import annotations

import threading
import time

import keras
import numpy as np
import pytest

from detection.models.detector import Detector
from detection.models.retinanet import RetinaNet
from detection.models.weights import apply_weights
from inspection.errors import InputError
from inspection.models import weights
from inspection.models.backbones import NAMES
from tests.cards import detector_card


def small_model(classes=("dot", "긁힘"), backbone="resnet18", norm="batch", **options) -> RetinaNet:
    options = {"channels": 32, "head_convs": 2} | options
    return RetinaNet(backbone, classes, norm=norm, **options)


def resolve_weights(backbone: str, choice: str, say) -> str:
    return weights.resolve_weights(backbone, choice, NAMES, say)


def randomised(model: RetinaNet, seed: int) -> RetinaNet:
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 1, weight.shape))
    return model


def values(model: RetinaNet) -> dict[str, np.ndarray]:
    return {weight.path: np.asarray(weight) for weight in model.weights}


@pytest.fixture(scope="module")
def source() -> RetinaNet:
    return randomised(small_model(), 1)


@pytest.fixture(scope="module")
def snapshot(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("스냅샷") / "best.keras"
    Detector(source, detector_card()).save(path)
    return path


# --- resolving ---------------------------------------------------------------------------------


def test_none_and_files_resolve_to_themselves(snapshot, no_network):
    said: list[str] = []
    assert resolve_weights("resnet50", "none", said.append) == "none"
    assert resolve_weights("resnet18", str(snapshot), said.append) == str(snapshot)
    assert not said
    assert not no_network


def test_auto_without_published_weights_says_so_loudly(no_network):
    said: list[str] = []
    assert resolve_weights("resnet18", "auto", said.append) == "none"
    assert len(said) == 1
    assert said[0].startswith("TRAINING FROM SCRATCH")
    assert "\n" not in said[0]
    assert not no_network


def test_imagenet_without_published_weights_is_refused(no_network):
    with pytest.raises(InputError, match="resnet34 has no published"):
        resolve_weights("resnet34", "imagenet", print)
    assert not no_network


def test_auto_offline_goes_on_from_scratch(monkeypatch):
    def fail(_name):
        raise OSError("Name or service not known")

    monkeypatch.setattr(weights, "_download", fail)
    said: list[str] = []
    assert resolve_weights("resnet50", "auto", said.append) == "none"
    assert len(said) == 1
    assert said[0].startswith("TRAINING FROM SCRATCH")
    assert "Name or service not known" in said[0]


def test_auto_gives_up_a_connection_that_hangs(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(weights, "_download", lambda name: release.wait(60))
    monkeypatch.setattr(weights, "AUTO_SECONDS", 0.3)
    began = time.perf_counter()
    assert resolve_weights("resnet101", "auto", lambda text: None) == "none"
    assert time.perf_counter() - began < 5
    release.set()


def test_imagenet_offline_is_refused_before_anything_is_trained(monkeypatch):
    def fail(_name):
        raise OSError("Name or service not known")

    monkeypatch.setattr(weights, "_download", fail)
    with pytest.raises(InputError, match=r"cannot be reached.*notop\.h5"):
        choice = resolve_weights("resnet50", "imagenet", print)
        apply_weights(small_model(backbone="resnet50"), choice, print)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"없음\.h5"):
        resolve_weights("resnet50", str(tmp_path / "없음.h5"), print)


# --- our snapshots -----------------------------------------------------------------------------


def test_snapshot_of_the_same_classes_is_taken_whole(source, snapshot):
    model = small_model()
    said: list[str] = []
    apply_weights(model, str(snapshot), said.append)
    expected = values(source)
    assert set(values(model)) == set(expected)
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
    assert str(len(model.weights)) in said[0]


@pytest.mark.parametrize("classes", [("긁힘", "dot"), ("crack", "dent"), ("one",), ("a", "b", "c")])
def test_snapshot_of_other_classes_gives_all_but_the_class_outputs(classes, source, snapshot):
    """Outputs for other classes, or for the same in another order, would be wrong answers."""
    model = small_model(classes)
    fresh = values(model)
    apply_weights(model, str(snapshot), lambda text: None)
    taken = values(source)
    for path, value in values(model).items():
        own = path.startswith("classification_head/prediction")
        expected = fresh[path] if own else taken[path]
        np.testing.assert_array_equal(value, expected, err_msg=path)


def test_frozen_norm_takes_the_statistics_of_a_trained_one(source, snapshot):
    """The policy after `auto` for any weights that are not `none`."""
    model = small_model(norm="frozen")
    apply_weights(model, str(snapshot), lambda text: None)
    taken = values(source)
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, taken[path], err_msg=path)


def test_snapshot_with_another_norm_is_refused(tmp_path):
    """GroupNorm's scales without statistics make a BatchNorm network that means nothing."""
    path = tmp_path / "group.keras"
    Detector(randomised(small_model(norm="group"), 2), detector_card()).save(path)
    with pytest.raises(InputError, match="norm"):
        apply_weights(small_model(norm="frozen"), str(path), lambda text: None)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"backbone": "resnet34"}, "resnet18"), ({"channels": 64}, "channels 32")],
)
def test_snapshot_of_another_network_is_refused(options, word, snapshot):
    with pytest.raises(InputError, match=word):
        apply_weights(small_model(**options), str(snapshot), print)


def test_keras_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(InputError, match=r"other\.keras"):
        apply_weights(small_model(), str(path), print)
    path.write_bytes(b"PK no zip")
    with pytest.raises(InputError, match=r"other\.keras"):
        apply_weights(small_model(), str(path), print)


def test_h5_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"weights\.h5"):
        apply_weights(small_model(), str(path), print)
