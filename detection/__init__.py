"""Boxes: from labelImg's XML to a RetinaNet whose numbers can be trusted.

Example:
    >>> import detection
    >>> model = detection.load("snapshots/best.keras")      # doctest: +SKIP
    >>> found = model.predict("part.png")                   # doctest: +SKIP
    >>> found.decision, found.above().xyxy                  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inspection.files.graphs import is_exported
from inspection.models.keras_import import lazy, register_with_keras

if TYPE_CHECKING:
    from detection.export.exported import ExportedDetector
    from detection.models.detector import Detector
    from detection.settings import TrainSettings
    from detection.training.loop import train
    from inspection.data.boxes import ImageLabels
    from inspection.prediction.detections import Detections

__getattr__ = lazy(
    "detection",
    {
        "Detections": "inspection.prediction.detections",
        "Detector": "detection.models.detector",
        "ImageLabels": "inspection.data.boxes",
        "TrainSettings": "detection.settings",
        "train": "detection.training.loop",
    },
)

__all__ = ["Detections", "Detector", "ImageLabels", "TrainSettings", "load", "train"]


def load(path: str | Path) -> Detector | ExportedDetector:
    """Loads a snapshot, ready to predict.

    Args:
        path: A `.keras` file that training wrote, or a run's folder, of which the best is taken; or
            an `.onnx` or `.xml` file that export wrote.

    Returns:
        The detector: `predict(image) -> Detections`, of a list a list.

    Raises:
        InputError: The file is missing or no model of ours.
    """
    if is_exported(path):
        from detection.export.exported import ExportedDetector

        return ExportedDetector.load(path)
    from detection.models.detector import Detector

    return Detector.load(path)


register_with_keras("detection.models.retinanet")
