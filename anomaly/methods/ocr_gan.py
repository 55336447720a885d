"""OCR-GAN: two networks redraw an image's low and high frequencies, and a third judges.

Source: Liang et al. 2022, Omni-frequency Channel-selection Representations, arXiv:2203.00259. Its
    code subtracts the frequencies in uint8, which saturates; here they are float.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import keras
import numpy as np
from keras import layers, ops

from anomaly.features.extractor import Source
from anomaly.features.maps import enlarged
from anomaly.methods.base import State
from anomaly.methods.fitting import checkpoint_path, compile_loss, run_epochs, train_step
from anomaly.methods.pixels import ImageMethod
from inspection.errors import InputError
from inspection.models.gradients import compiled_model
from inspection.progress import StageProgress, silent

_LEVELS = 4
_L1, _IMAGE, _FEATURES = 50.0, 0.9, 0.1


class OCRGAN(ImageMethod):
    """Omni-frequency reconstruction with a discriminator.

    Args:
        side: Of what it sees, in pixels; a multiple of 16.
        width: Channels of the first convolution, doubled by each of the next three.
        epochs: Passes over the normal images.
        batch_size: Views per step.
        lr: Learning rate of both optimizers.
    """

    name = "ocr-gan"
    aggregation = "mean"
    OPTIONS = ("side", "width", "epochs", "batch_size", "lr")

    def __init__(
        self,
        side: int = 256,
        width: int = 64,
        epochs: int = 200,
        batch_size: int = 32,
        lr: float = 2e-4,
    ) -> None:
        super().__init__(side)
        if side % 16 or min(side, width, epochs, batch_size) < 1 or not lr > 0:
            raise InputError(
                f"ocr-gan: needs a side that is a multiple of 16 (given {side}), width, epochs and "
                "batch_size of at least 1, and lr over 0"
            )
        self.width, self.epochs, self.batch_size, self.lr = width, epochs, batch_size, lr
        self.generator: keras.Model | None = None
        self.judge: keras.Model | None = None
        self._run: tuple[Callable, Callable] | None = None

    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        maps = self.maps(source, on_progress)
        keras.utils.set_random_seed(seed)
        self.generator, self.judge, self._run = self._generator(), self._judge(), None
        judging = compile_loss(self._judging(), keras.optimizers.Adam(self.lr, beta_1=0.5))
        drawing = compile_loss(self._drawing(), keras.optimizers.Adam(self.lr, beta_1=0.5))
        judging.optimizer.build(self.judge.trainable_variables)
        drawing.optimizer.build(self.generator.trainable_variables)

        draw = compiled_model(self.generator)

        def epoch(rng: np.random.Generator) -> float:
            losses = []
            for numbers in maps.batches(self.batch_size, rng):
                real = maps[numbers][0] / 127.5 - 1
                low, high = frequencies(real)
                drawn = np.asarray(draw([low, high]))
                # Each step may change its own network only, and is traced so the first time.
                self.judge.trainable, self.generator.trainable = True, False
                train_step(judging, [real, drawn], len(numbers))
                self.judge.trainable, self.generator.trainable = False, True
                losses.append(train_step(drawing, [real, low, high], len(numbers)))
            self.judge.trainable = True
            return float(np.mean(losses))

        state = checkpoint_path(source, self.name, self.options, seed)
        networks = {"judge": judging, "generator": drawing}
        run_epochs(networks, epoch, self.epochs, seed, self.name, on_progress, state)

    def _generator(self) -> keras.Model:
        shape = (self.side, self.side, 3)
        inputs = [keras.Input(shape, name="low"), keras.Input(shape, name="high")]
        branches, levels = list(inputs), []
        for level in range(_LEVELS):
            channels = self.width * 2**level
            branches = [_down(x, channels) for x in branches]
            levels.append(ChannelSelection(name=f"selection_{level}")(branches))
            branches = levels[-1]
        found = []
        for branch, name in enumerate(("low", "high")):
            x = branches[branch]
            for level in reversed(range(_LEVELS - 1)):
                x = _up(x, self.width * 2**level)
                x = layers.Concatenate()([x, levels[level][branch]])
            x = _up(x, self.width)
            found.append(layers.Conv2D(3, 3, padding="same", name=f"drawn_{name}")(x))
        drawn = layers.Activation("tanh", name="drawn")(layers.Add()(found))
        return keras.Model(inputs, drawn, name="generator")

    def _judge(self) -> keras.Model:
        x = inputs = keras.Input((self.side, self.side, 3), name="picture")
        for level in range(_LEVELS):
            x = layers.Conv2D(
                self.width * 2**level,
                4,
                strides=2,
                padding="same",
                activation="leaky_relu",
                name=f"judge_{level}",
            )(x)
        logit = layers.Dense(1, name="logit")(layers.GlobalAveragePooling2D()(x))
        return keras.Model(inputs, [logit, x], name="judge")

    def _judging(self) -> keras.Model:
        real, drawn = (keras.Input((self.side, self.side, 3)) for _ in range(2))
        loss = ops.softplus(-self.judge(real)[0]) + ops.softplus(self.judge(drawn)[0])
        return keras.Model([real, drawn], loss[:, 0])

    def _drawing(self) -> keras.Model:
        real, low, high = (keras.Input((self.side, self.side, 3)) for _ in range(3))
        drawn = self.generator([low, high])
        logit, features = self.judge(drawn)
        _, wanted = self.judge(real)
        loss = ops.softplus(-logit)[:, 0]
        loss = loss + _L1 * ops.mean(ops.abs(real - drawn), axis=(1, 2, 3))
        loss = loss + ops.mean(ops.square(wanted - features), axis=(1, 2, 3))
        return keras.Model([real, low, high], loss)

    def score_views(self, views: np.ndarray) -> np.ndarray:
        if self._run is None:
            self._run = compiled_model(self.generator), compiled_model(self.judge)
        draw, judge = self._run
        real = self.views(views).astype(np.float32) / 127.5 - 1
        drawn = np.asarray(draw(list(frequencies(real))))
        wanted, features = (np.asarray(judge(one)[1]) for one in (real, drawn))
        image = np.square(real - drawn).mean(axis=-1)
        feature = np.square(wanted - features).mean(axis=-1)
        return _IMAGE * image + _FEATURES * enlarged(feature, image.shape[1:3])

    def state(self) -> State:
        return State(self.options, {}, {"generator": self.generator, "judge": self.judge})

    @classmethod
    def from_state(cls, state: State) -> OCRGAN:
        method = cls(**state.settings)
        method.generator, method.judge = state.networks["generator"], state.networks["judge"]
        return method


def frequencies(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high frequencies, whose sum is the image.

    Args:
        images: (V, S, S, 3) float32, S even.

    Returns:
        Two arrays of the same shape.
    """
    side = images.shape[1]
    low = np.stack([cv2.pyrUp(cv2.pyrDown(one), dstsize=(side, side)) for one in images])
    return low, images - low


