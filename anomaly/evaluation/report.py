"""The page of an evaluation: trade-off, scores, worst cases with heat maps, where it came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from anomaly.data.images import NORMAL
from anomaly.evaluation.measure import Evaluation, open_run
from anomaly.models.heat import overlay
from anomaly.models.model import AnomalyModel
from inspection.data.images import read_image
from inspection.data.labelled import LabelledImage
from inspection.decisions.operating_point import OperatingPoint
from inspection.decisions.rates import Rate
from inspection.errors import InputError
from inspection.files.writing import file_hash, write_text_atomic
from inspection.report.heat import thumbnail
from inspection.report.page import (
    GREEN,
    figure_png,
    image_uri,
    lies_wide,
    png_uri,
    point_facts,
    rate_tile,
    render_page,
    versions,
)
from inspection.training.run import MODEL, read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anomaly.settings import AnomalySettings

TEMPLATE = Path(__file__).with_name("report.html.jinja")
_CARDS = 12  # of each kind of error
_SIDE = 360
_MISSES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # allowed miss rates of the trade-off
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "scikit-learn")


def write_report(found: Evaluation, run: Path, source: Path | None = None) -> Path:
    """Writes a self-contained page beside the evaluation's JSON.

    Args:
        found: What was measured.
        run: The run's folder.
        source: The images that were measured where they are not the training's.

    Returns:
        `report.html` of the test part, `<part>_report.html` of others.

    Raises:
        InputError: The run cannot be read.
    """
    model, settings = open_run(run)
    point = model.operating_point
    truth = found.table.is_defect
    histogram = partial(
        score_histogram, found.score, truth, point.threshold, point.review_threshold
    )
    page = render_page(
        TEMPLATE,
        title=f"{run.resolve().name}: {found.part} part",
        subtitle=f"{model.method.name} · {len(truth)} images, {int(truth.sum())} of them defective "
        f"· {datetime.now():%Y-%m-%d %H:%M}",
        tiles=_tiles(found),
        notes=[f"Calibration part, on which the threshold was chosen: {n}" for n in point.notes],
        trade_off=trade_off(found.score, truth, point),
        has_band=point.review_threshold is not None,
        histogram=png_uri(figure_png(histogram, 7.2, 3.6)),
        kinds=_kinds(found),
        groups=[
            {
                "name": name,
                "total": len(chosen),
                "cards": [
                    picture_card(model, found.table.items[i], float(found.score[i]))
                    for i in chosen[:_CARDS]
                ],
            }
            for name, chosen in worst_groups(found.score, truth, found.decision)
        ],
        facts_of_run=_facts(found, run, model, settings, root_of(source or settings.data)),
        point_facts=point_facts(point),
        versions=versions(*_PACKAGES),
    )
    path = run / ("report.html" if found.part == "test" else f"{found.part}_report.html")
    write_text_atomic(path, page)
    return path


def root_of(data: Path) -> Path:
    """What the paths of images start from, of a folder or of a CSV."""
    return data if data.is_dir() else data.parent


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


def score_histogram(
    scores: np.ndarray,
    is_defect: np.ndarray,
    threshold: float,
    review: float | None,
    figure: Figure,
) -> None:
    """Draws scores of normal images and of defects, with the threshold."""
    axes = figure.add_subplot()
    low, high = np.quantile(scores, [0.0, 0.995])
    high = max(high, threshold) + 1e-9
    bins = np.linspace(low, high, 41)
    for name, chosen, colour in (
        ("normal", ~is_defect, "#2e86c1"),
        ("defects", is_defect, "#e67e22"),
    ):
        values = np.clip(scores[chosen], low, high)
        axes.hist(values, bins, color=colour, alpha=0.65, label=f"{name} ({chosen.sum()})")
    axes.axvline(threshold, color="#c0392b", linewidth=1.5)
    if review is not None:
        axes.axvspan(review, threshold, color="#f1c40f", alpha=0.2)
    axes.set(xlabel="score", ylabel="images", title=f"Threshold {threshold:.4g}")
    axes.legend(fontsize=8)


def picture_card(
    model: AnomalyModel, item: LabelledImage, score: float, side: int = _SIDE
) -> dict[str, Any]:
    """An image and its heat map for a page; what is labelled is outlined in green.

    Args:
        model: Gives the map.
        item: Which.
        score: What was measured.
        side: Longer side in pixels.
    """
    card: dict[str, Any] = {"file": item.image, "kind": item.kind, "score": f"{score:.4g}"}
    path = item.path
    try:
        rgb = read_image(path, model.preparation.bits)
        heat = overlay(rgb, model.predict(path).score_map, model.normal)
        mask = item.read_mask()
    except InputError as error:  # one file that vanished since must not cost the page
        return card | {"picture": "", "heat": "", "wide": False, "problem": str(error)}
    shown = thumbnail(rgb, side)
    return card | {
        "picture": image_uri(_outlined(shown, mask)),
        "heat": image_uri(thumbnail(heat, side)),
        "wide": lies_wide(rgb),
        "problem": "",
    }


def _outlined(rgb: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    if mask is None or not mask.any():
        return rgb
    small = cv2.resize(mask.astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    grown = cv2.dilate((small > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(rgb).copy(), contours, -1, GREEN, 1)


def _tiles(found: Evaluation) -> list[dict[str, str]]:
    tiles = [
        {"name": name, **rate_tile(rate)}
        for name, rate in (
            ("Miss rate", found.miss),
            ("Overkill rate", found.overkill),
            ("Accuracy", found.accuracy),
        )
    ]
    tiles.append({"name": "AUROC", "value": _number(found.auroc), "hint": "over images"})
    if not math.isnan(found.aupro):
        hint = f"AUPRO {_number(found.aupro)}"
        tiles.append({"name": "Pixel AUROC", "value": _number(found.pixel_auroc), "hint": hint})
    low, high = found.ms
    hint = f"file to decision, p50; p95 {high:.0f} ms; model {found.model_mb:.1f} MB"
    return [*tiles, {"name": "Time", "value": f"{low:.0f} ms", "hint": hint}]


def _kinds(found: Evaluation) -> list[list[str]]:
    """A row for normal images and for each defect."""
    kinds = np.array([item.kind for item in found.table.items])
    decisions = np.array(found.decision)
    rows = []
    for kind in sorted(set(kinds), key=lambda kind: (kind != NORMAL, kind)):
        own = decisions[kinds == kind]
        counts = [str(int((own == decision).sum())) for decision in ("OK", "review", "NG")]
        value = found.auroc_by_kind.get(str(kind), math.nan)
        rows.append([str(kind), str(len(own)), *counts, _number(value)])
    return rows


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _facts(
    found: Evaluation, run: Path, model: AnomalyModel, settings: AnomalySettings, root: Path
) -> dict[str, str]:
    try:
        known = read_record(run).model_dump(exclude_none=True)
    except InputError:  # what it says is left out
        known = {}
    options = ", ".join(f"{name} {value}" for name, value in settings.options.items())
    facts = {
        "run": str(run.resolve()),
        "method": f"{model.method.name}{f' ({options})' if options else ''}",
        "backbone": f"{settings.backbone}, weights {settings.weights}, {settings.size} px",
        "score": f"{model.aggregation} of the map",
        "model": f"{MODEL}, SHA-256 {file_hash(run / MODEL)}",
        "images": f"{root.resolve()}, {found.part}: {len(found.table.items)}",
        "training images": str(known.get("data_hash", "")),
        "split": str(known.get("split_hash", "")),
        "trained with": ", ".join(f"{k} {v}" for k, v in known.get("versions", {}).items()),
        "seed": str(known.get("seed", "")),
        "peak memory": f"{found.peak_mb:.0f} MB",
    }
    return {name: value for name, value in facts.items() if value}
