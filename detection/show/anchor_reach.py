"""How well anchors reach the labels: matches, numbers, figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detection.models.anchors import (
    POSITIVE_IOU,
    AnchorGrid,
    AnchorSettings,
    best_ious,
    best_possible_recall,
)
from detection.models.targets import match_anchors
from detection.settings import ROOM
from detection.training.shown_boxes import ShownBoxes
from inspection.cli.commands import command_line
from inspection.data.boxes import box_iou
from inspection.report.page import figure_png
from inspection.report.palette import ALARM, GRID, INK, MAIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_MATCHED = 1000  # images, a few seconds
_STEPS = ((0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, None))
_MOST_POINTS = 4000


@dataclass(frozen=True, eq=False)
class Matched:
    """Which anchors answer for the boxes of one image.

    Args:
        anchors: (P, 4) xyxy of the positive anchors, in pixels of the network's input.
        box: (P,) index of the box that each answers for.
        iou: (P,) its IoU with that box.
        count: (N,) how many anchors reach each box at an IoU of 0.5; at 0 the box is learnt from
            forced matches alone.
    """

    anchors: np.ndarray
    box: np.ndarray
    iou: np.ndarray
    count: np.ndarray


def match_image(grid: AnchorGrid, boxes: np.ndarray) -> Matched:
    """Matches as the training targets are made.

    Args:
        grid: The anchors.
        boxes: (N, 4) xyxy in pixels.
    """
    anchors, match = grid.boxes, match_anchors(grid, boxes)
    positive = np.flatnonzero(match >= 0)
    box = match[positive]
    iou = box_iou(anchors[positive], boxes)[np.arange(len(positive)), box]
    count = np.bincount(box[iou >= POSITIVE_IOU], minlength=len(boxes))
    return Matched(anchors[positive], box, iou, count)


class Reach:
    """How well the anchors reach all boxes, and how many answer for each in a sample.

    Args:
        shown: The boxes, as training shows them.
        anchors: The anchors.
        seed: Decides which images are matched where there are too many for all.

    Attributes:
        boxes: (N, 4) xyxy of all boxes.
        iou: (N,) IoU of each box with its best anchor.
        recall: Share of boxes that some anchor reaches at IoU 0.5; NaN without boxes.
        paper_recall: The same for the paper's anchors.
        count: Anchors that answer for a box at IoU 0.5, for the boxes of the matched images.
        images: How many of the images, or windows, as they are shown were matched.
        notes: What a reader must know.
    """

    def __init__(self, shown: ShownBoxes, anchors: AnchorSettings, seed: int) -> None:
        self.boxes, self.anchors, self.side = shown.boxes, anchors, shown.side
        self.iou = best_ious(anchors, self.boxes, self.side, self.side)
        self.recall = best_possible_recall(self.iou)
        self.paper_recall = best_possible_recall(
            best_ious(AnchorSettings(), self.boxes, self.side, self.side)
        )
        self.count, self.images = self._matched(shown, seed)
        self.notes: list[str] = []
        if self.recall < 0.95:
            missed = int((self.iou < POSITIVE_IOU).sum())
            self.notes.append(
                f"{missed} of {len(self.boxes)} boxes ({shown.how}) are reached by no anchor at "
                "IoU .5 and are learnt from a forced match alone. Small ones gain by a larger "
                "--size, long ones that always lie one way by --augment flip; "
                f"{command_line(ROOM, 'anchors')} compares the paper's anchors with fitted ones."
            )

    def _matched(self, shown: ShownBoxes, seed: int) -> tuple[np.ndarray, int]:
        """Anchors per box over as many images, in random order, as a few seconds allow."""
        grid = AnchorGrid(self.anchors, self.side, self.side)
        chosen = np.random.default_rng(seed).permutation(len(shown.images))[:_MOST_MATCHED]
        counts = [match_image(grid, shown.images[index]).count for index in chosen]
        return np.concatenate([np.zeros(0, np.int64), *counts]), len(chosen)


def reach_figures(reach: Reach) -> list[tuple[str, bytes]]:
    """The page's figures as names and PNG; none where there are no boxes."""
    draw: dict[str, Callable[[Figure], None]] = {
        "Anchors per box": lambda figure: _count_figure(reach, figure),
        "IoU with the best anchor": lambda figure: _iou_figure(reach, figure),
        "Sizes of boxes and anchors": lambda figure: _size_figure(reach, figure),
    }
    if not len(reach.boxes):
        return []
    return [(name, figure_png(function, 5.2, 3.5)) for name, function in draw.items()]


def _count_figure(reach: Reach, figure: Figure) -> None:
    axes = figure.add_subplot()
    names, heights = [], []
    for low, high in _STEPS:
        names.append(f"{low}+" if high is None else f"{low}" if low == high else f"{low}-{high}")
        within = (reach.count >= low) & (reach.count <= (np.inf if high is None else high))
        heights.append(int(within.sum()))
    names[0] = "0\n(forced)"
    bars = axes.bar(names, heights, color=[ALARM] + [MAIN] * (len(names) - 1))
    axes.bar_label(bars, fontsize=8, padding=2)
    axes.margins(y=0.12)
    axes.set(xlabel="anchors that answer for a box at IoU .5", ylabel="boxes")
    axes.set_title("Anchors per box")


def _iou_figure(reach: Reach, figure: Figure) -> None:
    axes = figure.add_subplot()
    bins = np.linspace(0, 1, 41)
    low = reach.iou < POSITIVE_IOU
    axes.hist(reach.iou[low], bins, color=ALARM)
    axes.hist(reach.iou[~low], bins, color=MAIN)
    axes.axvline(POSITIVE_IOU, color=ALARM, linewidth=1.2)
    label = f"{int(low.sum())} under .5  "
    axes.annotate(label, (0.5, 0.97), xycoords="axes fraction", ha="right", va="top", color=ALARM)
    axes.set(xlabel="IoU of a box with its best anchor", ylabel="boxes", xlim=(0, 1))
    axes.set_title(f"IoU with the best anchor (mean {reach.iou.mean():.2f})")


def _size_figure(reach: Reach, figure: Figure) -> None:
    size = reach.side
    axes = figure.add_subplot()
    chosen = np.random.default_rng(0).permutation(len(reach.boxes))[:_MOST_POINTS]
    side = (reach.boxes[:, 2:] - reach.boxes[:, :2])[chosen]
    low = reach.iou[chosen] < POSITIVE_IOU
    options = {"markersize": 3, "alpha": 0.5, "markeredgewidth": 0}
    axes.loglog(*side[~low].T, "o", color=MAIN, label="boxes", **options)
    axes.loglog(*side[low].T, "o", color=ALARM, label="boxes under IoU .5", **options)
    shapes = reach.anchors.shapes().reshape(-1, 2)
    axes.loglog(*shapes.T, "+", color=INK, markersize=6, label="anchors")
    least = max(1.0, 0.8 * float(min(side.min(), shapes.min())))
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048) if tick >= least]
    ticks = [tick for tick in ticks if tick <= size]
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks(ticks, [str(tick) for tick in ticks])
        set_ticks([], minor=True)
    axes.set(xlim=(least, size * 1.1), ylim=(least, size * 1.1), xlabel="width", ylabel="height")
    axes.set_title(f"Sizes of boxes and anchors in pixels at {size} x {size}")
    axes.grid(color=GRID, linewidth=0.8)
    axes.legend(loc="upper left", fontsize=8, frameon=True, framealpha=0.85, edgecolor="white")
