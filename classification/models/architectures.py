"""Classifiers by name: a backbone, the mean of its last map, one dense layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from classification.models.classifier import Classifier
from classification.models.swin import TINY, swin
from inspection.models import backbones
from inspection.models.card import read_card
from inspection.models.layers import Normalise
from inspection.models.weights import check_alike, copy_weights, fill_backbone

LOGITS = "logits"
FEATURES = "features"
"""The layer that holds the last feature map, under this name in every architecture."""

_DROPOUT = 0.2


@dataclass(frozen=True)
class Architecture:
    """How a backbone is made.

    Args:
        build: From (input tensor, size) to its last map.
        pretrained_lr: Learning rate from pretrained weights.
        scratch_lr: Learning rate from scratch.
    """

    build: Callable[[Any, int], Any]
    pretrained_lr: float = 1e-4
    scratch_lr: float = 1e-3


def _resnet(name: str, width: int = 64) -> Callable[[Any, int], Any]:
    def build(inputs, size: int):
        return backbones.resnet(name, width=width, inputs=inputs).output

    return build


def _published(name: str, normalise: dict[str, Any] | None, **options: Any):
    def build(inputs, size: int):
        x = Normalise(**normalise, name="normalise")(inputs) if normalise else inputs
        function = getattr(keras.applications, name)
        model = function(include_top=False, weights=None, input_tensor=x, **options)
        return model.output

    return build


def _swin(inputs, size: int):
    mean = (123.68, 116.779, 103.939)
    x = Normalise(mean, scale=1 / 58.0, bgr=False, name="normalise")(inputs)
    return swin(x, size, **TINY)


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture(_resnet("resnet18")),
    # Half the channels: a quarter of the work, for few images and no GPU.
    "resnet18-small": Architecture(_resnet("resnet18", 32)),
    "resnet50": Architecture(_resnet("resnet50")),
    "mobilenetv2": Architecture(
        _published("MobileNetV2", {"mean": (127.5,) * 3, "scale": 1 / 127.5, "bgr": False}),
    ),
    "mobilenetv3": Architecture(_published("MobileNetV3Large", None)),
    "efficientnet": Architecture(_published("EfficientNetB0", None)),
    "convnext": Architecture(_published("ConvNeXtTiny", None), pretrained_lr=5e-5, scratch_lr=3e-4),
    "swin": Architecture(_swin, scratch_lr=3e-4),
}


def build_model(name: str, size: int, classes: int, weights: str = "none") -> keras.Model:
    """A new classifier.

    Args:
        name: One of `ARCHITECTURES`.
        size: Side of the images in pixels.
        classes: How many classes K.
        weights: `none`, `imagenet`, or the path of a keras.applications `.h5` without its top;
            settle `auto` by `inspection.models.weights.resolve_weights` first.

    Returns:
        From (B, size, size, 3) RGB 0 to 255 to (B, K) logits; the layer `FEATURES` gives the
        last feature map.

    Raises:
        InputError: The weights cannot be reached or do not fit.
    """
    inputs = keras.Input((size, size, 3), name="image")
    x = ARCHITECTURES[name].build(inputs, size)
    fill_backbone(keras.Model(inputs, x, name=name), weights)
    x = layers.Activation("linear", name=FEATURES)(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    if name == "convnext":  # as published: the mean is normalised before the dense layer
        x = layers.LayerNormalization(epsilon=1e-6, name="mean_norm")(x)
    x = layers.Dropout(_DROPOUT, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(classes, name=LOGITS)(x), name=name)


def take_snapshot(
    model: keras.Model, path: str, classes: tuple[str, ...], say: Callable[[str], None]
) -> None:
    """Fills a new classifier with the weights of another run's snapshot.

    Args:
        model: Freshly built.
        path: The snapshot.
        classes: Of the new run.
        say: Receives a line on how much fitted.

    Raises:
        InputError: It is no classifier of ours, or of another architecture.
    """
    check_alike(path, model=(read_card(path, "classification").architecture, model.name))
    source = Classifier.load(path)
    copy_weights(model, source.model, path, say, "" if source.classes == classes else LOGITS)
