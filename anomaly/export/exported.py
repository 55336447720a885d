"""A model as OpenVINO or ONNX runs it, without Keras and TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly.models.decision import Decider, fields_of
from anomaly.models.scores import Reference
from anomaly.settings import ROOM
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import OperatingPoint
from inspection.export.runtimes import Run, open_exported, open_graph
from inspection.files.archives import read_safely
from inspection.files.graphs import SUFFIXES, is_exported
from inspection.models.card import Provenance, read_card
from inspection.models.old_cards import ANOMALY


@dataclass(frozen=True, eq=False)
class ExportedModel(Decider):
    """A file that `python -m anomaly export` wrote.

    Args:
        run: Maps (V, S, S, 3) uint8 to (V, h, w) float32 `scores` and, if any, `weights`.
        preparation: As for `Decider`.
        aggregation: As for `Decider`.
        normal: As for `Decider`.
        operating_point: As for `Decider`.
        reference: As for `Decider`.
        provenance: As for `Decider`.
        architecture: As for `Decider`.
    """

    run: Run
    preparation: Preparation
    aggregation: str
    normal: tuple[float, float]
    operating_point: OperatingPoint | None
    reference: Reference | None
    provenance: Provenance
    architecture: str

    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        found = self.run(views)
        return found["scores"], found.get("weights")

    @classmethod
    def load(cls, path: str | Path) -> ExportedModel:
        """Reads an exported file, or a folder that an earlier program exported.

        Raises:
            InputError: It is none, of another version, damaged, or its runtime is not installed.
            NotFinite: It holds a weight that is no finite number.
        """
        path = Path(path)
        with read_safely(path, "cannot be read as an exported model", "export it again"):
            if path.is_dir():
                card, run = read_card(path, ROOM), open_graph(graph_file(path))
            else:
                card, run = open_exported(path, ROOM)
            return cls(run, architecture=card.architecture, **fields_of(card))


def graph_file(path: Path) -> Path | None:
    """The graph of an export: the file itself, or that of an older folder; None for neither."""
    if is_exported(path) and not path.is_dir():
        return path
    if not (path / ANOMALY).is_file():
        return None
    found = (path / f"model{suffix}" for suffix in SUFFIXES.values())
    return next((file for file in found if file.is_file()), None)
