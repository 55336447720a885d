"""A model against labelled images: miss, overkill, AUROC, place, size and speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anomaly.evaluation.pixel_metrics import PixelMetrics
from anomaly.features.extractor import Source
from anomaly.models.model import AnomalyModel
from anomaly.settings import ROOM
from anomaly.training.calibration import ScoreTable
from anomaly.training.run import check_run
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.decisions.operating_point import DEFECTIVE, NORMAL
from inspection.decisions.rates import Rate, auroc
from inspection.errors import InputError
from inspection.files.writing import file_hash, peak_memory_mb
from inspection.progress import StageProgress, silent
from inspection.report.evaluation import Summary, group_interval
from inspection.training.run import MODEL
from inspection.training.run_images import Chosen

_CALIBRATION = "Calibration part, on which the threshold was chosen"
_LARGEST_MAP = 512  # pixels of the longer side that places are compared at


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model does on one part.

    Args:
        summary: What every room tells alike.
        model: The model that was measured.
        table: Every image's scores.
        score: (N,) by the model's own aggregation.
        decision: `OK`, `review` or `NG` for each.
        auroc_by_kind: Of each defect against all normal images.
        pixel_auroc: NaN without masks, and of a method whose map does not say where.
        aupro: As `pixel_auroc`.
        model_mb: Size of the model's file in 10^6 bytes.
        ms: p50 and p95 from file to decision, in milliseconds.
        peak_mb: Most memory that the process has held, in 10^6 bytes.
    """

    summary: Summary
    model: AnomalyModel
    table: ScoreTable
    score: np.ndarray
    decision: tuple[str, ...]
    auroc_by_kind: dict[str, float]
    pixel_auroc: float
    aupro: float
    model_mb: float
    ms: tuple[float, float]
    peak_mb: float

    def to_dict(self) -> dict[str, Any]:
        """The figures of this room alone, for JSON."""
        return {
            "method": self.model.method.name,
            "aggregation": self.model.aggregation,
            "auroc_by_kind": self.auroc_by_kind,
            "pixel_auroc": self.pixel_auroc,
            "aupro": self.aupro,
            "model_mb": self.model_mb,
            "ms_p50": self.ms[0],
            "ms_p95": self.ms[1],
            "peak_mb": self.peak_mb,
        }


def evaluate(
    run: Path,
    images: LabelledImages,
    chosen: Chosen[LabelledImage],
    on_progress: StageProgress = silent,
) -> Evaluation:
    """Measures a run's model.

    Args:
        run: The run's folder.
        images: What is measured; see `anomaly.training.run.run_part`.
        chosen: What they are a part of.
        on_progress: Called after each image.

    Raises:
        InputError: The run or an image cannot be used.
    """
    check_run(run)
    file = run / MODEL
    digest = file_hash(file)  # of what is loaded: a training may replace it
    return measure(AnomalyModel.load(file), images, chosen, file, digest, on_progress)


def measure(
    model: AnomalyModel,
    images: LabelledImages,
    chosen: Chosen[LabelledImage],
    file: Path,
    digest: str,
    on_progress: StageProgress = silent,
) -> Evaluation:
    """Scores images from their files, without the cache, since the time is measured.

    Args:
        model: With its threshold.
        images: What is measured.
        chosen: What they are a part of.
        file: The model's file.
        digest: Its SHA-256 when it was loaded.
        on_progress: Called after each image.
    """
    items = images.items
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
    in_review = decision.count("review")
    decided = len(items) - in_review
    miss = Rate(int(missed.sum()), int(is_defect.sum()), DEFECTIVE)
    overkill = Rate(int(rejected.sum()), int((~is_defect).sum()), NORMAL)
    names = [item.image for item in items]
    pixel, aupro = places.compute()
    first = min(1, len(items) - 1)  # slower than the others
    ms = np.quantile(table.seconds[first:] * 1e3, [0.5, 0.95]).tolist()
    summary = Summary(
        room=ROOM,
        run=model.provenance.run,
        model=file,
        model_hash=digest,
        part=chosen.part,
        images=len(items),
        miss=miss,
        overkill=overkill,
        accuracy=Rate(decided - miss.count - overkill.count, decided, "decided images"),
        review=None if point.review_threshold is None else Rate(in_review, len(items)),
        miss_by_group=group_interval(missed, is_defect, names, chosen.groups),
        overkill_by_group=group_interval(rejected, ~is_defect, names, chosen.groups),
        auroc=auroc(score, is_defect),
        operating_point=point,
        ms=float(table.seconds[first:].mean() * 1e3),
        data=str(images.root.resolve()),
        data_hash=images.hash,
        notes=[*chosen.notes, *(f"{_CALIBRATION}: {note}" for note in point.notes)],
    )
    return Evaluation(
        summary=summary,
        model=model,
        table=table,
        score=score,
        decision=decision,
        auroc_by_kind=_by_kind(items, score, is_defect),
        pixel_auroc=pixel,
        aupro=aupro,
        model_mb=file.stat().st_size / 1e6,
        ms=(ms[0], ms[1]),
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
    summary = found.summary
    kinds = ", ".join(
        f"{kind} {'not measurable' if np.isnan(value) else f'{value:.3f}'}"
        for kind, value in found.auroc_by_kind.items()
    )
    pixels = f"pixels {found.pixel_auroc:.4f}, AUPRO {found.aupro:.4f}"
    if np.isnan(found.pixel_auroc):
        pixels = "no pixel figures"
    return [
        *(f"{summary.part}: {name} {value}" for name, value in summary.rate_lines().items()),
        f"AUROC of each defect: {kinds or 'no defects'}; {pixels}",
        f"{found.model_mb:.1f} MB; file to decision p50 {found.ms[0]:.0f} ms, p95 "
        f"{found.ms[1]:.0f} ms; peak memory {found.peak_mb:.0f} MB",
    ]
