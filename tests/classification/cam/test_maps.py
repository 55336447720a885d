"""Class activation maps against formulas written out, other models' gradients, and each other."""

from __future__ import annotations

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from sklearn.decomposition import PCA

from classification.cam.maps import Explainer
from classification.cam.methods import METHODS, WEIGHTINGS, first_component
from classification.models.architectures import ARCHITECTURES, build_model
from classification.models.layers import map_layers
from classification.settings import ClassificationSettings
from inspection.errors import InputError
from inspection.finite import NotFinite


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(3)


@pytest.fixture
def views() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (3, 24, 24, 3)).astype(np.float32)


def convolutions(name: str = "inner", channels: int = 5) -> keras.Model:
    inputs = keras.Input((24, 24, 3))
    x = layers.Rescaling(1 / 64)(inputs)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(x)
    x = layers.Conv2D(channels, 3, activation="relu", name="last")(x)
    return keras.Model(inputs, x, name=name)


def global_mean_model() -> keras.Model:
    """Convolutions, global average pooling, one dense layer."""
    inner = convolutions()
    pooled = layers.GlobalAveragePooling2D()(inner.output)
    return keras.Model(inner.input, layers.Dense(4, name="logits")(pooled))


def deep_model(activation: str | None = None) -> keras.Model:
    """Something behind the last map that is not linear."""
    inner = convolutions()
    x = layers.MaxPooling2D(2)(inner.output)
    x = layers.Dense(7, activation="tanh")(layers.Flatten()(x))
    return keras.Model(inner.input, layers.Dense(4, activation=activation, name="logits")(x))


def slopes(model: keras.Model, layer: str, views: np.ndarray, target) -> tuple:
    """Activations and gradients by cutting the model in two."""
    cut = keras.Model(model.input, [model.get_layer(layer).output, model.output])
    with tf.GradientTape() as tape:
        a, logits = cut(views)
        score = tf.reduce_sum(tf.gather(logits, target, axis=1, batch_dims=1))
    return a.numpy(), tape.gradient(score, a).numpy()


def test_grad_cam_hires_cam_and_the_classic_cam_are_one_under_a_global_mean(views):
    model = global_mean_model()
    explain = Explainer(model, "last")
    for kind in range(4):
        grad = explain(views, kind, "grad-cam").maps
        np.testing.assert_allclose(grad, explain(views, kind, "hires-cam").maps, atol=1e-6)
        a, _ = explain.activations(views)
        # Zhou et al. 2016, equation 2; the mean divides by the number of cells.
        classic = np.maximum(a @ model.get_layer("logits").kernel.numpy()[:, kind], 0)
        np.testing.assert_allclose(grad * a[0, ..., 0].size, classic, rtol=1e-4, atol=1e-5)


def test_methods_that_weigh_by_gradients_equal_their_formulas(views):
    model = deep_model()
    explain, target = Explainer(model, "last"), [0, 2, 3]
    a, g = slopes(model, "last", views, target)
    np.testing.assert_allclose(explain.gradients(views, target), g, rtol=1e-4, atol=1e-7)
    for index in range(3):
        own, slope = a[index].astype(float), g[index].astype(float)
        maps = {"hires-cam": 0.0, "layer-cam": 0.0, "grad-cam": 0.0}
        maps |= {"xgrad-cam": 0.0, "grad-cam++": 0.0}
        for k in range(own.shape[-1]):
            x, d = own[..., k], slope[..., k]
            maps["grad-cam"] += d.mean() * x
            maps["hires-cam"] += d * x
            maps["layer-cam"] += np.where(d > 0, d, 0) * x
            maps["xgrad-cam"] += (d * x).sum() / x.sum() * x if x.sum() else 0
            with np.errstate(invalid="ignore", divide="ignore"):
                alpha = np.nan_to_num(d**2 / (2 * d**2 + x.sum() * d**3), posinf=0, neginf=0)
            maps["grad-cam++"] += (alpha * np.where(d > 0, d, 0)).sum() * x
        for method, wanted in maps.items():
            found = explain(views, target, method).maps[index]
            wanted = np.maximum(wanted, 0)
            scale = max(float(wanted.max()), 1e-9)
            np.testing.assert_allclose(found / scale, wanted / scale, atol=2e-4, err_msg=method)


