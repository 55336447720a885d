"""Normal images only: a score, a heat map and a decision with known miss and overkill.

Example:
    >>> import anomaly
    >>> model = anomaly.load("runs/tiles/model.anomaly")     # doctest: +SKIP
    >>> found = model.predict("part.png")                    # doctest: +SKIP
    >>> found.score, found.decision, found.score_map         # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inspection.models.keras_import import lazy, register_with_keras, without_retracing_notices

if TYPE_CHECKING:
    from anomaly.models.decision import Decider, Finding
    from anomaly.models.model import AnomalyModel
    from anomaly.settings import AnomalySettings
    from anomaly.training.loop import train

without_retracing_notices()

__getattr__ = lazy(
    "anomaly",
    {
        "AnomalyModel": "anomaly.models.model",
        "AnomalySettings": "anomaly.settings",
        "Finding": "anomaly.models.decision",
        "train": "anomaly.training.loop",
    },
)

__all__ = ["AnomalyModel", "AnomalySettings", "Finding", "load", "train"]


def load(path: str | Path) -> Decider:
    """Loads a model, ready to predict.

    Args:
        path: A `.anomaly` file that training wrote, or a run's folder; or an `.onnx` or `.xml` file
            that export wrote, or an earlier export's folder.

    Raises:
        InputError: The file is missing or no model of ours.
    """
    from anomaly.export.exported import ExportedModel, graph_file

    if graph_file(Path(path)) is not None:
        return ExportedModel.load(path)
    from anomaly.models.model import AnomalyModel

    return AnomalyModel.load(path)


register_with_keras("inspection.models.layers")
