"""A classifier as OpenVINO or ONNX Runtime runs it, without Keras and TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from classification.models.classifier import Decider
from classification.settings import ROOM
from inspection.export.runtimes import Run, open_exported
from inspection.models.card import ModelCard


class ExportedClassifier(Decider):
    """A file that `python -m classification export` wrote.

    Args:
        run: From (B, S, S, 3) uint8 to (B, K) float32 `logits`.
        card: What travels with it.
        path: The file it came from.
    """

    def __init__(self, run: Run, card: ModelCard, path: Path) -> None:
        self._run, self.card, self.path = run, card, path

    @classmethod
    def load(cls, path: str | Path) -> ExportedClassifier:
        """Loads an exported `.xml` (with its `.bin` beside it) or `.onnx` file.

        Raises:
            InputError: The file is missing, damaged or not of this room, or its runtime is not
                installed.
            NotFinite: It holds a weight that is no finite number.
        """
        card, run = open_exported(path, ROOM)
        return cls(run, card, Path(path))

    def logits(self, views: np.ndarray) -> np.ndarray:
        return self._run(np.ascontiguousarray(views, np.uint8))["logits"]
