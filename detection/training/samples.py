"""Augmented samples as images: what the network is about to be taught."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from detection.models.anchors import POSITIVE_IOU, AnchorSettings, best_ious
from detection.training.augment import Sample
from inspection.data.images import write_image
from inspection.data.letterbox import Image8
from inspection.report.drawing import DrawnBox, draw_view
from inspection.report.palette import IGNORED, WRONG, Colour, class_colour

_COLUMNS = 4


def draw_sample(sample: Sample, classes: Sequence[str], anchors: AnchorSettings) -> Image8:
    """An augmented sample; the best IoU stands at boxes that anchors do not reach at IoU .5."""
    colours = list(class_colours(classes).values())
    side = sample.image.shape[0]
    drawn = []
    for box, kind, iou in zip(
        sample.boxes,
        sample.classes.tolist(),
        best_ious(anchors, sample.boxes, side, side),
        strict=True,
    ):
        if kind < 0:
            drawn.append(DrawnBox(box, IGNORED, "ignored", 3))
        elif iou < POSITIVE_IOU:
            drawn.append(DrawnBox(box, WRONG, f"{classes[kind]}, best IoU {iou:.2f}", 4))
        else:
            drawn.append(DrawnBox(box, colours[kind], classes[kind], 3))
    return draw_view(sample.image, drawn, None, 560, 21)


def write_samples(
    path: str | Path,
    samples: Iterable[Sample],
    classes: Sequence[str],
    anchors: AnchorSettings,
) -> None:
    """Writes augmented samples side by side into one image, atomically; its parent must exist."""
    views = [draw_sample(sample, classes, anchors) for sample in samples]
    views += [np.full_like(views[0], 255)] * (-len(views) % min(_COLUMNS, len(views)))
    rows = [cv2.hconcat(views[i : i + _COLUMNS]) for i in range(0, len(views), _COLUMNS)]
    write_image(path, cv2.vconcat(rows))


def class_colours(classes: Sequence[str]) -> dict[str, Colour]:
    return {name: class_colour(index) for index, name in enumerate(classes)}
