"""Classifiers by name: a backbone, the mean of its last map, one dense layer."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from classification.models.swin import TINY, swin
from inspection.errors import InputError, first_line
from inspection.files.archives import check_hdf5
from inspection.models import backbones
from inspection.models.backbones import Normalise

LOGITS = "logits"
FEATURES = "features"
"""The layer that holds the last feature map, under this name in every architecture."""

_DROPOUT = 0.2


@dataclass(frozen=True)
class Architecture:
    """How a backbone is made.

    Args:
        build: From (input tensor, size, weights for keras.applications) to its last map.
        published: The function of keras.applications whose ImageNet weights fit, None where
            there are none.
        pretrained_lr: Learning rate from pretrained weights.
        scratch_lr: Learning rate from scratch.
    """

    build: Callable[[Any, int, str | None], Any]
    published: str | None
    pretrained_lr: float = 1e-4
    scratch_lr: float = 1e-3


def _resnet(name: str, width: int = 64) -> Callable[[Any, int, str | None], Any]:
    def build(inputs, size: int, weights: str | None):
        return backbones.resnet(name, width=width, inputs=inputs).output

    return build


def _published(name: str, normalise: dict[str, Any] | None, **options: Any):
    def build(inputs, size: int, weights: str | None):
        x = Normalise(**normalise, name="normalise")(inputs) if normalise else inputs
        function = getattr(keras.applications, name)
        model = function(include_top=False, weights=weights, input_tensor=x, **options)
        return model.output

    return build


def _swin(inputs, size: int, weights: str | None):
    mean = (123.68, 116.779, 103.939)
    x = Normalise(mean, scale=1 / 58.0, bgr=False, name="normalise")(inputs)
    return swin(x, size, **TINY)


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture(_resnet("resnet18"), None),
    # Half the channels: a quarter of the work, for few pictures and no GPU.
    "resnet18-small": Architecture(_resnet("resnet18", 32), None),
    "resnet50": Architecture(_resnet("resnet50"), "ResNet50"),
    "mobilenetv2": Architecture(
        _published("MobileNetV2", {"mean": (127.5,) * 3, "scale": 1 / 127.5, "bgr": False}),
        "MobileNetV2",
    ),
    "mobilenetv3": Architecture(_published("MobileNetV3Large", None), "MobileNetV3Large"),
    "efficientnet": Architecture(_published("EfficientNetB0", None), "EfficientNetB0"),
    "convnext": Architecture(
        _published("ConvNeXtTiny", None), "ConvNeXtTiny", pretrained_lr=5e-5, scratch_lr=3e-4
    ),
    "swin": Architecture(_swin, None, scratch_lr=3e-4),
}


def build_model(name: str, size: int, classes: int, weights: str = "none") -> keras.Model:
    """A new classifier.

    Args:
        name: One of `ARCHITECTURES`.
        size: Side of the pictures in pixels.
        classes: How many classes K.
        weights: `none`, `imagenet`, or the path of a keras.applications `.h5` without its top;
            settle `auto` by `resolve_weights` first.

    Returns:
        From (B, size, size, 3) RGB 0 to 255 to (B, K) logits; the layer `FEATURES` gives the
        last feature map.

    Raises:
        InputError: The weights cannot be reached or do not fit.
    """
    architecture = ARCHITECTURES[name]
    inputs = keras.Input((size, size, 3), name="image")
    ours = name.startswith("resnet")
    published = "imagenet" if weights == "imagenet" and not ours else None
    try:
        x = architecture.build(inputs, size, published)
    except Exception as error:
        if published is None:
            raise
        raise _unreachable(name, first_line(error)) from error
    backbone = keras.Model(inputs, x, name=name)
    if weights not in ("none", "imagenet") or (ours and weights == "imagenet"):
        _load(backbone, name, weights)
    x = layers.Activation("linear", name=FEATURES)(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    if name == "convnext":  # as published: the mean is normalised before the dense layer
        x = layers.LayerNormalization(epsilon=1e-6, name="mean_norm")(x)
    x = layers.Dropout(_DROPOUT, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(classes, name=LOGITS)(x), name=name)


def _load(backbone: keras.Model, name: str, weights: str) -> None:
    if name.startswith("resnet"):
        path = backbones.fetch_imagenet(name) if weights == "imagenet" else weights
        backbones.load_weights_file(backbone, path)
        return
    try:
        with warnings.catch_warnings():
            # Keras warns, and goes on with random weights, where a file holds other layers.
            warnings.filterwarnings("error", category=UserWarning)
            if Path(weights).suffix == ".h5":
                check_hdf5(weights, Path(weights).stat().st_size)
            backbone.load_weights(weights)
    except Exception as error:  # HDF5 and Keras raise nearly every exception on damaged files
        raise InputError(
            f"--weights {weights}: cannot be read as weights of {name} ({first_line(error)}); give "
            "the keras.applications file without its top, or a snapshot of the same --model"
        ) from error
    if name == "efficientnet":
        backbones.match_imagenet_inputs(backbone)


def resolve_weights(name: str, choice: str, say: Callable[[str], None]) -> str:
    """Settles `auto`: ImageNet weights where they can be had within a few seconds, else none.

    Args:
        name: One of `ARCHITECTURES`.
        choice: `auto`, `imagenet`, `none` or a path.
        say: Told when training will start from scratch.

    Returns:
        `imagenet`, `none` or the path.

    Raises:
        InputError: `imagenet` for a model without published weights, or a missing file.
    """
    published = ARCHITECTURES[name].published
    if choice in ("auto", "imagenet") and published is None:
        if choice == "imagenet":
            having = ", ".join(n for n, a in ARCHITECTURES.items() if a.published)
            raise InputError(
                f"--weights imagenet: {name} has no published Keras weights; take none, a "
                f"snapshot, or one of {having}"
            )
        say(f"TRAINING FROM SCRATCH: {name} has no published ImageNet weights.")
        return "none"
    if choice == "auto":
        reason = _fetch(name)
        if reason:
            say(f"TRAINING FROM SCRATCH: {_unreachable(name, reason)}")
            return "none"
        return "imagenet"
    if choice not in ("imagenet", "none") and not Path(choice).is_file():
        raise InputError(f"--weights {choice}: there is no such file; correct the path")
    return choice


def _fetch(name: str) -> str:
    """Brings the weights into Keras' cache; why that failed, or an empty text."""
    outcome: list[str] = []

    def fetch() -> None:
        try:
            if name in backbones.IMAGENET_NAMES:
                backbones.fetch_imagenet(name)
            else:
                function = getattr(keras.applications, ARCHITECTURES[name].published)
                function(include_top=False, weights="imagenet")
            outcome.append("")
        except Exception as error:  # whatever the network stack raises, it means: not reachable
            outcome.append(first_line(error))

    # A daemon thread, so that a connection that hangs cannot keep the program from going on.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(backbones.AUTO_SECONDS)
    return outcome[0] if outcome else f"no answer within {backbones.AUTO_SECONDS:.0f} s"


def _unreachable(name: str, reason: str) -> InputError:
    return InputError(
        f"ImageNet weights for {name} cannot be reached ({reason}). Offline, copy the "
        f"keras.applications file of {ARCHITECTURES[name].published} without its top from a "
        "machine with internet and give its path as --weights."
    )