def test_xgrad_cams_weights_make_up_the_logit_of_a_network_without_bias(views):
    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(5, 3, activation="relu", use_bias=False, name="last")(inputs)
    x = layers.Dense(6, activation="relu", use_bias=False)(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(3, use_bias=False)(x))
    explain = Explainer(model, "last")
    a, logits = explain.activations(views)
    g = explain.gradients(views, 1)
    total = (a * WEIGHTINGS["xgrad-cam"](a, g)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(total, logits[:, 1], rtol=1e-3)


def test_score_cam_equals_its_loop_over_channels(views):
    model = deep_model()
    explain = Explainer(model, "last")
    a, _ = explain.activations(views[:1])
    scores, alive = [], []
    for k in range(a.shape[-1]):
        channel = a[0, ..., k]
        if np.ptp(channel) == 0:
            continue
        mask = (channel - channel.min()) / np.ptp(channel)
        # Two convolutions of 3 x 3, the first at stride 2, unpadded: centres at 3, 5, ..., 19.
        centres = 3 + 2 * np.arange(9)
        mask = np.stack([np.interp(np.arange(24), centres, row) for row in mask])
        mask = np.stack([np.interp(np.arange(24), centres, row) for row in mask.T]).T[..., None]
        mean = views[0].mean(axis=(0, 1))
        logits = model(mean + (views[0] - mean) * mask[None]).numpy()
        scores.append(logits[0, 2])
        alive.append(channel)
    weights = np.exp(scores) / np.exp(scores).sum()
    wanted = sum(w * c for w, c in zip(weights, alive, strict=True))
    found = explain(views[:1], 2, "score-cam").maps[0]
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-3, atol=1e-5)


def test_ablation_cam_equals_its_loop_over_channels(views):
    inner, model = convolutions(), None
    x = layers.MaxPooling2D(2)(inner.output)
    head = keras.Sequential([layers.Flatten(), layers.Dense(7, activation="tanh"), layers.Dense(4)])
    model = keras.Model(inner.input, head(x))
    explain = Explainer(model, "last")
    a, logits = explain.activations(views[:1])
    wanted = 0.0
    for k in range(a.shape[-1]):
        without = a.copy()
        without[..., k] = 0
        left = head(tf.nn.max_pool2d(without, 2, 2, "VALID")).numpy()[0, 1]
        wanted = wanted + (logits[0, 1] - left) / abs(logits[0, 1]) * a[0, ..., k]
    found = explain(views[:1], 1, "ablation-cam").maps[0]
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-3, atol=1e-4)


def test_eigen_cam_is_the_first_principal_component(views):
    explain = Explainer(deep_model(), "last")
    a, _ = explain.activations(views)
    found = explain(views, 0, "eigen-cam").maps
    for index in range(3):
        cells = a[index].reshape(-1, a.shape[-1]).astype(float)
        wanted = PCA(1).fit_transform(cells).reshape(found.shape[1:])
        wanted = max(wanted, -wanted, key=lambda m: np.corrcoef(m.ravel(), cells.sum(1))[0, 1])
        np.testing.assert_allclose(found[index], np.maximum(wanted, 0), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found, explain(views, 3, "eigen-cam").maps)


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam"])
def test_smoothing_by_views_is_the_mean_over_them(views, method):
    explain = Explainer(deep_model(), "last")
    wanted = 0.0
    for gain in (0.9, 1.0, 1.1):
        for flip in (1, -1):
            maps = explain(np.clip(views * gain, 0, 255)[:, :, ::flip], 1, method).maps
            if flip < 0:
                # Cells at 3, 5, ..., 19 of 24 pixels lie at 20, 18, ..., 4 when mirrored.
                maps = np.apply_along_axis(
                    lambda row: np.interp(3 + 2 * np.arange(9), 4 + 2 * np.arange(9), row[::-1]),
                    2,
                    maps,
                )
            wanted = wanted + maps / 6
    found = explain(views, 1, method, "augment").maps
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_batch_is_its_images_one_by_one(views):
    explain = Explainer(deep_model())
    for method in METHODS:
        whole = explain(views, [0, 1, 2], method, "pca").maps
        single = [explain(v[None], k, method, "pca").maps[0] for k, v in enumerate(views)]
        np.testing.assert_allclose(whole, np.stack(single), rtol=1e-3, atol=1e-4, err_msg=method)