def _down(x: Any, channels: int) -> Any:
    x = layers.Conv2D(channels, 4, strides=2, padding="same")(x)
    x = layers.GroupNormalization(groups=min(8, channels))(x)
    return layers.LeakyReLU(0.2)(x)


def _up(x: Any, channels: int) -> Any:
    x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same")(x)
    x = layers.GroupNormalization(groups=min(8, channels))(x)
    return layers.ReLU()(x)


@keras.saving.register_keras_serializable("anomaly")
class ChannelSelection(layers.Layer):
    """Each branch takes, channel by channel, a share of both branches (section 3.3)."""

    def build(self, input_shape: list[tuple]) -> None:
        channels = int(input_shape[0][-1])
        hidden = max(4, channels // 4)
        self.squeeze = layers.Dense(hidden, activation="relu", name="squeeze")
        self.squeeze.build((None, channels))
        self.excite = [layers.Dense(2 * channels, name=f"excite_{branch}") for branch in range(2)]
        for layer in self.excite:
            layer.build((None, hidden))
        self.built = True

    def call(self, branches: list[Any]) -> list[Any]:
        low, high = branches
        told = self.squeeze(ops.mean(low + high, axis=(1, 2)))
        found = []
        for layer in self.excite:
            share = ops.softmax(ops.reshape(layer(told), (-1, 2, low.shape[-1])), axis=1)
            share = share[:, :, None, None, :]
            found.append(share[:, 0] * low + share[:, 1] * high)
        return found

    def compute_output_shape(self, input_shape: list[tuple]) -> list[tuple]:
        return list(input_shape)
