"""Backbones against keras.applications, their weight files, and the network left alone."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from inspection.errors import InputError
from inspection.models import backbones, weights
from inspection.models.backbones import NAMES, resnet
from inspection.models.layers import LocalContrast, Normalise
from inspection.models.weights import fetch_imagenet, load_weights_file

PUBLISHED = {
    "resnet50": keras.applications.ResNet50,
    "resnet101": keras.applications.ResNet101,
    "resnet152": keras.applications.ResNet152,
}


def published(name: str, **options) -> keras.Model:
    """keras.applications' network with random weights, statistics included."""
    options = {"weights": None, "include_top": False, "input_shape": (None, None, 3)} | options
    model = PUBLISHED[name](**options)
    shake(model, 1)
    return model


def shake(model: keras.Model, seed: int) -> None:
    """Random biases, scales and statistics; a fresh network's ones and zeros would hide errors."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        kind = weight.path.rsplit("/", 1)[-1]
        if kind in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif kind in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.1, weight.shape))


def pictures(height=64, width=64, count=2, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (count, height, width, 3)).astype(np.float32)


def taps(model: keras.Model, names) -> keras.Model:
    return keras.Model(model.input, [model.get_layer(name).output for name in names])


def assert_features_equal(ours: keras.Model, theirs: keras.Model) -> None:
    """Ours takes RGB 0-255, theirs what its own `preprocess_input` makes of it."""
    names = list(ours.pyramid_level_inputs.values())
    images = pictures()
    expected = taps(theirs, names)(keras.applications.resnet.preprocess_input(images.copy()))
    for found, wanted in zip(taps(ours, names)(images), expected, strict=True):
        wanted = np.asarray(wanted)
        scale = np.abs(wanted).max()
        assert scale > 0
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-3, atol=1e-4 * scale)


def write_legacy_weights(model: keras.Model, path: Path) -> None:
    """The form in which keras.applications' weight files are published."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def layer_names(file: h5py.File) -> list[str]:
    names = file.attrs["layer_names"]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def set_layer_names(file: h5py.File, names: list[str]) -> None:
    file.attrs["layer_names"] = [name.encode() for name in names]


@pytest.fixture(scope="module")
def resnet50_with_top() -> keras.Model:
    return published("resnet50", include_top=True, input_shape=(64, 64, 3))


@pytest.fixture(scope="module")
def weights_file(resnet50_with_top, tmp_path_factory) -> Path:
    """A file as `resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5` is."""
    path = tmp_path_factory.mktemp("가중치") / "notop.h5"
    body = keras.Model(
        resnet50_with_top.input, resnet50_with_top.get_layer("conv5_block3_out").output
    )
    write_legacy_weights(body, path)
    return path


# --- equal to keras.applications ---------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_features_equal_keras_applications_through_its_file(norm, resnet50_with_top, weights_file):
    ours = resnet("resnet50", norm)
    load_weights_file(ours, weights_file)
    assert_features_equal(ours, resnet50_with_top)


def test_file_with_the_classifier_loads_as_well(resnet50_with_top, tmp_path):
    path = tmp_path / "whole.h5"
    write_legacy_weights(resnet50_with_top, path)
    ours = resnet("resnet50")
    load_weights_file(ours, path)
    assert_features_equal(ours, resnet50_with_top)


def test_whole_saved_model_loads_as_well(resnet50_with_top, tmp_path):
    """What `keras.applications.ResNet50().save("x.h5")` writes."""
    path = tmp_path / "model.h5"
    resnet50_with_top.save(path)
    ours = resnet("resnet50")
    load_weights_file(ours, path)
    assert_features_equal(ours, resnet50_with_top)


def test_resnet101_features_equal_with_copied_weights():
    theirs, ours = published("resnet101"), resnet("resnet101", "frozen")
    for layer in theirs.layers:
        if layer.weights:
            ours.get_layer(layer.name).set_weights(layer.get_weights())
    assert_features_equal(ours, theirs)


def test_resnet152_has_the_published_layers():
    theirs, ours = (
        {layer.name: [w.shape for w in layer.weights] for layer in model.layers if layer.weights}
        for model in (published("resnet152"), resnet("resnet152"))
    )
    assert ours == theirs


# --- wrong files -------------------------------------------------------------------------------


