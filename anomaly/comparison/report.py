"""The comparison as one page: table, curves, histograms, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from anomaly.comparison.compare import Row, Targets
from anomaly.data.images import open_images
from anomaly.evaluation.report import picture_card, root_of, score_histogram, worst_groups
from anomaly.evaluation.scored import Scored, read_scores
from anomaly.models.model import AnomalyModel
from anomaly.settings import AnomalySettings
from inspection.data.labelled import LabelledImage
from inspection.decisions.rates import percent
from inspection.errors import InputError
from inspection.files.writing import write_text_atomic
from inspection.report.page import figure_png, png_uri, render_page
from inspection.settings import read_settings
from inspection.training.run import MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("report.html.jinja")
_COLOURS = ("#1f5f99", "#d35400", "#1e8449", "#8e44ad", "#c0392b", "#16a085", "#7f6000", "#34495e")
_DASHES = ("-", "--", ":")
_PICTURES = 4  # of each kind of error
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
        done = [(row, read_scores(row.run / "test.csv")) for row in own if not row.problems]
        products.append(
            {
                "name": product,
                "rows": [_table_row(row, targets) for row in own],
                "curves": [
                    png_uri(figure_png(partial(draw, done), 5.2, 4.2))
                    for draw in (_roc_curves, _precision_curves)
                    if done
                ],
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
            *(_figure(row.number(name), 3) for name in ("auroc", "pixel_auroc", "aupro")),
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
        cells.append((_figure(value, digits), ""))
    cells.append((f"{row.minutes:.1f}", ""))
    return found | {"cells": cells}


def _figure(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


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


def _roc_curves(done: Sequence[tuple[Row, Scored]], figure: Figure) -> None:
    axes = figure.add_subplot()
    for row, false, found, _, look in _curves(done):
        axes.plot(false, found, label=f"{row.method}  {row.number('auroc'):.3f}", **look)
    _frame(axes)
    axes.set(xlabel="overkill rate", ylabel="share of defects found", title="ROC")
    if axes.lines:
        axes.legend(loc="lower right", fontsize=8)


def _precision_curves(done: Sequence[tuple[Row, Scored]], figure: Figure) -> None:
    axes = figure.add_subplot()
    for _, _, found, precision, look in _curves(done):
        axes.plot(found, precision, **look)
    _frame(axes)
    axes.set(xlabel="share of defects found", ylabel="precision", title="Precision and recall")


def _curves(done: Sequence[tuple[Row, Scored]]) -> Iterator[tuple[Any, ...]]:
    """Row, false rejects, finds, precision and look of each method with both kinds of images."""
    for index, (row, scored) in enumerate(done):
        truth = scored.is_defect
        if truth.all() or not truth.any():
            continue
        look = {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _DASHES[index // len(_COLOURS) % len(_DASHES)],
            "linewidth": 1.5,
        }
        yield row, *roc(scored.scores, truth), look


def _frame(axes: Any) -> None:
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(color="#e6eaee", linewidth=0.8)


def _method(row: Row, scored: Scored) -> dict[str, Any]:
    model = AnomalyModel.load(row.run / MODEL)
    settings = read_settings(AnomalySettings, row.run / "settings.yaml", {})
    point = model.operating_point
    truth = scored.is_defect
    try:
        images = open_images(settings.data).items
    except InputError:  # images that went since must not cost the page
        images = ()
    root = root_of(settings.data)
    # Known without opening them, so that one that vanished has a card too.
    items = {
        name: LabelledImage(name, root / name, kind)
        for name, kind in zip(scored.images, scored.kinds, strict=True)
    } | {item.image: item for item in images}
    draw = partial(score_histogram, scored.scores, truth, point.threshold, point.review_threshold)
    return {
        "name": row.method,
        "histogram": png_uri(figure_png(draw, 4.6, 2.9)),
        "groups": [
            {
                "name": name,
                "total": len(chosen),
                "cards": [
                    picture_card(
                        model,
                        items[scored.images[i]],
                        float(scored.scores[i]),
                        _SIDE,
                    )
                    for i in chosen[:_PICTURES]
                ],
            }
            for name, chosen in worst_groups(scored.scores, truth, scored.decisions)
        ],
        "rule": point.rule,
        "aggregation": model.aggregation,
    }
