"""The layers that backbones share: their input convention and their normalisation."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers, ops

Norm = Literal["batch", "frozen", "group"]

# keras.applications' ResNet weights were trained in Caffe: BGR, mean removed, no scaling.
IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)
_EPSILON = 1.001e-5  # as in keras.applications


@keras.saving.register_keras_serializable("inspection")
class Normalise(layers.Layer):
    """Turns RGB 0-255 into what a backbone was trained with; it travels inside the model.

    Args:
        mean: One value per channel, in the order the backbone wants, subtracted.
        scale: Factor applied after the subtraction.
        bgr: Whether the backbone wants the channels as blue, green, red.
    """

    def __init__(
        self,
        mean: tuple[float, ...] = IMAGENET_BGR_MEAN,
        scale: float = 1.0,
        bgr: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.mean = tuple(float(value) for value in mean)
        self.scale = float(scale)
        self.bgr = bool(bgr)

    def call(self, images):
        """Maps (B, H, W, 3) RGB 0-255 to the backbone's convention."""
        images = ops.cast(images, self.compute_dtype)
        if self.bgr:
            images = ops.flip(images, axis=-1)
        mean = ops.convert_to_tensor(self.mean, dtype=self.compute_dtype)
        return (images - mean) * ops.cast(self.scale, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"mean": self.mean, "scale": self.scale, "bgr": self.bgr}


@keras.saving.register_keras_serializable("inspection")
class LocalContrast(layers.Layer):
    """Appends each channel's local contrast: the deviation from its surroundings.

    A defect of a few grey levels is lost beside the differences of light and colour between
    images, which set the scale of the first normalisation. A network that starts from scratch
    with a few hundred images learns it several times faster from its local contrast.

    Args:
        window: Side in pixels of the surroundings, odd; less at the image's border.
        floor: Added to the local standard deviation, in the units of the input, so that the
            noise of an even surface is not blown up.

    Source: local contrast normalisation, Jarrett et al. 2009, section 2.
    """

    def __init__(self, window: int = 33, floor: float = 0.05, **kwargs) -> None:
        super().__init__(**kwargs)
        self.window = int(window)
        self.floor = float(floor)

    def call(self, images):
        """Maps (B, H, W, C) to (B, H, W, 2 C)."""
        # float32: the variance is a small difference of large numbers.
        images = ops.cast(images, "float32")
        inside = ops.ones_like(images[:1, :, :, :1])
        for axis in (1, 2):
            inside = self._box_sum(inside, axis)
        deviation = images - self._mean(images, inside)
        # Rounding takes a difference of running sums below zero, where there is no root.
        variance = ops.maximum(self._mean(ops.square(deviation), inside), 0.0)
        spread = ops.sqrt(variance + 1e-8)
        contrast = deviation / (spread + self.floor)
        return ops.cast(ops.concatenate([images, contrast], axis=-1), self.compute_dtype)

    def _mean(self, images, inside):
        for axis in (1, 2):
            images = self._box_sum(images, axis)
        return images / inside

    def _box_sum(self, images, axis: int):
        """Sums over `window` pixels along an axis by running sums: its cost has no window."""
        reach = self.window // 2
        padding = [(0, 0)] * 4
        padding[axis] = (reach + 1, reach)
        total = ops.cumsum(ops.pad(images, padding), axis=axis)
        if axis == 1:
            return total[:, self.window :] - total[:, : -self.window]
        return total[:, :, self.window :] - total[:, :, : -self.window]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2 * input_shape[-1])

    def get_config(self):
        return super().get_config() | {"window": self.window, "floor": self.floor}


def normalisation(norm: Norm, name: str, *, zero_gamma: bool = False):
    """The normalisation layer that a policy means.

    Args:
        norm: `batch`, `frozen` (BatchNorm that keeps its statistics and weights) or `group`.
        name: The layer's name.
        zero_gamma: Start the scale at zero, so that a residual block starts as identity.

    Returns:
        An unbuilt layer.
    """
    gamma = "zeros" if zero_gamma else "ones"
    if norm == "group":
        return layers.GroupNormalization(
            groups=32, epsilon=_EPSILON, gamma_initializer=gamma, name=name
        )
    layer = layers.BatchNormalization(epsilon=_EPSILON, gamma_initializer=gamma, name=name)
    layer.trainable = norm != "frozen"
    return layer
