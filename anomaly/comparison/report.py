"""The comparison as one page: table, curves, histograms, images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from anomaly.comparison.compare import Row, Targets
from anomaly.evaluation.report import case_groups, worst_groups
from anomaly.evaluation.scored import Scored, measured_root, read_scores, scores_file
from anomaly.models.model import AnomalyModel
from anomaly.training.run import run_images
from inspection.data.labelled import LabelledImage
from inspection.decisions.rates import percent
from inspection.errors import InputError
from inspection.files.writing import write_text_atomic
from inspection.report.figures import Curve, curves_figure, score_histogram
from inspection.report.page import figure_png, number_text, png_uri, render_page
from inspection.training.run import MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("report.html.jinja")
_IMAGES = 4  # of each kind of error
_SIDE = 260


def write_report(rows: Sequence[Row], targets: Targets, path: Path, command: str) -> None:
    """Writes the page.

    Args:
        rows: Of the comparison.
        targets: What the verdicts stand on.
        path: The file.
        command: What was typed, which stands in the page.
    """
    products = []
    for product in dict.fromkeys(row.product for row in rows):
        own = [row for row in rows if row.product == product]
        done = [(row, read_scores(scores_file(row.run))) for row in own if not row.problems]
        products.append(
            {
                "name": product,
                "rows": [_table_row(row, targets) for row in own],
                "curves": _curves(done),
                "methods": [_method(row, scored) for row, scored in done],
            }
        )
    page = render_page(
        TEMPLATE,
        title="Methods compared",
        subtitle=command,
        targets=_targets(targets),
        products=products,
    )
    write_text_atomic(path, page)


def console_table(rows: Sequence[Row], targets: Targets) -> Table:
    """The comparison for a terminal."""
    table = Table(box=None, header_style="bold")
    for title in ("product", "method", "verdict", "miss", "overkill", "AUROC", "pixel", "AUPRO"):
        table.add_column(title, no_wrap=title != "method")
    for title in ("MB", "ms p50/p95", "peak MB", "min"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        verdict, _ = row.verdict(targets)
        if row.problems:
            table.add_row(row.product, row.method, verdict)
            continue
        rates = [row.rate(name) for name in ("miss", "overkill")]
        table.add_row(
            row.product,
            row.method,
            verdict,
            *(f"{rate.count}/{rate.total}" for rate in rates),
            *(number_text(row.number(name), 3) for name in ("auroc", "pixel_auroc", "aupro")),
            f"{row.number('model_mb'):.1f}",
            f"{row.number('ms_p50'):.0f}/{row.number('ms_p95'):.0f}",
            f"{row.number('peak_mb'):.0f}",
            f"{row.minutes:.1f}",
        )
    return table


def _targets(targets: Targets) -> str:
    found = [f"miss ≤ {percent(targets.miss)}", f"overkill ≤ {percent(targets.overkill)}"]
    found += [f"model ≤ {targets.mb:g} MB"] if targets.mb else []
    found += [f"p95 ≤ {targets.ms:g} ms"] if targets.ms else []
    return ", ".join(found)


def _table_row(row: Row, targets: Targets) -> dict[str, Any]:
    verdict, why = row.verdict(targets)
    found = {"method": row.method, "verdict": verdict, "why": why, "settings": row.settings}
    if row.problems:
        return found | {"cells": []}
    cells = []
    for name in ("miss", "overkill", "accuracy"):
        rate = row.rate(name)
        if not rate.total:
            cells.append(("–", f"0 {rate.of}"))
            continue
        low, high = rate.interval
        cells.append(
            (
                percent(rate.value) if rate.count else f"≤ {percent(rate.upper)}",
                f"{rate.count} of {rate.total}; {percent(low)} to {percent(high)}",
            )
        )
    for name, digits in (
        *(("auroc", 3), ("pixel_auroc", 3), ("aupro", 3), ("model_mb", 1), ("ms_p50", 0)),
        *(("ms_p95", 0), ("peak_mb", 0)),
    ):
        value = row.number(name)
        cells.append((number_text(value, digits), ""))
    cells.append((f"{row.minutes:.1f}", ""))
    return found | {"cells": cells}


def roc(scores: np.ndarray, is_defect: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False rejects, finds and precision at every threshold, from the highest down.

    Args:
        scores: (N,).
        is_defect: (N,) bool, with both kinds.

    Returns:
        Three (K,) arrays; precision is 1 where nothing is found yet.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(is_defect[order])
    rejected = np.cumsum(~is_defect[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores fall together
    found, rejected = np.append(0, found[last]), np.append(0, rejected[last])
    precision = found / np.maximum(found + rejected, 1)
    precision[0] = 1
    return rejected / rejected[-1], found / found[-1], precision


def _curves(done: Sequence[tuple[Row, Scored]]) -> list[str]:
    """ROC and precision over recall of the methods whose test holds both kinds of images."""
    rates, precisions = [], []
    for row, scored in done:
        truth = scored.is_defect
        if truth.all() or not truth.any():
            continue
        false, found, precision = roc(scored.scores, truth)
        label = f"{row.method}  {row.number('auroc'):.3f}"
        rates.append(Curve(label, false, found))
        precisions.append(Curve("", found, precision))
    defects = "share of defects found"
    if not done:
        return []
    drawn = (
        (rates, {"title": "ROC", "x": "overkill rate", "y": defects, "legend": "lower right"}),
        (precisions, {"title": "Precision and recall", "x": defects, "y": "precision"}),
    )
    return [png_uri(figure_png(partial(_draw, lines, look), 5.2, 4.2)) for lines, look in drawn]


def _draw(curves: Sequence[Curve], look: dict[str, str], figure: Figure) -> None:
    curves_figure(curves, figure, **look)


def _method(row: Row, scored: Scored) -> dict[str, Any]:
    model = AnomalyModel.load(row.run / MODEL)
    point = model.operating_point
    truth = scored.is_defect
    try:
        known = {item.image: item for item in run_images(row.run).items}
    except InputError:  # images that went since must not cost the page
        known = {}
    root = measured_root(row.run)
    # Known without opening them, so that one that vanished has a card too.
    shown = [
        known.get(name) or LabelledImage(name, root / name, kind)
        for name, kind in zip(scored.images, scored.kinds, strict=True)
    ]
    groups = worst_groups(scored.scores, truth, scored.decisions)
    draw = partial(score_histogram, scored.scores, truth, point)
    return {
        "name": row.method,
        "histogram": png_uri(figure_png(draw, 4.6, 2.9)),
        "groups": case_groups(model, shown, scored.scores, groups, _IMAGES, _SIDE),
        "rule": point.rule,
        "aggregation": model.aggregation,
    }