def test_nested_models_are_explained_as_flat_ones(views):
    inner = convolutions()
    flat = keras.Model(inner.input, layers.Dense(4)(layers.Flatten()(inner.output)))
    outer = keras.Input((24, 24, 3))
    middle = keras.Model(inner.input, layers.Activation("linear")(inner.output), name="middle")
    nested = keras.Model(outer, layers.Dense(4)(layers.Flatten()(middle(outer))))
    nested.layers[-1].set_weights(flat.layers[-1].get_weights())
    # The same layer stands behind both names.
    names = [name for name in map_layers(nested) if name.endswith("last")]
    assert names == ["middle/last"]
    for method in METHODS:
        wanted = Explainer(flat, "last")(views, 1, method).maps
        found = Explainer(nested, names[0])(views, 1, method).maps
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5, err_msg=method)


def test_a_model_that_ends_in_softmax_is_explained_by_its_logits(views):
    plain = deep_model()
    for ending in (deep_model("softmax"), None):
        if ending is None:
            ending = keras.Model(plain.input, layers.Softmax()(plain.output))
        else:
            ending.set_weights(plain.get_weights())
        found = Explainer(ending, "last")(views, 1)
        np.testing.assert_allclose(found.maps, Explainer(plain, "last")(views, 1).maps, atol=1e-6)
        np.testing.assert_allclose(found.logits, plain(views), atol=1e-5)
        np.testing.assert_allclose(ending(views).numpy().sum(axis=1), 1, rtol=1e-5)


def test_one_output_is_two_classes(views):
    inner = convolutions()
    x = layers.Flatten()(inner.output)
    model = keras.Model(inner.input, layers.Dense(1, activation="sigmoid")(x))
    explain = Explainer(model, "last")
    a = explain.gradients(views, 1)
    np.testing.assert_allclose(a, -explain.gradients(views, 0), atol=1e-7)
    assert explain(views).logits.shape == (3, 2)


@pytest.mark.parametrize("extra", [0, 1])
def test_tokens_are_laid_out_on_their_grid(views, extra):
    """(B, N, C), with and without a class token, is the map that it came from."""
    inner = convolutions()
    height, width = inner.output.shape[1:3]

    class Token(layers.Layer):
        def call(self, tokens):
            return keras.ops.concatenate([keras.ops.mean(tokens, 1, True), tokens], axis=1)

    x = layers.Reshape((height * width, 5), name="tokens")(inner.output)
    if extra:
        x = Token(name="tokens_and_one")(x)
    x = layers.Dense(4)(layers.Flatten()(x))
    model = keras.Model(inner.input, x)
    found = Explainer(model, "tokens_and_one" if extra else "tokens").activations(views)[0]
    np.testing.assert_allclose(found, inner(views), atol=1e-6)


