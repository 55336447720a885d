"""What the training of a detector tells while it runs."""

from __future__ import annotations

from typing import ClassVar

from inspection.training import log as training_log


class TrainingLog(training_log.TrainingLog):
    """Loss of classes and of boxes, mAP on the validation part."""

    loss_parts: ClassVar = {"loss": "loss", "classification_loss": "class", "box_loss": "box"}
    score: ClassVar = ("val_map", "mAP")
