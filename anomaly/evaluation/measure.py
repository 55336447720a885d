"""A model against labelled pictures: miss, overkill, AUROC, place, size and speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anomaly.data.dataset import Data
from anomaly.data.images import open_images
from anomaly.evaluation.pixel_metrics import PixelMetrics
from anomaly.features.extractor import Source
from anomaly.methods.base import Progress, silent
from anomaly.models.model import AnomalyModel
from anomaly.models.scores import auroc
from anomaly.settings import AnomalySettings
from anomaly.training.calibration import ScoreTable, write_scores
from anomaly.training.run import run_data, run_settings
from anomaly.training.setup import Say
from inspection.data.labelled import LabelledImage
from inspection.data.split import Split
from inspection.decisions.rates import Rate, grouped_interval, percent
from inspection.errors import InputError
from inspection.files.writing import peak_memory_mb, write_json_atomic
from inspection.training.run import MODEL

PARTS = ("train", "val", "test")
_LARGEST_MAP = 512  # pixels of the longer side that places are compared at


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model does on one part.

    Args:
        part: Its name.
        table: Every picture's scores.
        score: (N,) by the model's own aggregation.
        decision: `OK`, `review` or `NG` for each.
        miss: Defects decided OK.
        overkill: Normal pictures decided NG.
        miss_by_group: 95 % interval of the miss rate over groups of pictures; None where every
            picture is a group of its own.
        overkill_by_group: The same of overkill.
        auroc: Over pictures.
        auroc_by_kind: Of each defect against all normal pictures.
        pixel_auroc: NaN without masks, and of a method whose map does not say where.
        aupro: As `pixel_auroc`.
        model_mb: Size of the model's file in 10^6 bytes.
        ms: p50 and p95 from file to decision, in milliseconds.
        peak_mb: Most memory that the process has held, in 10^6 bytes.
    """

    part: str
    table: ScoreTable
    score: np.ndarray
    decision: tuple[str, ...]
    miss: Rate
    overkill: Rate
    miss_by_group: tuple[float, float] | None
    overkill_by_group: tuple[float, float] | None
    auroc: float
    auroc_by_kind: dict[str, float]
    pixel_auroc: float
    aupro: float
    model_mb: float
    ms: tuple[float, float]
    peak_mb: float

    @property
    def accuracy(self) -> Rate:
        """Pictures decided rightly among those decided."""
        wrong = self.miss.count + self.overkill.count
        decided = sum(decision != "review" for decision in self.decision)
        return Rate(decided - wrong, decided, "decided pictures")

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON."""
        return {
            "part": self.part,
            "miss": self.miss.to_dict(),
            "overkill": self.overkill.to_dict(),
            "miss_by_group_95": self.miss_by_group,
            "overkill_by_group_95": self.overkill_by_group,
            "accuracy": self.accuracy.to_dict(),
            "review": sum(decision == "review" for decision in self.decision),
            "auroc": self.auroc,
            "auroc_by_kind": self.auroc_by_kind,
            "pixel_auroc": self.pixel_auroc,
            "aupro": self.aupro,
            "model_mb": self.model_mb,
            "ms_p50": self.ms[0],
            "ms_p95": self.ms[1],
            "peak_mb": self.peak_mb,
        }


def open_run(run: Path) -> tuple[AnomalyModel, AnomalySettings]:
    """The model and the settings of a run.

    Raises:
        InputError: There is no such run.
    """
    settings = run_settings(run)
    return AnomalyModel.load(run / MODEL), settings


def evaluate(
    run: Path,
    part: str = "test",
    source: Path | None = None,
    say: Say = print,
    on_progress: Progress = silent,
) -> Evaluation:
    """Measures a run's model and writes `<part>.json` and `<part>.csv` into its folder.

    Args:
        run: The run's folder.
        part: `train`, `val` or `test`.
        source: Other pictures than the training's, all of which are measured.
        say: Told what happens.
        on_progress: Called after each picture.

    Raises:
        InputError: Run or pictures cannot be used, or the part is empty.
    """
    if part not in PARTS:
        raise InputError(f"--split {part}: must be {', '.join(PARTS)}")
    model, settings = open_run(run)
    if source is None:
        data = run_data(run, say)
        items: Sequence[LabelledImage] = data.part(part)
        name = part
    else:
        pictures = open_images(source)
        items = pictures.items
        name = f"{source.name}_all"
        data = Data(pictures, Split({}, {i.image: i.image for i in items}), Path())
    if not items:
        raise InputError(f"{settings.data}: the {part} part is empty; give another --split")
    found = measure(model, data, items, name, run / MODEL, on_progress)
    write_json_atomic(run / f"{name}.json", found.to_dict())
    write_scores(run / f"{name}.csv", found.table, model)
    return found


def measure(
    model: AnomalyModel,
    data: Data,
    items: Sequence[LabelledImage],
    name: str,
    file: Path,
    on_progress: Progress = silent,
) -> Evaluation:
    """Scores pictures from their files, without the cache, since the time is measured.

    Args:
        model: With its threshold.
        data: What the pictures are of.
        items: Which.
        name: Of the part.
        file: The model's file.
        on_progress: Called after each picture.
    """
    source = Source(tuple(item.path for item in items), model.preparation)
    rows: list[dict[str, float]] = []
    seconds: list[float] = []
    centre, level = model.normal
    places = PixelMetrics(centre, max(level - centre, 1e-12))
    for index, item in enumerate(items):
        began = time.perf_counter()
        scored = model.scored_of(source, index)
        row = model.image_scores(scored)
        seconds.append(time.perf_counter() - began)
        rows.append(row)
        mask = item.read_mask()
        if mask is not None and model.method.places:
            shown = scored.prepared.on_image(scored.shown, float(scored.shown.min()))
            places.update(*_compared(shown, mask))
        on_progress("scoring", index + 1, len(items))
    scores = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    table = ScoreTable(tuple(items), scores, np.array(seconds))
    score, is_defect = scores[model.aggregation], table.is_defect
    point = model.operating_point
    if point is None:
        raise InputError(f"{file}: holds no threshold; train it again")
    decision = tuple(point.decide(float(value)) for value in score)
    missed = np.array([value == "OK" for value in decision]) & is_defect
    rejected = np.array([value == "NG" for value in decision]) & ~is_defect
    groups = [data.split.groups.get(item.image, item.image) for item in items]
    pixel, aupro = places.compute()
    return Evaluation(
        part=name,
        table=table,
        score=score,
        decision=decision,
        miss=Rate(int(missed.sum()), int(is_defect.sum()), "defects"),
        overkill=Rate(int(rejected.sum()), int((~is_defect).sum()), "normal pictures"),
        miss_by_group=_by_group(missed, is_defect, groups),
        overkill_by_group=_by_group(rejected, ~is_defect, groups),
        auroc=auroc(score, is_defect),
        auroc_by_kind=_by_kind(items, score, is_defect),
        pixel_auroc=pixel,
        aupro=aupro,
        model_mb=file.stat().st_size / 1e6,
        ms=tuple(float(value) for value in np.quantile(table.seconds[1:] * 1e3, [0.5, 0.95]))
        if len(items) > 1
        else (float(seconds[0] * 1e3),) * 2,
        peak_mb=peak_memory_mb(),
    )


def _compared(score_map: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map and mask at no more than `_LARGEST_MAP` pixels."""
    height, width = mask.shape
    scale = min(1.0, _LARGEST_MAP / max(height, width))
    if scale == 1:
        return score_map, mask
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return cv2.resize(score_map, size, interpolation=cv2.INTER_AREA), small.astype(bool)