def refused(model: keras.Model, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_weights_file(model, path)
    (problem,) = caught.value.problems
    assert str(path) in problem
    return problem


@pytest.fixture(scope="module")
def untouched_resnet50() -> keras.Model:
    return resnet("resnet50")


def test_missing_file_is_refused(untouched_resnet50, tmp_path):
    assert "--weights" in refused(untouched_resnet50, tmp_path / "없음.h5")


def test_what_is_no_weights_file_is_refused(untouched_resnet50, tmp_path):
    (tmp_path / "page.h5").write_text("<html>404</html>")
    refused(untouched_resnet50, tmp_path / "page.h5")
    (tmp_path / "empty.h5").write_bytes(b"")
    refused(untouched_resnet50, tmp_path / "empty.h5")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["temperature"] = 21.5
    refused(untouched_resnet50, tmp_path / "data.h5")


def test_half_a_download_is_refused(untouched_resnet50, weights_file, tmp_path):
    content = weights_file.read_bytes()
    (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
    assert "resnet50" in refused(untouched_resnet50, tmp_path / "half.h5")


def test_file_without_one_of_the_layers_is_refused(untouched_resnet50, weights_file, tmp_path):
    """Loading by name would pass over it in silence."""
    path = tmp_path / "less.h5"
    shutil.copy(weights_file, path)
    with h5py.File(path, "r+") as file:
        del file["conv4_block3_2_conv"]
        set_layer_names(file, [name for name in layer_names(file) if name in file])
    assert "conv4_block3_2_conv" in refused(untouched_resnet50, path)


def test_file_of_a_deeper_network_is_refused(untouched_resnet50, weights_file, tmp_path):
    """ResNet101 has every layer of ResNet50, of equal shape, and means other things by them."""
    path = tmp_path / "resnet101.h5"
    shutil.copy(weights_file, path)
    with h5py.File(path, "r+") as file:
        for block in range(7, 24):
            file.copy("conv4_block6_2_conv", f"conv4_block{block}_2_conv")
        more = [f"conv4_block{block}_2_conv" for block in range(7, 24)]
        set_layer_names(file, layer_names(file) + more)
    refused(untouched_resnet50, path)


@pytest.mark.parametrize(("name", "norm"), [("resnet18", "batch"), ("resnet50", "group")])
def test_file_that_does_not_fit_the_backbone_is_refused(name, norm, weights_file):
    refused(resnet(name, norm), weights_file)


# --- the network -------------------------------------------------------------------------------


def test_building_never_goes_online(no_network):
    for name in ("resnet18", "resnet34", "resnet50"):
        resnet(name)
    assert not no_network


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(weights.PUBLISHED)))
def test_backbones_without_published_weights_say_so(name, no_network):
    with pytest.raises(InputError, match=f"{name} has no published"):
        fetch_imagenet(name)
    assert not no_network


@pytest.mark.parametrize("name", weights.PUBLISHED)
def test_offline_names_the_file_to_copy(name, monkeypatch):
    def fail(_name):
        raise OSError("Name or service not known")

    monkeypatch.setattr(weights, "_download", fail)
    began = time.perf_counter()
    with pytest.raises(InputError) as caught:
        fetch_imagenet(name)
    assert time.perf_counter() - began < 5
    assert weights.PUBLISHED[name].file in str(caught.value)
    assert "--weights" in str(caught.value)


def test_a_connection_that_hangs_is_given_up(monkeypatch):
    release = threading.Event()

    def hang(_name):
        release.wait(30)
        raise OSError("released")

    monkeypatch.setattr(weights, "_download", hang)
    began = time.perf_counter()
    with pytest.raises(InputError, match="no answer within"):
        fetch_imagenet("resnet50", timeout=0.2)
    assert time.perf_counter() - began < 5
    release.set()


def test_the_download_that_works_is_used(monkeypatch, weights_file):
    monkeypatch.setattr(weights, "_download", lambda name: str(weights_file))
    assert fetch_imagenet("resnet50", timeout=5) == weights_file


