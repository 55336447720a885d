"""A class per image: a classifier that can be seen through, and boxes from what it looks at.

Example:
    >>> import classification
    >>> model = classification.load("runs/first/best.keras")    # doctest: +SKIP
    >>> found = model.predict("part.png")                       # doctest: +SKIP
    >>> found.label, found.probability, found.decision          # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inspection.files.graphs import is_exported
from inspection.models.keras_import import lazy, register_with_keras, without_retracing_notices

if TYPE_CHECKING:
    from classification.cam.maps import Explainer
    from classification.models.classifier import Decider, Prediction
    from classification.settings import ClassificationSettings
    from classification.training.loop import train

without_retracing_notices()

__getattr__ = lazy(
    "classification",
    {
        "ClassificationSettings": "classification.settings",
        "Classifier": "classification.models.classifier",
        "Explainer": "classification.cam.maps",
        "Prediction": "classification.models.classifier",
        "train": "classification.training.loop",
    },
)

__all__ = ["ClassificationSettings", "Classifier", "Explainer", "Prediction", "load", "train"]


def load(path: str | Path) -> Decider:
    """Loads a classifier, ready to predict.

    Args:
        path: A `.keras` file that training wrote, or a run's folder, of which the best is taken; or
            an `.onnx` or `.xml` file that export wrote.

    Raises:
        InputError: The file is missing or no classifier of ours.
    """
    if is_exported(path):
        from classification.export.exported import ExportedClassifier

        return ExportedClassifier.load(path)
    from classification.models.classifier import Classifier

    return Classifier.load(path)


register_with_keras("inspection.models.layers")
register_with_keras("classification.models.swin")
