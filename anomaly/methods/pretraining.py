"""A small backbone trained on the user's own normal images, where no weights can be had.

It learns to find disturbances (`anomaly.features.synthetic`) in every cell of its finer tap. What
it must tell apart for that, a normal surface from whatever is not, is what the methods' features
need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import keras
import numpy as np
from keras import layers, ops

from anomaly.features.extractor import Source
from anomaly.features.synthetic import disturb
from anomaly.methods.fitting import MapSet, checkpoint_path, run_epochs
from inspection.errors import InputError
from inspection.models import backbones
from inspection.progress import StageProgress, silent

STAGES = ("conv3_block2_out", "conv4_block2_out")
EMBEDDING = "embedding"
"""What both stages together say of a cell; on it the disturbances are told from the rest."""
LOGIT = "logit"
"""How surely a cell is disturbed; the method `self-supervised`."""
_ROUND = 25  # steps
_WIDTH = 32  # half of a ResNet18: a few hundred images fill no more, in a quarter of the time
_STRIDE = 8
_WINDOW = 0.75  # of a view that is seen at once while training
_LEAST_COVERED = 0.06  # of a cell, to count as disturbed: a hair line covers no more


@dataclass(frozen=True)
class Pretraining:
    """How long and how fast the backbone is trained.

    Args:
        steps: Optimiser steps.
        batch_size: Images per step, half of them disturbed.
        lr: Peak learning rate.
    """

    steps: int = 3000
    batch_size: int = 16
    lr: float = 1e-3


def pretrain(
    source: Source,
    settings: Pretraining | None = None,
    seed: int = 0,
    on_progress: StageProgress = silent,
) -> keras.Model:
    """Trains a ResNet18 up to its fourth stage.

    Args:
        source: Normal images only.
        settings: How.
        seed: Decides weights and disturbances.
        on_progress: Called every few steps.

    Returns:
        The backbone: (B, S, S, 3) RGB 0-255 to its logit; `STAGES`, `EMBEDDING` and `LOGIT` are
        its layers. Its BatchNorm is fixed from then on.

    Raises:
        InputError: There are fewer than two views.
    """
    settings = settings or Pretraining()
    keras.utils.set_random_seed(seed)
    maps = MapSet(len(source), lambda index: [source.prepared(index).views], on_progress)
    if len(maps) < 2:
        raise InputError("Pretraining needs at least two normal images or tiles; add some.")
    network = _network()
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.lr * 0.05,
        settings.steps,
        alpha=0.01,
        warmup_target=settings.lr,
        warmup_steps=min(50, settings.steps // 10),
    )
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0), loss=_balanced_loss
    )
    rounds = math.ceil(settings.steps / _ROUND)

    def one_round(rng: np.random.Generator) -> float:
        left = settings.steps - int(network.optimizer.iterations)
        losses = [
            network.train_on_batch(*_batch(maps, settings.batch_size, rng))
            for _ in range(min(_ROUND, left))
        ]
        return float(np.mean(losses))

    checkpoint = checkpoint_path(source, "backbone", settings, seed)
    name = f"a backbone, {_ROUND} steps at a time"
    run_epochs({"backbone": network}, one_round, rounds, seed, name, on_progress, checkpoint)
    network.trainable = False
    return network


def _network() -> keras.Model:
    backbone = backbones.resnet("resnet18", "batch", width=_WIDTH)
    fine, coarse = (backbone.get_layer(tap).output for tap in STAGES)
    coarse = layers.UpSampling2D(2)(coarse)  # bilinear would want the size beforehand
    x = layers.Concatenate()([fine, coarse])
    x = layers.Conv2D(64, 1, activation="relu", name=EMBEDDING)(x)
    x = layers.Conv2D(1, 1, dtype="float32", name=LOGIT)(x)
    return keras.Model(backbone.input, x, name="resnet18")


def _balanced_loss(wanted, logits):
    """Cross-entropy in which disturbed and other cells weigh the same, whatever their number."""
    positive = ops.cast(wanted > _LEAST_COVERED, "float32")
    loss = ops.softplus(-logits) * positive + ops.softplus(logits) * (1 - positive)
    # Cells that are barely touched are neither.
    counted = ops.cast((wanted > _LEAST_COVERED) | (wanted < 0.01), "float32")
    total = ops.maximum(ops.sum(positive), 1.0)
    rest = ops.maximum(ops.sum((1 - positive) * counted), 1.0)
    return ops.sum(loss * positive) / total + ops.sum(loss * (1 - positive) * counted) / rest


def _batch(maps: MapSet, size: int, rng: np.random.Generator):
    images, wanted = [], []
    drawn = maps[rng.integers(len(maps), size=2 * size)][0].astype(np.uint8)
    side = max(_STRIDE * 2, round(drawn.shape[1] * _WINDOW / 16) * 16)
    for number in range(size):
        view, other = (_window(one, side, rng) for one in drawn[2 * number : 2 * number + 2])
        changed = np.zeros(view.shape[:2], np.float32)
        if number % 2:
            view, changed = disturb(view, other, rng)
        flips = tuple(axis for axis in (0, 1) if rng.random() < 0.5)
        view, changed = np.flip(view, flips), np.flip(changed, flips)
        images.append(_relit(view, rng))
        cells = changed.shape[0] // _STRIDE
        wanted.append(changed.reshape(cells, _STRIDE, cells, _STRIDE).mean(axis=(1, 3))[..., None])
    return np.stack(images).astype(np.float32), np.stack(wanted).astype(np.float32)


def _window(view: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A part of a view, a little larger or smaller than it is: (side, side, 3) uint8.

    A few dozen parts, each seen whole, would be known by heart, and every new part be odd.
    """
    height, width = (
        min(view.shape[0], round(side * 2 ** rng.uniform(-0.4, 0.45))) for _ in range(2)
    )
    top = int(rng.integers(view.shape[0] - height + 1))
    left = int(rng.integers(view.shape[1] - width + 1))
    part = view[top : top + height, left : left + width]
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR)


def _relit(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other light, contrast, focus and noise, over disturbances and all: float32, 0-255."""
    image = 255 * (view.astype(np.float32) / 255) ** np.float32(2 ** rng.uniform(-0.5, 0.5))
    image *= np.float32(rng.uniform(0.7, 1.3))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.8)))
    noise = rng.standard_normal(image.shape[:2]).astype(np.float32)[..., None]
    return np.clip(image + np.float32(rng.uniform(0, 4)) * noise, 0, 255)
