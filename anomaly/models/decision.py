"""From score maps to a decision; needs neither Keras nor the method that gave them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat

from anomaly.features.maps import smooth
from anomaly.models.scores import AGGREGATIONS, Reference, aggregate, peak
from anomaly.settings import ROOM
from inspection.data.preparation import Preparation, Prepared
from inspection.decisions.operating_point import OperatingPoint
from inspection.finite import check_finite, names_file
from inspection.models.card import ModelCard, Provenance


class _ReferenceValues(BaseModel):
    model_config = ConfigDict(extra="forbid")

    level: FiniteFloat
    images_cells: FiniteFloat
    growth: FiniteFloat
    raw: bool


class _DeciderValues(BaseModel):
    model_config = ConfigDict(extra="allow")

    aggregation: Literal[tuple(AGGREGATIONS)]
    normal: tuple[FiniteFloat, FiniteFloat]
    reference: _ReferenceValues | None = None


@dataclass(frozen=True, eq=False)
class Finding:
    """What a model says of an image.

    Args:
        score: Higher is less normal; comparable between images of one model only.
        decision: `OK`, `review` or `NG`; empty where the model has no threshold.
        score_map: (H, W) float32 in the image's own pixels; the lowest score off the region
            of interest.
    """

    score: float
    decision: str
    score_map: np.ndarray


@dataclass(frozen=True, eq=False)
class ScoredCells:
    """What a model found in one image, before that is one number.

    Args:
        prepared: The image.
        shown: The region's map, smoothed, for display; see `Prepared.merge`.
        cells: (N,) the scores that count.
        weights: (N,) the factor of the image's score where that cell is the highest; None is 1.
    """

    prepared: Prepared
    shown: np.ndarray
    cells: np.ndarray
    weights: np.ndarray | None


def fields_of(card: ModelCard) -> dict[str, Any]:
    """The fields of a `Decider` from its card, but for `architecture`.

    Raises:
        ValueError: One of them is what no training of ours writes.
    """
    _DeciderValues.model_validate(card.extra)
    reference = card.extra.get("reference")
    return {
        "preparation": card.preparation,
        "aggregation": card.extra["aggregation"],
        "normal": tuple(float(value) for value in card.extra["normal"]),
        "operating_point": card.operating_point,
        "reference": Reference(**reference) if reference else None,
        "provenance": card.provenance,
    }


class Decider(ABC):
    """A model, trained or exported.

    Args:
        preparation: How images are cut and scaled.
        aggregation: A name of `anomaly.models.scores.AGGREGATIONS`.
        normal: Median and upper end (`anomaly.models.scores.LEVEL_QUANTILE`) of the cells of normal
            images, as they are shown.
        operating_point: Where OK ends; None while it has not been chosen.
        reference: What scores are measured by; None scores as models did before there was one.
        architecture: The method's name.
        provenance: Where the model comes from.
    """

    preparation: Preparation
    aggregation: str
    normal: tuple[float, float]
    operating_point: OperatingPoint | None
    reference: Reference | None
    architecture: str
    provenance: Provenance

    @property
    def card(self) -> ModelCard:
        """What travels with it."""
        return ModelCard(
            room=ROOM,
            architecture=self.architecture,
            preparation=self.preparation,
            operating_point=self.operating_point,
            provenance=self.provenance,
            extra={
                "aggregation": self.aggregation,
                "normal": list(self.normal),
                "reference": self.reference and asdict(self.reference),
            },
        )

    @abstractmethod
    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Maps (V, S, S, 3) uint8 to (V, h, w) float32 scores and weights, see `ScoredCells`."""

    @property
    def level(self) -> float:
        """What the aggregation `area` counts cells over."""
        return self.reference.level if self.reference else self.normal[1]

    def predict(self, image: str | Path | np.ndarray) -> Finding:
        """Looks at one image.

        Args:
            image: A file, or an array as `inspection.data.images.as_rgb` takes it.

        Raises:
            InputError: The file cannot be read or does not fit the preparation.
            NotFinite: The model gives something that is no finite number.
        """
        prepared = self.preparation(image)
        with names_file(image):
            return self.decide([prepared])[0]

    def decide(self, images: Sequence[Prepared]) -> list[Finding]:
        """Looks at the views of prepared images together; NotFinite as `predict`."""
        maps, weights = self.weighted_views(np.concatenate([one.views for one in images]))
        ends = np.cumsum([len(one.views) for one in images])
        parts = [slice(end - len(one.views), end) for end, one in zip(ends, images, strict=True)]
        return [
            self._finding(one, maps[part], None if weights is None else weights[part])
            for one, part in zip(images, parts, strict=True)
        ]

    def _finding(self, prepared: Prepared, maps: np.ndarray, weights: np.ndarray | None) -> Finding:
        scored = self.scored(prepared, maps, weights, self.reference and self.reference.raw)
        score = self.image_scores(scored, (self.aggregation,))[self.aggregation]
        decision = self.operating_point.decide(score) if self.operating_point else ""
        shown = scored.shown
        return Finding(score, decision, prepared.on_image(shown, float(shown.min())))

    def scored(
        self, prepared: Prepared, maps: np.ndarray, weights: np.ndarray | None, raw: bool | None
    ) -> ScoredCells:
        """The cells that count and the map that is shown; NotFinite as `predict`.

        Args:
            prepared: The image.
            maps: (V, h, w) of its views.
            weights: (V, h, w), or None.
            raw: Count the cells of the maps as they are; else those of the smoothed one. None is
                as models without a reference do: the smoothed one, masked cells smoothed in.
        """
        check_finite(scores=maps)
        if weights is not None:
            check_finite(weights=weights)
        counted = None if raw is None else prepared.counted(maps.shape[1:])
        shown = prepared.merge(smooth(maps, self.preparation.size, counted))
        if not raw:
            return ScoredCells(prepared, shown, prepared.cells(shown), None)
        return ScoredCells(
            prepared, shown, maps[counted], None if weights is None else weights[counted]
        )

    def image_scores(
        self, scored: ScoredCells, names: Iterable[str] = tuple(AGGREGATIONS)
    ) -> dict[str, float]:
        """The image's score by aggregation."""
        cells = scored.cells
        highest = peak(cells, scored.weights, self.reference) if self.reference else None
        return aggregate(cells, self.level, names, highest)
