"""The evaluation's three figures: PR curves, image scores, confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detection.evaluation.result import BACKGROUND, Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#1f5f99", "#d35400", "#1e8449", "#8e44ad", "#c0392b", "#16a085", "#7f6000", "#34495e")
_DASHES = ("-", "--", ":", "-.")


def pr_figure(evaluation: Evaluation, figure: Figure) -> None:
    """Precision over recall per class, with a dot where the operating point stands."""
    axes = figure.add_subplot()
    for index, (curve, row) in enumerate(
        zip(evaluation.curves.classes, evaluation.classes, strict=True)
    ):
        if not curve.boxes:
            continue
        colour = _COLOURS[index % len(_COLOURS)]
        dash = _DASHES[index // len(_COLOURS) % len(_DASHES)]
        recall = np.concatenate([[0.0], curve.recall])
        precision = np.concatenate([curve.precision[:1], curve.precision])
        if not curve.recall.size:
            recall, precision = np.zeros(1), np.zeros(1)
        name = f"{curve.label}  {curve.ap:.3f}".replace("$", r"\$")
        axes.plot(recall, precision, dash, color=colour, linewidth=1.6, label=name)
        if row.recall == row.recall and row.precision == row.precision:
            axes.plot(row.recall, row.precision, "o", color=colour, markersize=5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="recall", ylabel="precision")
    axes.set_title(f"Precision and recall at IoU {evaluation.iou:g}")
    axes.grid(color="#e6eaee", linewidth=0.8)
    if axes.lines:
        many = len(evaluation.classes) > 10
        axes.legend(loc="lower left", fontsize=7 if many else 8, ncols=2 if many else 1)


def score_figure(evaluation: Evaluation, figure: Figure) -> None:
    """Image scores of normal and defective images beside the threshold."""
    axes = figure.add_subplot()
    point = evaluation.operating_point
    scores = {
        kind: [entry.score for entry in evaluation.images if entry.truth == kind]
        for kind in ("normal", "defective")
    }
    highest = max([1.0, point.threshold, *scores["normal"], *scores["defective"]])
    bins = np.linspace(0, highest, 41)
    for kind, colour in (("normal", "#2e86c1"), ("defective", "#e67e22")):
        label = f"{kind} ({len(scores[kind])})"
        axes.hist(scores[kind], bins, color=colour, alpha=0.65, label=label)
    axes.axvline(point.threshold, color="#c0392b", linewidth=1.5)
    label = f" threshold {point.threshold:.3f}"
    right = point.threshold > 0.7 * highest
    axes.annotate(
        label + " " if right else label,
        (point.threshold, 0.98),
        xycoords=("data", "axes fraction"),
        ha="right" if right else "left",
        va="top",
        color="#c0392b",
    )
    if point.review_threshold is not None:
        axes.axvspan(point.review_threshold, point.threshold, color="#f1c40f", alpha=0.2)
    # A handful of odd images must stay visible beside a thousand ordinary ones.
    axes.set_yscale("symlog", linthresh=10)
    axes.set(xlabel="image score (highest box score)", ylabel="images", xlim=(0, highest))
    top = axes.get_ylim()[1]
    steps = [0, *(step * 10**power for power in range(7) for step in (1, 2, 5))]
    ticks = [step for step in steps if step <= top and step not in (1, 2)]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_title("Image scores")
    axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.16), fontsize=8)


def confusion_figure(evaluation: Evaluation, figure: Figure) -> None:
    """Counts of boxes by truth and by detection, shaded by share of the row."""
    axes = figure.add_subplot()
    table = evaluation.confusion
    names = [_short(name) for name in (*evaluation.names, BACKGROUND)]
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(names) <= 25:
        for row, column in np.ndindex(table.shape):
            if row == column == len(names) - 1:
                continue  # background taken for background has no count
            axes.text(
                column,
                row,
                str(table[row, column]),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share[row, column] > 0.55 else "#17202a",
            )
    turn = max(map(len, names)) > 8 or len(names) > 8
    axes.set_xticks(
        range(len(names)), names, rotation=45 if turn else 0, ha="right" if turn else "center"
    )
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="detected as", ylabel="truth")
    axes.set_title(f"Boxes at threshold {evaluation.operating_point.threshold:.3f}")
    axes.tick_params(length=0)


def _short(name: str) -> str:
    text = name if len(name) <= 18 else name[:17] + "…"
    return text.replace("$", r"\$")
