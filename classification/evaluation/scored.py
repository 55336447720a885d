"""Images of a part with the shares that a classifier gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classification.models.classifier import Classifier
from classification.settings import DECIDED_AT_ONCE
from inspection.data.labelled import LabelledImage
from inspection.decisions.rates import auroc
from inspection.progress import Progress, silent


@dataclass(frozen=True)
class Scored:
    """What a classifier says of labelled images.

    Args:
        items: The images.
        truth: (N,) index of each one's class in the model's classes.
        probability: (N, K) float64 shares.
        normal: Index of the normal class, or None.
    """

    items: tuple[LabelledImage, ...]
    truth: np.ndarray
    probability: np.ndarray
    normal: int | None

    @property
    def score(self) -> np.ndarray:
        """(N,) 1 - normal's share; NaN where there is no normal class."""
        if self.normal is None:
            return np.full(len(self.items), np.nan)
        return 1 - self.probability[:, self.normal]

    @property
    def auroc(self) -> float:
        """Chance that a defect scores over a normal image; NaN where one of them is missing."""
        if self.normal is None:
            return float("nan")
        return auroc(self.score, self.truth != self.normal)


def score_images(
    model: Classifier,
    items: Sequence[LabelledImage],
    on_progress: Progress = silent,
) -> Scored:
    """Looks at images in batches.

    Args:
        model: The classifier.
        items: The images; their classes are the model's.
        on_progress: Called with images done and in all.

    Raises:
        InputError: An image cannot be read.
    """
    found = [np.zeros((0, len(model.classes)))]
    for start in range(0, len(items), DECIDED_AT_ONCE):
        part = items[start : start + DECIDED_AT_ONCE]
        views = np.stack([model.prepare(item.path).rgb for item in part])
        found.append(model.probabilities(views))
        on_progress(start + len(part), len(items))
    normal = model.card.normal
    return Scored(
        tuple(items),
        np.array([model.classes.index(item.kind) for item in items], np.int64),
        np.concatenate(found),
        None if normal is None else model.classes.index(normal),
    )
