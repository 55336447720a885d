"""The heads that every level of the pyramid shares: classes and box offsets of each anchor."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops

from inspection.models.layers import normalisation

HeadNorm = Literal["batch", "group", "none"]


@keras.saving.register_keras_serializable("detection")
class PredictionHead(layers.Layer):
    """Convolutions shared by all levels, then one prediction convolution.

    Args:
        outputs: Values per location: anchors x classes, or anchors x 4.
        channels: Width of the inner convolutions.
        convs: How many there are; 4 in the paper.
        norm: What follows each convolution. `batch`: one BatchNorm per level, since levels
            differ in statistics; it sees no map size, so that a head trained on windows answers
            the same on whole images. `group`: GroupNorm over the map, as snapshots made before
            `batch` have it. `none`: a bias alone.
        prior: Probability that the last bias starts at; None starts it at zero.
        levels: How many levels there are.

    Source: Lin et al. 2017, arXiv:1708.02002, section 4; one norm per level as in Tan et al.
        2020, arXiv:1911.09070.
    """

    def __init__(
        self,
        outputs: int,
        channels: int = 256,
        convs: int = 4,
        norm: HeadNorm = "batch",
        prior: float | None = None,
        levels: int = 5,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.outputs = outputs
        self.channels = channels
        self.convs = convs
        self.norm = norm
        self.prior = prior
        self.levels = levels
        self.hidden = [
            layers.Conv2D(
                channels,
                3,
                padding="same",
                use_bias=norm == "none",
                kernel_initializer="he_normal",
                name=f"conv_{index}",
            )
            for index in range(convs)
        ]
        self.norms = self._norms()
        bias = 0.0 if prior is None else -float(np.log((1 - prior) / prior))
        # float32 whatever the policy: a sigmoid of a bfloat16 logit has three digits.
        self.prediction = layers.Conv2D(
            outputs,
            3,
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(bias),
            dtype="float32",
            name="prediction",
        )

    def _norms(self) -> list[layers.Layer]:
        """All norms in one list, because Keras saves no lists in lists."""
        if self.norm == "none":
            return []
        if self.norm == "group":
            return [normalisation("group", f"norm_{i}") for i in range(self.convs)]
        # Its statistics must settle within trainings of a few hundred steps: hence the momentum.
        return [
            layers.BatchNormalization(
                momentum=0.97, epsilon=1e-3, name=f"norm_{index}_P{level + 3}"
            )
            for index in range(self.convs)
            for level in range(self.levels)
        ]

    def norm_after(self, index: int, level: int) -> layers.Layer | None:
        """The norm that follows an inner convolution at a level (0 is P3)."""
        if self.norm == "none":
            return None
        return self.norms[index if self.norm == "group" else index * self.levels + level]

    def build(self, input_shape: tuple) -> None:
        shape = tuple(input_shape)
        for conv in self.hidden:
            conv.build(shape)
            shape = (*shape[:-1], self.channels)
        for norm in self.norms:
            norm.build(shape)
        self.prediction.build(shape)
        self.built = True

    def call(self, x, level: int = 0):
        """Maps (B, h, w, C) of a level (0 is P3) to (B, h, w, outputs)."""
        for index, conv in enumerate(self.hidden):
            x = conv(x)
            norm = self.norm_after(index, level)
            x = ops.relu(x if norm is None else norm(x))
        return self.prediction(x)

    def compute_output_shape(self, input_shape: tuple):
        return (*input_shape[:-1], self.outputs)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "outputs": self.outputs,
            "channels": self.channels,
            "convs": self.convs,
            "norm": self.norm,
            "prior": self.prior,
            "levels": self.levels,
        }
