"""Where a map's cells are drawn: on what they see."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from classification.cam.maps import Explainer
from classification.models.architectures import ARCHITECTURES, build_model

SIZE = 96
# By hand from kernels, strides and padding, for sides of a multiple of 32: the second cell's
# centre. A ResNet pads evenly, keras.applications at the right and below, patches part evenly.
CENTRES = {"resnet": 32, "mobilenet": 63, "efficientnet": 63, "convnext": 47.5, "swin": 47.5}


def even_kernel(layer: layers.Layer) -> np.ndarray:
    """Positive and alike to all sides: where the layer's answer peaks is decided by place alone."""
    kernel = np.abs(layer.kernel.numpy()).mean(axis=(0, 1), keepdims=True)
    kernel = np.broadcast_to(kernel, layer.kernel.shape)
    axes = (0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (0, 1, 2)
    # Halved: sums along shortcuts stay under where an activation is cut.
    return kernel / kernel.sum(axis=axes, keepdims=True).mean() / 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_planted_blob_peaks_where_it_lies(name):
    keras.utils.set_random_seed(0)
    model = build_model(name, SIZE, 2)
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            layer.kernel.assign(even_kernel(layer))
    explain = Explainer(model)
    (centre,) = (place for family, place in CENTRES.items() if name.startswith(family))
    views = np.full((2, SIZE, SIZE, 3), 140, np.float32)
    blob = slice(int(centre - 3), int(np.ceil(centre + 3)) + 1)
    views[1, blob, blob] = 230
    activations, _ = explain.activations(views)
    answer = np.abs(activations[1].astype(float) - activations[0]).sum(axis=-1)
    drawn = explain.place(answer[None], views.shape[1:3])[0]
    peak = np.array(np.unravel_index(drawn.argmax(), drawn.shape))
    assert np.abs(peak - centre).max() <= 2


def model_of(*steps: layers.Layer, side: int = 40) -> keras.Model:
    inputs = x = keras.Input((side, side, 3))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("steps", "origin", "stride"),
    [
        ([layers.Conv2D(8, 3, 2)], 1, 2),
        ([layers.Conv2D(8, 3, 2, padding="same")], 1, 2),
        ([layers.ZeroPadding2D(1), layers.Conv2D(8, 3, 2)], 0, 2),
        ([layers.Conv2D(8, 4, 4, activation="relu")], 1.5, 4),
        ([layers.Conv2D(8, 5, dilation_rate=2)], 4, 1),
        ([layers.Conv2D(16, 3, 2, activation="relu"), layers.MaxPooling2D(3, 3)], 3, 6),
        ([layers.Conv2D(8, 3, 2), layers.AveragePooling2D(2)], 2, 4),
        ([layers.SeparableConv2D(8, 3, 3)], 1, 3),
    ],
)
def test_centres_follow_from_kernels_strides_and_padding(steps, origin, stride):
    keras.utils.set_random_seed(1)
    explain = Explainer(model_of(*steps))
    found = explain.cells((40, 40))
    assert found.origin == pytest.approx((origin, origin), abs=0.5)
    assert found.stride == (stride, stride)


def test_an_odd_side_is_padded_another_way():
    """keras.applications pads odd sides evenly: 97, 49, 25, 13 and 7 pixels."""
    explain = Explainer(build_model("mobilenetv2", 97, 2))
    assert explain.cells((97, 97)).origin == (0, 0)


def test_measuring_leaves_the_model_and_holds_for_trained_weights():
    """Weights that look to one side do not move the cells."""
    model = model_of(layers.Conv2D(4, 5, 2, name="map"))
    kernel = np.zeros((5, 5, 3, 4), np.float32)
    kernel[0, 4] = 1
    model.get_layer("map").set_weights([kernel, np.full(4, -1e3, np.float32)])
    before = model.get_weights()
    assert Explainer(model).cells((40, 40)).origin == (2, 2)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_cells_that_see_the_whole_image_are_laid_out_evenly():
    """Where no convolution tells a place, the cells part the image."""
    inputs = keras.Input((40, 40, 3))
    x = layers.Dense(50)(layers.Flatten()(layers.AveragePooling2D(4)(inputs)))
    x = layers.Reshape((5, 10, 1), name="map")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    found = Explainer(model, "map").cells((40, 40))
    assert found.stride == (8, 4)
