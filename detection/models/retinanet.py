"""The detector: KerasCV's RetinaNet with a pyramid and heads that run at any image size.

This is the only file that imports KerasCV. What is replaced, and why:

- the feature pyramid, because KerasCV's doubles C5 (29 cells at 900 px) to 58 and then
  cannot add it to C4's 57;
- the heads, because KerasCV's have three convolutions of fixed width and nine anchors;
- the loss, because KerasCV's gives images without defects no gradient;
- `predict`, because KerasCV's decoder takes longer than the network itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Literal

import keras
import keras_cv
import numpy as np
from keras import layers, ops

from detection.models.anchors import STRIDES, AnchorSettings
from detection.models.losses import focal_loss, smooth_l1_loss
from inspection.models import backbones

PRIOR_PROBABILITY = 0.01
HeadNorm = Literal["batch", "group", "none"]
_KEPT_OF_POSITIVES = 0.9  # of the moving average, at each step


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
            return [backbones.normalisation("group", f"norm_{i}") for i in range(self.convs)]
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


class _LevelByLevel:
    """A head as KerasCV calls it, once for each level from P3 on, without saying which."""

    def __init__(self, head: PredictionHead) -> None:
        self._head = head
        self._levels = iter(range(head.levels))

    def __call__(self, x):
        return self._head(x, level=next(self._levels))


class _AnchorGenerator(keras_cv.layers.AnchorGenerator):
    """KerasCV's anchors, moved to where the network's cells look."""

    def __call__(self, image=None, image_shape=None):
        levels = super().__call__(image=image, image_shape=image_shape)
        return {
            key: boxes + (0.5 - stride / 2)
            for (key, boxes), stride in zip(levels.items(), STRIDES, strict=False)
        }


@contextmanager
def _float32_policy():
    """KerasCV joins the levels in layers of its own, which would round the float32 logits."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