# --- shapes, norms, freezing -------------------------------------------------------------------


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="resnet18"):
        resnet("resnet19")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_taps_have_strides_4_to_32_at_odd_sizes(name):
    model = resnet(name, "frozen")
    assert list(model.pyramid_level_inputs) == ["P2", "P3", "P4", "P5"]
    found = taps(model, model.pyramid_level_inputs.values())(pictures(97, 131, 1))
    for stride, feature in zip((4, 8, 16, 32), found, strict=True):
        assert tuple(feature.shape[1:3]) == (-(-97 // stride), -(-131 // stride))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_cell_sees_the_same_pixels_at_odd_and_even_sizes(name):
    """Windows of one size train what images of another size are evaluated with.

    The first cells are too far from the right and the bottom edge to see what was added there.
    """
    model = resnet(name, "frozen")
    model = taps(model, model.pyramid_level_inputs.values())
    large = pictures(301, 305, 1)
    expected = model(large[:, :288, :288])
    for height, width in ((289, 288), (301, 303), (300, 305)):
        for wanted, found in zip(expected, model(large[:, :height, :width]), strict=True):
            wanted, found = (np.asarray(value)[:, :2, :2] for value in (wanted, found))
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def statistics(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(w) for w in model.weights if "moving" in w.path]


def test_batch_norm_learns_its_statistics():
    model = resnet("resnet18", "batch")
    before = statistics(model)
    model(pictures(), training=True)
    assert any((a != b).any() for a, b in zip(before, statistics(model), strict=True))


def test_frozen_norm_keeps_statistics_and_scales():
    model = resnet("resnet18", "frozen")
    shake(model, 2)
    before = statistics(model)
    images = pictures()
    learning = np.asarray(model(images, training=True))
    np.testing.assert_allclose(learning, np.asarray(model(images, training=False)), rtol=1e-5)
    for old, new in zip(before, statistics(model), strict=True):
        np.testing.assert_array_equal(old, new)
    kinds = {weight.path.rsplit("/", 1)[-1] for weight in model.trainable_variables}
    assert kinds == {"kernel"}


def test_group_norm_does_not_look_at_the_rest_of_the_batch():
    model = resnet("resnet18", "group")
    assert not statistics(model)
    shake(model, 3)
    images = pictures(count=3)
    together, alone = model(images, training=True), model(images[:1], training=False)
    scale = np.abs(np.asarray(alone)).max()
    np.testing.assert_allclose(together[:1], alone, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_freezing_leaves_nothing_to_train(norm):
    model = resnet("resnet18", norm, trainable=False)
    assert not model.trainable_variables
    before = statistics(model)
    model(pictures(), training=True)
    for old, new in zip(before, statistics(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_a_fresh_backbone_tells_images_apart(name, norm):
    """Scales that start at zero must not switch the network off for good."""
    images = pictures(count=2)
    images[1] = 40
    features = np.asarray(resnet(name, norm)(images, training=False))
    assert np.isfinite(features).all()
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_a_width_of_32_halves_every_stage():
    model = resnet("resnet18", "frozen", width=32)
    found = taps(model, model.pyramid_level_inputs.values())(pictures(64, 64, 1))
    assert [feature.shape[-1] for feature in found] == [32, 64, 128, 256]


def test_efficientnet_has_its_stages_and_names_what_cannot_be_loaded(tmp_path):
    model = backbones.efficientnet_b5()
    found = taps(model, backbones.EFFICIENTNET_STAGES)(pictures(64, 64, 1))
    assert [tuple(one.shape[1:]) for one in found] == [(8, 8, 64), (4, 4, 176), (2, 2, 304)]
    (tmp_path / "x.h5").write_bytes(b"no weights")
    with pytest.raises(InputError, match="efficientnetb5_notop"):
        backbones.efficientnet_b5(str(tmp_path / "x.h5"))


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_local_contrast_is_finite_on_even_black_and_white(jit):
    """Running sums that are compiled by XLA round below zero where nothing varies."""
    rng = np.random.default_rng(0)
    image = np.zeros((1, 640, 640, 3), np.float32)
    for _ in range(25):
        (x, y), (width, height) = rng.integers(0, 580, 2), rng.integers(8, 200, 2)
        image[:, y : y + height, x : x + width] = 255
    inputs = keras.Input((640, 640, 3))
    normalise = Normalise((123.68, 116.779, 103.939), scale=1 / 58, bgr=False)
    model = keras.Model(inputs, LocalContrast()(normalise(inputs)))
    model.compile(jit_compile=jit)
    found = np.asarray(model.predict_on_batch(image))
    assert np.isfinite(found).all()
    # Against the definition in float64, where whole windows fit.
    windows = np.lib.stride_tricks.sliding_window_view
    plain = np.asarray(normalise(image[:, :128, :128]), np.float64)[0]
    deviation = plain[16:-16, 16:-16] - windows(plain, (33, 33), axis=(0, 1)).mean(axis=(-1, -2))
    variance = windows(deviation**2, (33, 33), axis=(0, 1)).mean(axis=(-1, -2))
    wanted = deviation[16:-16, 16:-16] / (np.sqrt(variance + 1e-8) + 0.05)
    np.testing.assert_allclose(found[0, 32:96, 32:96, 3:], wanted, atol=5e-3)
