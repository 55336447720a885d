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
from typing import Any

import keras
import keras_cv
import numpy as np
from keras import ops

from detection.models.anchors import STRIDES, AnchorSettings
from detection.models.heads import HeadNorm, PredictionHead
from detection.models.losses import focal_loss, smooth_l1_loss
from detection.models.pyramid import FeaturePyramid
from inspection.models import backbones
from inspection.models.layers import Norm

PRIOR_PROBABILITY = 0.01
_OF_OLD_CARDS = ("preprocessing", "operating_point")
_KEPT_OF_POSITIVES = 0.9  # of the moving average, at each step


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
        norm: Norm = "batch",
        head_norm: HeadNorm | bool = "batch",
        channels: int = 256,
        head_convs: int = 4,
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
        # Files that were made before there was a card hold these two.
        return cls(**{key: config[key] for key in config if key not in _OF_OLD_CARDS})

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
