"""Decisions on many files, as a table; what cannot be read is named, the rest goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isnan
from pathlib import Path

import numpy as np
from pydantic import Field

from classification.models.classifier import Decider
from classification.settings import ROOM
from inspection.data.labelled import find_labelled
from inspection.data.preparation import Prepared
from inspection.files.records import Finite
from inspection.prediction.folder import Answer, Predictor, settings_of
from inspection.prediction.journal import NOT_DECIDED, Line
from inspection.prediction.sources import Listed, images_of


class LabelLine(Line):
    """An image, its class and the share of each class."""

    label: str = NOT_DECIDED
    probability: dict[str, Finite] = Field(default_factory=dict)

    def is_possible(self) -> bool:
        """As of any line; or the class is the decision, where none is of good parts."""
        is_class = self.score is None and self.decision == self.label in self.probability
        return is_class or super().is_possible()


class LabelPredictor(Predictor[Prepared, LabelLine]):
    """What classification adds to `predict_folder`.

    Args:
        model: The classifier.
    """

    room = ROOM
    line = LabelLine

    def __init__(self, model: Decider) -> None:
        self.model = model
        self.columns = ("label", *model.classes)
        self.settings = settings_of(model.card.operating_point)

    def read(self, path: Path) -> Prepared:
        return self.model.prepare(path)

    def decide(self, images: Sequence[Prepared]) -> list[Answer]:
        views = np.stack([view.rgb for view in images])
        return [
            Answer(
                found.decision,
                None if isnan(found.score) else found.score,
                {"label": found.label, "probability": found.probability},
            )
            for found in self.model.decide(self.model.probabilities(views))
        ]

    def cells(self, line: LabelLine) -> Sequence[object]:
        """The class, and the share of each class."""
        shares = [line.probability.get(name) for name in self.model.classes]
        return line.label, *("" if share is None else f"{share:.6f}" for share in shares)

    def remarks(self, lines: Sequence[LabelLine]) -> list[str]:
        """How many images are of which class."""
        counts = Counter(line.label for line in lines)
        names = [name for name in (*self.model.classes, NOT_DECIDED) if counts[name]]
        return [f"Classes: {', '.join(f'{counts[name]} {name}' for name in names)}."]

    def find(self, path: Path, names: list[str]) -> list[Listed]:
        """Those of a CSV, too."""
        if path.suffix.lower() == ".csv" and path.is_file():
            return [(one.path, one.image) for one in find_labelled(path).items]
        return images_of(path, names)
