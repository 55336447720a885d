"""The figures that rooms share: confusion matrix, histogram of scores, curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inspection.report.palette import ALARM, DEFECT, GRID, INK, NORMAL, REVIEW, line_look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from inspection.decisions.operating_point import OperatingPoint

_MOST_COUNTED = 25  # classes whose counts can still be read
_LONGEST_NAME = 18
_BARS = 40


@dataclass(frozen=True, eq=False)
class Curve:
    """A line of a figure.

    Args:
        label: Its name in the legend; none where empty.
        x: (N,).
        y: (N,).
        dot: Where the operating point stands; None for no dot.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    dot: tuple[float, float] | None = None


def confusion_figure(
    table: np.ndarray,
    names: Sequence[str],
    figure: Figure,
    *,
    title: str = "Confusion matrix",
    decided: str = "decided",
    without_last: bool = False,
) -> None:
    """Draws counts by truth and decision, shaded by their share of the row.

    Args:
        table: (K, K) counts, truth by row.
        names: K class names.
        figure: Drawn into.
        title: Of the figure.
        decided: What a column is.
        without_last: The last cell is no count: background taken for background.
    """
    axes = figure.add_subplot()
    names = [plain(name if len(name) <= _LONGEST_NAME else f"{name[:17]}…") for name in names]
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(table.shape) if len(names) <= _MOST_COUNTED else ():
        if without_last and row == column == len(names) - 1:
            continue
        colour = "white" if share[row, column] > 0.55 else INK
        text = str(table[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    turned = len(names) > 8 or max(map(len, names)) > 8
    look: dict[str, Any] = {"rotation": 45, "ha": "right"} if turned else {}
    axes.set_xticks(range(len(names)), names, **look)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=decided, ylabel="truth", title=title)
    axes.tick_params(length=0)


def confusion_size(classes: int) -> tuple[float, float]:
    """Width and height in inches of a confusion matrix of so many classes."""
    side = min(12.0, max(4.2, 1.4 + 0.4 * classes))
    return max(5.6, 1.2 * side), side


def score_histogram(
    scores: np.ndarray,
    is_defect: np.ndarray,
    point: OperatingPoint | None,
    figure: Figure,
    *,
    called: str = "score",
) -> None:
    """Draws the scores of normal and of defective images beside the threshold.

    Args:
        scores: (N,); a few far above the others stand in the last bar.
        is_defect: (N,) bool.
        point: The threshold and review band; None where there is none.
        figure: Drawn into.
        called: What the score is.
    """
    axes = figure.add_subplot()
    lines = [] if point is None else [point.threshold]
    if point is not None and point.review_threshold is not None:
        lines.append(point.review_threshold)
    ends = np.quantile(scores, [0.0, 0.995]).tolist() if len(scores) else [0.0, 1.0]
    low, high = min([*ends, *lines]), max([*ends, *lines])
    high = high if high > low else low + 1
    bins = np.linspace(low, high, _BARS + 1).tolist()
    for name, chosen, colour in (("normal", ~is_defect, NORMAL), ("defective", is_defect, DEFECT)):
        values = np.clip(scores[chosen], low, high)
        label = f"{name} ({np.count_nonzero(chosen)})"
        axes.hist(values, bins, color=colour, alpha=0.65, label=label)
    if point is not None:
        axes.axvline(point.threshold, color=ALARM, linewidth=1.5)
        right = point.threshold > low + 0.7 * (high - low)
        axes.annotate(
            f" threshold {point.threshold:.4g} ",
            (point.threshold, 0.98),
            xycoords=("data", "axes fraction"),
            ha="right" if right else "left",
            va="top",
            color=ALARM,
        )
        if point.review_threshold is not None:
            axes.axvspan(point.review_threshold, point.threshold, color=REVIEW, alpha=0.2)
    # A handful of odd images must stay visible beside a thousand ordinary ones.
    axes.set_yscale("symlog", linthresh=10)
    top = axes.get_ylim()[1]
    steps = [0, *(step * 10**power for power in range(7) for step in (1, 2, 5))]
    ticks = [step for step in steps if step <= top and (step not in (1, 2) or top < 10)]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set(xlabel=called, ylabel="images", xlim=(low, high), title="Image scores")
    axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.16), fontsize=8)


def curves_figure(
    curves: Sequence[Curve],
    figure: Figure,
    *,
    title: str,
    x: str,
    y: str,
    legend: Literal["lower left", "lower right"] = "lower left",
) -> None:
    """Draws curves over 0 to 1, each in a colour and dash of its own.

    Args:
        curves: The lines, in an order that keeps their colours.
        figure: Drawn into.
        title: Of the figure.
        x: What lies along it.
        y: What lies along it.
        legend: Where the names stand.
    """
    axes = figure.add_subplot()
    for index, curve in enumerate(curves):
        look = line_look(index)
        axes.plot(curve.x, curve.y, linewidth=1.6, label=plain(curve.label) or None, **look)
        if curve.dot is not None:
            axes.plot(*curve.dot, "o", color=look["color"], markersize=5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel=x, ylabel=y, title=title)
    axes.grid(color=GRID, linewidth=0.8)
    if any(curve.label for curve in curves):
        many = len(curves) > 10
        axes.legend(loc=legend, fontsize=7 if many else 8, ncols=2 if many else 1)


def plain(name: str) -> str:
    """A name as matplotlib writes it, which would read $ as the start of a formula."""
    return name.replace("$", r"\$")