@keras.saving.register_keras_serializable("detection")
class RetinaNet(keras_cv.models.RetinaNet):
    """KerasCV's RetinaNet, made from plain settings that travel inside its `.keras` file.

    Args:
        backbone: A name from `inspection.models.backbones.NAMES`.
        classes: Class names; the class index is the place in it.
        anchors: `AnchorSettings` or its dictionary.
        norm: Normalisation of the backbone: `batch`, `frozen` or `group`.
        head_norm: Norm of the heads, see `PredictionHead`; True and False are `group` and `none`
            in snapshots made before.
        channels: Width of pyramid and heads.
        head_convs: Convolutions in each head before the prediction.
        preprocessing: What `Detector` must do to a picture: `size`, `fit`, `bits`.
        operating_point: `OperatingPoint.to_dict()`, or None while there is none.
        train_backbone: False freezes the backbone.

    The model maps (B, H, W, 3) RGB 0-255 to `{"box": (B, A, 4), "classification": (B, A, C)}`,
    offsets (`targets.encode_boxes`) and logits, for any H and W. For training, `y` is
    `{"box": (B, A, 4), "classification": (B, A)}` from `targets.make_targets`.
    """

    def __init__(
        self,
        backbone: str,
        classes: tuple[str, ...] | list[str],
        anchors: AnchorSettings | dict[str, Any] | None = None,
        norm: backbones.Norm = "batch",
        head_norm: HeadNorm | bool = "batch",
        channels: int = 256,
        head_convs: int = 4,
        preprocessing: dict[str, Any] | None = None,
        operating_point: dict[str, Any] | None = None,
        train_backbone: bool = True,
        **kwargs,
    ) -> None:
        anchors = anchors or AnchorSettings()
        if isinstance(anchors, dict):
            anchors = AnchorSettings.from_dict(anchors)
        kwargs.setdefault("name", "retinanet")
        if isinstance(head_norm, bool):
            head_norm = "group" if head_norm else "none"
        per_location = anchors.per_location
        levels = len(anchors.sizes)
        head = {"channels": channels, "convs": head_convs, "norm": head_norm, "levels": levels}
        heads = {
            "classification_head": PredictionHead(
                per_location * len(classes),
                prior=PRIOR_PROBABILITY,
                name="classification_head",
                **head,
            ),
            "box_head": PredictionHead(per_location * 4, name="box_head", **head),
        }
        parts = {
            "backbone": backbones.resnet(backbone, norm, trainable=train_backbone),
            "feature_pyramid": FeaturePyramid(channels, levels, name="feature_pyramid"),
            **{name: _LevelByLevel(part) for name, part in heads.items()},
        }
        generator = _AnchorGenerator if anchors.aligned else keras_cv.layers.AnchorGenerator
        with _float32_policy():
            super().__init__(
                **parts,
                num_classes=len(classes),
                bounding_box_format="xyxy",
                anchor_generator=generator(
                    bounding_box_format="xyxy",
                    sizes=list(anchors.sizes),
                    aspect_ratios=list(anchors.ratios),
                    scales=list(anchors.scales),
                    strides=list(anchors.strides),
                    clip_boxes=False,
                ),
                **kwargs,
            )
        self.classification_head = heads["classification_head"]
        self.box_head = heads["box_head"]
        self.positives = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", name="positives"
        )
        self.settings = {
            "backbone": backbone,
            "classes": list(classes),
            "anchors": anchors.to_dict(),
            "norm": norm,
            "head_norm": head_norm,
            "channels": channels,
            "head_convs": head_convs,
            "preprocessing": dict(preprocessing or {}),
            "operating_point": operating_point,
            "train_backbone": train_backbone,
        }
        self.classification_tracker = keras.metrics.Mean(name="classification_loss")
        self.box_tracker = keras.metrics.Mean(name="box_loss")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return tuple(self.settings["classes"])

    @property
    def anchors(self) -> AnchorSettings:
        """The anchors that the heads were trained with."""
        return AnchorSettings.from_dict(self.settings["anchors"])

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self.settings}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None) -> RetinaNet:
        return cls(**config)

    def get_compile_config(self) -> None:
        # A snapshot is for predicting; a resumed training compiles from its own settings.
        return None

    def compile(self, optimizer, **kwargs) -> None:
        """Compiles for training; the two losses are the model's own."""
        keras.Model.compile(self, optimizer=optimizer, loss=None, **kwargs)

    def save_own_variables(self, store) -> None:
        store["positives"] = np.asarray(self.positives)

    def load_own_variables(self, store) -> None:
        if "positives" in store:  # snapshots made before have none
            self.positives.assign(store["positives"])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Focal plus smooth-L1 loss over the batch, divided by the usual number of positives.

        That is a moving average over the batches: by its own number a batch of normal images
        would be divided by 1, and one of defects by dozens, so that a normal image would weigh
        dozens of defective ones.
        """
        labels = y["classification"]
        now = ops.maximum(1.0, ops.sum(ops.cast(labels >= 0, "float32")))
        kept = ops.where(self.positives > 0, _KEPT_OF_POSITIVES, 0.0)
        positives = kept * self.positives + (1 - kept) * now
        if training:
            self.positives.assign(positives)
        classification = focal_loss(labels, y_pred["classification"]) / positives
        box = smooth_l1_loss(labels, y["box"], y_pred["box"]) / positives
        self.classification_tracker.update_state(classification)
        self.box_tracker.update_state(box)
        loss = classification + box
        if self.losses:
            loss = loss + ops.sum(ops.stack([ops.cast(item, "float32") for item in self.losses]))
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    # KerasCV's steps unpack box dictionaries and decode while predicting; ours do neither.
    def train_step(self, *args):
        return keras.Model.train_step(self, *args)

    def test_step(self, *args):
        return keras.Model.test_step(self, *args)

    def predict_step(self, *args):
        return keras.Model.predict_step(self, *args)
