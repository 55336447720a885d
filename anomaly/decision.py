"""From score maps to a decision; needs neither Keras nor the method that gave them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly.maps import smooth
from anomaly.preparation import Preparation, Prepared
from anomaly.scores import AGGREGATIONS
from inspection.finite import check_finite, names_file
from inspection.images import as_rgb
from inspection.operating_point import OperatingPoint


@dataclass(frozen=True, eq=False)
class Finding:
    """What a model says of a picture.

    Args:
        score: Higher is less normal; comparable between pictures of one model only.
        decision: `OK`, `review` or `NG`; empty where the model has no threshold.
        score_map: (H, W) float32 in the picture's own pixels; the lowest score off the region
            of interest.
    """

    score: float
    decision: str
    score_map: np.ndarray


class Decider(ABC):
    """A model, trained or exported.

    Args:
        preparation: How pictures are cut and scaled.
        aggregation: A name of `anomaly.scores.AGGREGATIONS`.
        normal: Median and upper end (`anomaly.scores.LEVEL_QUANTILE`) of the cells of normal
            pictures.
        operating_point: Where OK ends; None while it has not been chosen.
    """

    preparation: Preparation
    aggregation: str
    normal: tuple[float, float]
    operating_point: OperatingPoint | None

    @abstractmethod
    def score_views(self, views: np.ndarray) -> np.ndarray:
        """Maps (V, S, S, 3) uint8 to (V, h, w) float32 scores."""

    @property
    def level(self) -> float:
        """What the aggregation `area` counts cells over."""
        return self.normal[1]

    def predict(self, picture: str | Path | np.ndarray) -> Finding:
        """Looks at one picture.

        Args:
            picture: A file, or an array as `inspection.images.as_rgb` takes it.

        Raises:
            InputError: The file cannot be read or does not fit the preparation.
            NotFinite: The model gives something that is no finite number.
        """
        if isinstance(picture, np.ndarray):
            prepared = self.preparation.apply(as_rgb(picture, self.preparation.bits))
        else:
            prepared = self.preparation.read(picture)
        with names_file(picture):
            merged = self.merged_map(prepared, self.score_views(prepared.views))
        score = self.score_of(prepared.cells(merged))
        decision = self.operating_point.decide(score) if self.operating_point else ""
        return Finding(score, decision, prepared.on_picture(merged, float(merged.min())))

    def merged_map(self, prepared: Prepared, maps: np.ndarray) -> np.ndarray:
        """Smoothed maps of the views as one map of the region, float32; NotFinite as `predict`."""
        check_finite(scores=maps)
        return prepared.merge(smooth(maps, self.preparation.size))

    def score_of(self, cells: np.ndarray) -> float:
        """The picture's score, from the cells of its merged map that count."""
        return AGGREGATIONS[self.aggregation](np.asarray(cells, np.float64), self.level)