def _by_group(
    wrong: np.ndarray, among: np.ndarray, groups: Sequence[str]
) -> tuple[float, float] | None:
    if not among.any() or len(set(groups)) == len(groups):
        return None
    names = [group for group, inside in zip(groups, among, strict=True) if inside]
    return grouped_interval(wrong[among], names)


def _by_kind(
    items: Sequence[LabelledImage], score: np.ndarray, is_defect: np.ndarray
) -> dict[str, float]:
    kinds = np.array([item.kind for item in items])
    return {
        str(kind): auroc(score[chosen], is_defect[chosen])
        for kind in sorted(set(kinds[is_defect]))
        for chosen in [(kinds == kind) | ~is_defect]
    }


def lines(found: Evaluation) -> list[str]:
    """The evaluation in words."""
    kinds = ", ".join(f"{kind} {value:.3f}" for kind, value in found.auroc_by_kind.items())
    pixels = f"pixels {found.pixel_auroc:.4f}, AUPRO {found.aupro:.4f}"
    if np.isnan(found.pixel_auroc):
        pixels = "no pixel figures"
    return [
        f"{found.part}: miss {found.miss}{_in_groups(found.miss_by_group)}",
        f"{found.part}: overkill {found.overkill}{_in_groups(found.overkill_by_group)}",
        f"{found.part}: accuracy {found.accuracy}",
        f"AUROC {found.auroc:.4f} ({kinds or 'no defects'}); {pixels}",
        f"{found.model_mb:.1f} MB; file to decision p50 {found.ms[0]:.0f} ms, p95 "
        f"{found.ms[1]:.0f} ms; peak memory {found.peak_mb:.0f} MB",
    ]


def _in_groups(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return f"; by groups {percent(interval[0])} to {percent(interval[1])}"
