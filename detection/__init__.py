"""Boxes: from labelImg's XML to a RetinaNet whose numbers can be trusted.

Example:
    >>> import detection
    >>> model = detection.load("snapshots/best.keras")      # doctest: +SKIP
    >>> found = model.predict("part.png")                   # doctest: +SKIP
    >>> found.xyxy, found.score, found.label                # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from inspection.quiet import without_notices

if TYPE_CHECKING:
    from detection.prediction import Detector
    from detection.settings import TrainSettings
    from detection.training import train
    from inspection.boxes import Detections, ImageLabels

# Read by TensorFlow once, when it is imported. It turns its faster CPU kernels on by itself only
# on processors with VNNI, and a snapshot should give the same digits on all of a shop's PCs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Nothing is imported before it is asked for: reading labels needs no TensorFlow, and
# `python -m detection --help` answers at once.
_MODULES = {
    "Detections": "inspection.boxes",
    "Detector": "detection.prediction",
    "ImageLabels": "inspection.boxes",
    "TrainSettings": "detection.settings",
    "train": "detection.training",
}

__all__ = ["Detections", "Detector", "ImageLabels", "TrainSettings", "load", "train"]


def load(path: str) -> Detector:
    """Loads a snapshot, ready to predict.

    Args:
        path: A `.keras` file that training wrote.

    Returns:
        The detector: `predict(picture) -> Detections`.

    Raises:
        InputError: The file is missing or no snapshot of ours.
    """
    from detection.prediction import Detector

    return Detector.load(path)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'detection' has no attribute {name!r}")


class _RegisterAfterKeras(importlib.abc.MetaPathFinder):
    """Registers our layers as soon as Keras is imported, by whomever.

    `keras.models.load_model("snapshots/best.keras")` must work after `import detection` alone,
    but importing Keras here would cost every verb that only reads labels several seconds.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: Any) -> None:
                with without_notices():
                    execute(module)
                    importlib.import_module("detection.model")

            spec.loader.exec_module = execute_and_register
        return spec


if "keras" in sys.modules:
    importlib.import_module("detection.model")
else:
    sys.meta_path.insert(0, _RegisterAfterKeras())
