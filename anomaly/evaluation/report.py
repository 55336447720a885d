"""The page of an evaluation: trade-off, scores, worst cases with heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.data.images import NORMAL
from anomaly.evaluation.measure import Evaluation
from anomaly.models.heat import overlay
from anomaly.models.model import AnomalyModel
from anomaly.training.calibration import score_rows
from anomaly.training.run import run_settings
from inspection.data.images import read_image
from inspection.data.labelled import LabelledImage
from inspection.decisions.operating_point import OperatingPoint
from inspection.decisions.rates import Rate
from inspection.errors import InputError
from inspection.report.drawing import lies_wide, outlined, thumbnail
from inspection.report.evaluation import write_evaluation
from inspection.report.figures import score_histogram
from inspection.report.page import figure_png, image_uri, number_text
from inspection.training.run import read_record

TEMPLATE = Path(__file__).with_name("report.html.jinja")
_CARDS = 12  # of each kind of error
_SIDE = 360
_MISSES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # allowed miss rates of the trade-off


def write_report(found: Evaluation, folder: Path, command: str = "") -> Path:
    """Writes the evaluation's files.

    Args:
        found: What was measured.
        folder: Where to.
        command: That makes the same again.

    Returns:
        The page.

    Raises:
        InputError: The run cannot be read.
    """
    summary = replace(found.summary, command=command)
    truth, point = found.table.is_defect, summary.operating_point

    def histogram(figure: Any) -> None:
        score_histogram(found.score, truth, point, figure)

    return write_evaluation(
        summary,
        folder,
        TEMPLATE,
        more=found.to_dict(),
        table=score_rows(found.table, found.model),
        tiles=_tiles(found),
        figures={"Image scores": figure_png(histogram, 5.6, 4.2)},
        origin=_origin(found),
        trade_off=trade_off(found.score, truth, point),
        has_band=point.review_threshold is not None,
        kinds=_kinds(found),
        groups=case_groups(
            found.model,
            found.table.items,
            found.score,
            worst_groups(found.score, truth, found.decision),
            _CARDS,
            _SIDE,
        ),
    )


def trade_off(
    scores: np.ndarray, is_defect: np.ndarray, point: OperatingPoint
) -> list[dict[str, Any]]:
    """The least overkill for each allowed miss rate, and what the stored threshold gives.

    Args:
        scores: (N,).
        is_defect: (N,) bool.
        point: The model's own.

    Returns:
        Rows by ascending threshold: `allowed` (None for the stored one), `threshold`, `miss` and
        `overkill`; none but the stored one where there are not both kinds.
    """
    defects, normals = np.sort(scores[is_defect]), np.sort(scores[~is_defect])

    def row(allowed: float | None, threshold: float, least: float) -> dict[str, Any]:
        return {
            "allowed": allowed,
            "threshold": threshold,
            "miss": Rate(int((defects < least).sum()), len(defects), "defects"),
            "overkill": Rate(int((normals >= threshold).sum()), len(normals), "normal images"),
        }

    least = point.threshold if point.review_threshold is None else point.review_threshold
    rows = [row(None, point.threshold, least)]
    if len(defects) and len(normals):
        for allowed in _MISSES:
            # The next defect decides; a hair of room keeps 1/200 <= .005 true.
            threshold = float(defects[min(int(allowed * len(defects) + 1e-9), len(defects) - 1)])
            if all(threshold != one["threshold"] for one in rows[1:]):
                rows.append(row(allowed, threshold, threshold))
    return sorted(rows, key=lambda one: one["threshold"])


def worst_groups(
    scores: np.ndarray, is_defect: np.ndarray, decisions: Sequence[str]
) -> list[tuple[str, list[int]]]:
    """Numbers of the images that a page shows, by what became of them, the worst first."""
    order = np.argsort(scores, kind="stable").tolist()
    return [
        ("Worst misses", [i for i in order if is_defect[i] and decisions[i] == "OK"]),
        (
            "Worst false rejects",
            [i for i in order[::-1] if not is_defect[i] and decisions[i] == "NG"],
        ),
        (
            "Defects found, highest first",
            [i for i in order[::-1] if is_defect[i] and decisions[i] == "NG"],
        ),
    ]


def case_groups(
    model: AnomalyModel,
    items: Sequence[LabelledImage],
    scores: np.ndarray,
    groups: Sequence[tuple[str, list[int]]],
    most: int,
    side: int,
) -> list[dict[str, Any]]:
    """Groups of images with their heat maps for a page.

    Args:
        model: Gives the maps.
        items: The images.
        scores: (N,) what was measured.
        groups: See `worst_groups`.
        most: Images of each group.
        side: Longer side of an image in pixels.
    """
    return [
        {
            "name": name,
            "total": len(chosen),
            "cards": [_card(model, items[i], float(scores[i]), side) for i in chosen[:most]],
        }
        for name, chosen in groups
    ]


def _card(model: AnomalyModel, item: LabelledImage, score: float, side: int) -> dict[str, Any]:
    """An image and its heat map; what is labelled is outlined in green."""
    card: dict[str, Any] = {"file": item.image, "lines": [f"{item.kind}, score {score:.4g}"]}
    path = item.path
    try:
        rgb = read_image(path, model.preparation.bits)
        heat = overlay(rgb, model.predict(path).score_map, model.normal)
        mask = item.read_mask()
    except InputError as error:  # one file that vanished since must not cost the page
        return card | {"lines": [*card["lines"], str(error)]}
    shown = outlined(thumbnail(rgb, side), mask)
    images = [("image", image_uri(shown)), ("heat map", image_uri(thumbnail(heat, side)))]
    return card | {"images": images, "wide": lies_wide(rgb)}


def _tiles(found: Evaluation) -> list[dict[str, str]]:
    if math.isnan(found.aupro):
        return []
    hint = f"AUPRO {number_text(found.aupro)}"
    return [{"name": "Pixel AUROC", "value": number_text(found.pixel_auroc), "hint": hint}]


def _kinds(found: Evaluation) -> list[list[str]]:
    """A row for normal images and for each defect."""
    kinds = np.array([item.kind for item in found.table.items])
    decisions = np.array(found.decision)
    rows = []
    for kind in sorted(set(kinds), key=lambda kind: (kind != NORMAL, kind)):
        own = decisions[kinds == kind]
        counts = [str(int((own == decision).sum())) for decision in ("OK", "review", "NG")]
        value = found.auroc_by_kind.get(str(kind), math.nan)
        rows.append([str(kind), str(len(own)), *counts, number_text(value)])
    return rows


def _origin(found: Evaluation) -> dict[str, str]:
    run, model = found.summary.model.parent, found.model
    settings = run_settings(run)
    try:
        known = read_record(run).model_dump(exclude_none=True)
    except InputError:  # what it says is left out
        known = {}
    options = ", ".join(f"{name} {value}" for name, value in settings.options.items())
    origin = {
        "method": f"{model.method.name}{f' ({options})' if options else ''}",
        "backbone": f"{settings.backbone}, weights {settings.weights}, {settings.size} px",
        "score": f"{model.aggregation} of the map",
        "training images": str(known.get("data_hash", "")),
        "split": str(known.get("split_hash", "")),
        "trained with": ", ".join(f"{k} {v}" for k, v in known.get("versions", {}).items()),
        "seed": str(known.get("seed", "")),
        "model's size": f"{found.model_mb:.1f} MB",
        "time": f"p50 {found.ms[0]:.0f} ms, p95 {found.ms[1]:.0f} ms an image, file to decision",
        "peak memory": f"{found.peak_mb:.0f} MB",
    }
    return {name: value for name, value in origin.items() if value}
