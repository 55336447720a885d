"""The feature pyramid: maps of one width at every stride, for any image size."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("detection")
class FeaturePyramid(layers.Layer):
    """P3-P7 from C3-C5, for any image size.

    The coarser map is repeated twice in each direction and cut to its lateral's size. Every
    level is the half of the finer one rounded up, so the repeated map is never too small, and
    the cut equals a nearest-neighbour resize to the lateral (900 px: 29 -> 58 -> 57).

    Args:
        channels: Width of every level.
        levels: How many of them there are, from P3 on.

    Source: Lin et al. 2017, arXiv:1612.03144; P6 and P7 as in arXiv:1708.02002.
    """

    def __init__(self, channels: int = 256, levels: int = 5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.levels = levels
        self.laterals = {
            level: layers.Conv2D(channels, 1, name=f"lateral_{level}")
            for level in ("P3", "P4", "P5")
        }
        self.outputs = {
            level: layers.Conv2D(channels, 3, padding="same", name=f"output_{level}")
            for level in ("P3", "P4", "P5")[:levels]
        }
        self.downsample = {
            level: layers.Conv2D(channels, 3, strides=2, name=f"downsample_{level}")
            for level in ("P6", "P7")[: max(0, levels - 3)]
        }

    def build(self, input_shape: dict[str, tuple]) -> None:
        for level, lateral in self.laterals.items():
            lateral.build(input_shape[level])
        for level, output in self.outputs.items():
            output.build((*input_shape[level][:-1], self.channels))
        shape = input_shape["P5"]
        for downsample in self.downsample.values():
            downsample.build(shape)
            shape = (*shape[:-1], self.channels)
        self.built = True

    def call(self, features: dict[str, Any]):
        """Maps {"P3", "P4", "P5"} of strides 8, 16, 32 to the levels from P3 on."""
        p5 = self.laterals["P5"](features["P5"])
        p4 = self.laterals["P4"](features["P4"])
        p3 = self.laterals["P3"](features["P3"])
        p4 = p4 + _repeat_to(p5, p4)
        p3 = p3 + _repeat_to(p4, p3)
        fine = {"P3": p3, "P4": p4, "P5": p5}
        maps = [output(fine[level]) for level, output in self.outputs.items()]
        coarse = features["P5"]
        for level, downsample in self.downsample.items():
            coarse = downsample(_padded(coarse if level == "P6" else ops.relu(coarse)))
            maps.append(coarse)
        return tuple(maps)

    def compute_output_shape(self, input_shape: dict[str, tuple]):
        def half(shape):
            return (
                shape[0],
                *(None if side is None else -(-side // 2) for side in shape[1:3]),
                self.channels,
            )

        shapes = [(*input_shape[level][:-1], self.channels) for level in ("P3", "P4", "P5")]
        shapes += [half(shapes[-1])]
        shapes += [half(shapes[-1])]
        return tuple(shapes[: self.levels])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"channels": self.channels, "levels": self.levels}


def _padded(x):
    """One zero on each side: "same" padding would shift cells by the parity of the size."""
    return ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])


def _repeat_to(coarse, fine):
    """Repeats (B, h, w, C) twice each way and cuts it to the height and width of `fine`."""
    doubled = ops.repeat(ops.repeat(coarse, 2, axis=1), 2, axis=2)
    shape = ops.shape(fine)
    return doubled[:, : shape[1], : shape[2], :]
