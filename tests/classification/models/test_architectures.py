"""Every architecture: shapes, saving, weights; the Swin transformer against its definition."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet
from keras.src.legacy.saving import legacy_h5_format

from classification.models.architectures import (
    ARCHITECTURES,
    FEATURES,
    Architecture,
    build_model,
    take_snapshot,
)
from classification.models.classifier import Classifier
from classification.models.swin import WindowAttention, swin
from inspection.errors import InputError
from inspection.models import backbones
from inspection.models.weights import resolve_weights
from tests.cards import classifier_card


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_saves_and_reloads(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = build_model(name, 64, 3)
    views = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    model.save(tmp_path / "모델.keras")
    again = keras.saving.load_model(tmp_path / "모델.keras", compile=False)
    before = np.asarray(model(views, training=False))
    assert before.shape == (2, 3)
    assert np.isfinite(before).all()
    np.testing.assert_allclose(again(views, training=False), before, rtol=1e-4, atol=1e-5)


def test_what_is_published_keeps_its_layers():
    """Weights of keras.applications fit, as far as names and shapes go."""
    ours = build_model("resnet50", 64, 3)
    theirs = keras.applications.ResNet50(include_top=False, weights=None)
    shapes = {layer.name: [w.shape for w in layer.weights] for layer in ours.layers}
    for layer in theirs.layers:
        if layer.weights:
            assert shapes[layer.name] == [w.shape for w in layer.weights]


def test_weights_of_a_file_go_into_the_backbone(tmp_path):
    source = keras.applications.MobileNetV2(include_top=False, weights=None)
    path = tmp_path / "mobilenet.weights.h5"
    source.save_weights(path)
    model = build_model("mobilenetv2", 64, 3, str(path))
    np.testing.assert_array_equal(
        model.get_layer("Conv1").get_weights()[0], source.get_layer("Conv1").get_weights()[0]
    )
    with pytest.raises(InputError, match="cannot be read as weights of efficientnet"):
        build_model("efficientnet", 64, 3, str(path))


def published_file(path: Path) -> keras.Model:
    """An EfficientNet-B0 file as keras.applications publishes them, with other weights."""
    source = keras.applications.EfficientNetB0(include_top=False, weights=None)
    (normalisation,) = (x for x in source.layers if isinstance(x, keras.layers.Normalization))
    normalisation.adapt_mean.assign([0.485, 0.456, 0.406])
    normalisation.adapt_variance.assign(np.square([0.229, 0.224, 0.225]))
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, source)
    return source


def test_efficientnet_sees_the_same_by_path_as_by_name(tmp_path, monkeypatch):
    """Keras scales its inputs once more for the name alone, not for the file behind it."""
    keras.utils.set_random_seed(0)
    path = tmp_path / "b0_notop.h5"
    published_file(path)
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(path))

    def build(inputs, size: int):
        options = {"include_top": False, "weights": "imagenet", "input_tensor": inputs}
        return keras.applications.EfficientNetB0(**options).output

    with monkeypatch.context() as patch:
        patch.setitem(ARCHITECTURES, "efficientnet", Architecture(build))
        by_name = build_model("efficientnet", 64, 3)
    by_path = build_model("efficientnet", 64, 3, str(path))
    views = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)

    def inputs_and_features(model: keras.Model) -> list[np.ndarray]:
        outputs = [model.get_layer(name).output for name in ("stem_conv", FEATURES)]
        return [np.asarray(one) for one in keras.Model(model.input, outputs)(views)]

    for found, wanted in zip(*map(inputs_and_features, (by_path, by_name)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    # A snapshot of a run that began from the name hands on what its network saw, too.
    card = classifier_card(("a", "b", "c"), None, 64, "efficientnet")
    snapshot = str(tmp_path / "x.keras")
    Classifier(by_name, card).save(snapshot)
    model = build_model("efficientnet", 64, 3)
    told: list[str] = []
    take_snapshot(model, snapshot, card.classes, told.append)
    assert told == [f"{snapshot}: took {len(model.weights)} of {len(model.weights)} weights."]
    for found, wanted in zip(*map(inputs_and_features, (model, by_name)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_efficientnet_b5_sees_the_same_by_path_as_by_name(tmp_path, monkeypatch):
    keras.utils.set_random_seed(0)
    path = tmp_path / "notop.h5"
    published_file(path)
    # B0 in its place: the same construction, a tenth of the time.
    monkeypatch.setattr(keras.applications, "EfficientNetB5", keras.applications.EfficientNetB0)
    monkeypatch.setattr(backbones, "EFFICIENTNET_STAGES", ("block3b_add",))
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(path))
    whole = keras.applications.EfficientNetB0(include_top=False)
    by_name = keras.Model(whole.input, whole.get_layer("block3b_add").output)
    by_path = backbones.efficientnet_b5(str(path))
    views = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    wanted = np.asarray(by_name(views))
    np.testing.assert_allclose(by_path(views), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_auto_starts_from_scratch_without_internet(no_network):
    told: list[str] = []
    assert resolve_weights("resnet18", "auto", ARCHITECTURES, told.append) == "none"
    with pytest.raises(InputError, match=r"swin has no published.*resnet50"):
        resolve_weights("swin", "imagenet", ARCHITECTURES, told.append)
    with pytest.raises(InputError, match="no such file"):
        resolve_weights("swin", "nowhere.h5", ARCHITECTURES, told.append)
    assert "FROM SCRATCH" in told[0]


def test_one_window_attends_as_plain_multi_head_attention():
    """Without a bias a window over the whole map is attention over all its cells."""
    side, width, heads = 5, 12, 3
    maps = np.random.default_rng(0).normal(size=(2, side, side, width)).astype(np.float32)
    layer = WindowAttention(width, heads, (side, side), side)
    found = np.asarray(layer(maps))
    plain = keras.layers.MultiHeadAttention(heads, width // heads)
    tokens = maps.reshape(2, -1, width)
    plain.build(tokens.shape, tokens.shape)
    kernel, bias = layer.qkv.get_weights()
    values = []
    for part in range(3):
        columns = slice(part * width, (part + 1) * width)
        values += [kernel[:, columns].reshape(width, heads, -1), bias[columns].reshape(heads, -1)]
    kernel, bias = layer.projection.get_weights()
    plain.set_weights([*values, kernel.reshape(heads, -1, width), bias])
    layer.bias.assign(np.zeros(layer.bias.shape))
    found = np.asarray(layer(maps)).reshape(2, -1, width)
    np.testing.assert_allclose(found, plain(tokens, tokens), rtol=1e-4, atol=1e-5)


def test_the_relative_bias_depends_on_the_way_between_two_cells_alone():
    from classification.models.swin import _relative_index

    index = _relative_index(4).reshape(16, 16)
    cells = [(y, x) for y in range(4) for x in range(4)]
    seen: dict[tuple[int, int], int] = {}
    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            assert seen.setdefault((y - v, x - u), index[i, j]) == index[i, j]
    assert len(set(seen.values())) == 49


@pytest.mark.parametrize(("grid", "shift"), [((8, 8), 2), ((6, 7), 2), ((6, 7), 0)])
def test_shifted_windows_let_only_neighbours_see_each_other(grid, shift):
    """A changed cell changes what lies in its window and nothing across the image's border."""
    layer = WindowAttention(8, 2, grid, 4, shift)
    maps = np.random.default_rng(0).normal(size=(1, *grid, 8)).astype(np.float32)
    before = np.asarray(layer(maps))
    for y, x in ((0, 0), (grid[0] - 1, grid[1] - 1), (3, 4)):
        changed = maps.copy()
        changed[0, y, x] += 1
        moved = np.abs(np.asarray(layer(changed)) - before).max(axis=-1)[0] > 1e-6

        def window(value: int) -> int:
            return (value - shift) // 4

        for v in range(grid[0]):
            for u in range(grid[1]):
                same = (window(v), window(u)) == (window(y), window(x))
                assert moved[v, u] == same, (y, x, v, u)


@pytest.mark.parametrize("size", [32, 70, 96])
def test_swin_takes_sizes_that_are_no_multiple(size):
    inputs = keras.Input((size, size, 3))
    model = keras.Model(inputs, swin(inputs, size, 8, (2, 2), (2, 4)))
    side = math.ceil(math.ceil(size / 4) / 2)
    assert model.output_shape == (None, side, side, 16)
    assert np.isfinite(model(np.ones((1, size, size, 3), np.float32)).numpy()).all()


def test_swin_tiny_has_its_published_number_of_weights():
    model = build_model("swin", 224, 1000)
    assert model.count_params() == pytest.approx(28.3e6, rel=0.003)