def test_maps_follow_what_the_network_uses():
    """A network that only sums one quarter must be told to look there, by every method."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(3, 1, activation="relu", name="map", use_bias=False)(inputs)
    corner = layers.Cropping2D(((0, 8), (8, 0)))(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(corner)))
    model.get_layer("map").set_weights([np.eye(3).reshape(1, 1, 3, 3)])
    model.layers[-1].set_weights([np.stack([np.full(192, -1.0), np.ones(192)], 1), np.zeros(2)])
    rng = np.random.default_rng(0)
    view = rng.uniform(100, 120, (1, 16, 16, 3)).astype(np.float32)
    view[:, 2:5, 10:14] = 250
    for method in ("hires-cam", "layer-cam", "score-cam", "grad-cam"):
        cam = Explainer(model, "map")(view, 1, method).maps[0]
        y, x = np.unravel_index(cam.argmax(), cam.shape)
        assert 2 <= y < 5, method
        assert 10 <= x < 14, method
    hires = Explainer(model, "map")(view, 1, "hires-cam").maps[0]
    assert not hires[8:].any()
    assert not hires[:, :8].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_finite_number_is_not_explained(views, value):
    model = global_mean_model()
    kernel = model.layers[-1].kernel
    kernel.assign(np.full(kernel.shape, value))
    for method in ("grad-cam", "eigen-cam"):
        with pytest.raises(NotFinite):
            Explainer(model)(views, 0, method)


def test_what_cannot_be_explained_is_said(views):
    model = deep_model()
    with pytest.raises(InputError, match=r"--layer nope.*first.*last"):
        Explainer(model, "nope")
    flat = keras.Sequential([keras.Input((24, 24, 3)), layers.Flatten(), layers.Dense(4)])
    with pytest.raises(InputError, match="no layer that holds a map"):
        Explainer(flat)
    explain = Explainer(model)
    with pytest.raises(InputError, match="--method huh"):
        explain(views, 0, "huh")
    with pytest.raises(InputError, match="--smooth huh"):
        explain(views, 0, smooth="huh")
    with pytest.raises(InputError, match="class 9"):
        explain(views, 9)


@pytest.mark.parametrize("name", ["resnet18-small", "swin", "mobilenetv3"])
def test_architectures_are_explained_at_their_last_map(name):
    model = build_model(name, 64, 3)
    view = np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    explain = Explainer(model)
    assert explain.layer == "features"
    grad = explain(view, 1).maps
    assert grad.shape[1] == grad.shape[2] == 2
    # One dense layer behind a mean, here too.
    np.testing.assert_allclose(grad, explain(view, 1, "hires-cam").maps, atol=1e-6)


def test_the_architectures_are_those_that_the_settings_offer():
    offered = ClassificationSettings.model_fields["model"].annotation
    assert tuple(ARCHITECTURES) == typing.get_args(offered)
    assert {"resnet18", "resnet50", "mobilenetv2", "swin"} <= set(ARCHITECTURES)


def test_grad_cam_plus_plus_does_not_depend_on_the_scale_of_the_logit():
    """A sure model's gradients are small, and their squares are under float32's resolution."""
    rng = np.random.default_rng(0)
    a = rng.random((2, 4, 5, 3)).astype(np.float32)
    g = rng.normal(size=a.shape).astype(np.float32)
    for scale in (1e-7, 1e-12):
        found = WEIGHTINGS["grad-cam++"](a, scale * g) / scale
        wanted = np.maximum(g, 0).sum(axis=(1, 2), keepdims=True) / 2
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_eigen_cam_shows_what_differs_and_not_what_all_cells_share():
    rng = np.random.default_rng(0)
    values = np.full((1, 6, 6, 4), 50.0) + rng.normal(0, 0.01, (1, 6, 6, 4))
    values[0, 2, 3] += (4, 3, 2, 1)
    found = np.maximum(first_component(values), 0)[0]
    assert found.argmax() == 2 * 6 + 3
    assert np.delete(found.ravel(), 15).max() < 0.1 * found.max()
    assert not first_component(np.ones((1, 3, 3, 2))).any()


def test_two_visitors_at_once_each_see_their_own_image(views):
    """Another thread's look between two steps of this one's does not change its answer."""

    class Interrupted(Explainer):
        reads = 0
        other = (b"another key", np.zeros(1), np.zeros(1))

        @property
        def _seen(self):
            self.reads += 1
            return self.other if self.reads > 1 else None

        @_seen.setter
        def _seen(self, value):
            pass

    explain = Interrupted(deep_model(), "last")
    found, _ = explain.activations(views)
    assert found.shape == (3, 9, 9, 5)
