"""Scores of images that were not learnt: the level of normal cells, aggregation and threshold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anomaly.features.extractor import Source
from anomaly.models.model import AnomalyModel
from anomaly.models.scores import (
    AGGREGATIONS,
    LEVEL_QUANTILE,
    Choice,
    Reference,
    choose_aggregation,
)
from anomaly.settings import AnomalySettings
from anomaly.training.setup import source_of
from inspection.data.labelled import LabelledImage
from inspection.decisions.operating_point import choose_threshold
from inspection.errors import InputError
from inspection.progress import StageProgress, silent

_MOST_NORMALS = 100  # that the reference is made of


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of some images.

    Args:
        items: The images.
        scores: By aggregation, (N,) each.
        seconds: (N,) from file to score.
    """

    items: tuple[LabelledImage, ...]
    scores: dict[str, np.ndarray]
    seconds: np.ndarray

    @property
    def is_defect(self) -> np.ndarray:
        """(N,) bool."""
        return np.array([item.is_defect for item in self.items], bool)


def score_images(
    model: AnomalyModel,
    items: Sequence[LabelledImage],
    settings: AnomalySettings,
    on_progress: StageProgress = silent,
) -> ScoreTable:
    """Scores images by every aggregation.

    Args:
        model: Fitted, with its level.
        items: The images.
        settings: Of the run.
        on_progress: Called after each image.
    """
    source = source_of(items, settings)
    found: list[dict[str, float]] = []
    seconds = []
    for index in range(len(source)):
        began = time.perf_counter()
        found.append(model.image_scores(model.scored_of(source, index)))
        seconds.append(time.perf_counter() - began)
        on_progress("scoring", index + 1, len(source))
    scores = {name: np.array([row[name] for row in found]) for name in AGGREGATIONS}
    return ScoreTable(tuple(items), scores, np.array(seconds))


def with_reference(model: AnomalyModel, normals: Source, seed: int) -> AnomalyModel:
    """The model with what the cells of some normal images are like.

    Args:
        model: Fitted, without a reference.
        normals: Images that were not learnt: on those that were, its cells lie lower.
        seed: Decides which are taken.
    """
    order = np.random.default_rng(seed).permutation(len(normals))[:_MOST_NORMALS]
    shown, counted = [], []
    for index in order:
        scored = model.scored_of(normals, int(index), model.method.raw)
        shown.append(scored.prepared.cells(scored.shown))
        counted.append(scored.cells)
    median, level = np.quantile(np.concatenate(shown), [0.5, LEVEL_QUANTILE])
    return replace(
        model,
        normal=(float(median), float(level)),
        reference=Reference.of(counted, model.method.raw),
    )


def decided(
    model: AnomalyModel, table: ScoreTable, settings: AnomalySettings, data_hash: str
) -> tuple[AnomalyModel, Choice]:
    """The model with its aggregation and threshold."""
    is_defect = table.is_defect
    if settings.aggregation == "auto":
        usual = model.method.aggregation
        choice = choose_aggregation(table.scores, is_defect, settings.seed, usual)
    else:
        choice = Choice(settings.aggregation, {}, {})
    check_telling(table.scores[choice.name], settings.method, choice.name)
    rule = settings.rule or ("least-overkill" if is_defect.any() else "normal-quantile")
    target = settings.target_miss if rule != "normal-quantile" else settings.target_overkill
    target = settings.target_overkill if rule == "least-miss" else target
    point = choose_threshold(
        table.scores[choice.name],
        is_defect,
        rule,
        target=target,
        overkill_target=settings.target_overkill,
        data_hash=data_hash,
    )
    return replace(model, aggregation=choice.name, operating_point=point), choice


def check_telling(scores: np.ndarray, method: str, aggregation: str) -> None:
    """Refuses scores that are all equal: no threshold tells anything by them.

    Raises:
        InputError: Names method and aggregation.
    """
    if len(scores) > 1 and not np.ptp(scores) > 0:
        raise InputError(
            f"{method}: failed: all {len(scores)} images score {scores[0]:g} by its aggregation "
            f"{aggregation}, normal or not; give another --aggregation, --weights or --method"
        )


def score_rows(table: ScoreTable, model: AnomalyModel) -> list[list[str]]:
    """A header, and for each image kind, decision and every aggregation."""
    rows = [["image", "truth", "score", "decision", *table.scores]]
    for index, item in enumerate(table.items):
        score = float(table.scores[model.aggregation][index])
        decision = model.operating_point.decide(score) if model.operating_point else ""
        cells = (f"{values[index]:.9g}" for values in table.scores.values())
        rows.append([item.image, item.kind, f"{score:.9g}", decision, *cells])
    return rows
