"""Times training targets against the plain way, a table of all IoUs: images a second, memory.

python -m benchmarks.targets [--size 900] [--quick] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import statistics
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side import Subject, compare, report
from detection.models.anchors import AnchorGrid, AnchorSettings
from detection.models.targets import BACKGROUND, IGNORED, encode_boxes, make_targets
from inspection.data.boxes import box_iou

COUNTS = (5, 20, 200)  # boxes an image


def match_plainly(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """What `targets.match_anchors` gives, from the IoU of every anchor with every box.

    Args:
        anchors: (A, 4) xyxy in pixels.
        boxes: (N, 4) xyxy in pixels.

    Returns:
        (A,) int32.
    """
    if not len(boxes):
        return np.full(len(anchors), BACKGROUND, np.int32)
    iou = box_iou(anchors, boxes)
    best, match = iou.max(axis=1), iou.argmax(axis=1).astype(np.int32)
    match[best < 0.5] = IGNORED
    match[best < 0.4] = BACKGROUND
    top = iou.max(axis=0)
    order = np.argsort(-top)
    for index in order:
        ties = iou[:, index] >= max(top[index] - 1e-6, 1e-9)
        match[ties & ~((best >= 0.5) & (match != index))] = index
    for index in order[::-1]:
        if (match == index).any():
            continue
        owners, held = np.unique(match[match >= 0], return_counts=True)
        taken = np.isin(match, owners[held == 1])
        free = np.where(taken, -1.0, iou[:, index])
        if free.max() <= 0:
            centre = (anchors[:, :2] + anchors[:, 2:] - boxes[index, :2] - boxes[index, 2:]) / 2
            free = np.where(taken, -np.inf, -(centre**2).sum(axis=1))
        match[free.argmax()] = index
    return match


def make_targets_plainly(
    anchors: np.ndarray, boxes: np.ndarray, classes: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What `detection.models.targets.make_targets` gives, made from tables of all IoUs."""
    match = match_plainly(anchors, boxes)
    labels, positive = match.copy(), match >= 0
    offsets = np.zeros((len(anchors), 4), np.float32)
    if len(ignored):
        labels[(box_iou(anchors, ignored).max(axis=1) >= 0.2) & (match == BACKGROUND)] = IGNORED
    if len(boxes):
        offsets[positive] = encode_boxes(anchors[positive], boxes[match[positive]])
        labels[positive] = classes[match[positive]]
    return offsets, labels


def random_boxes(count: int, size: int, seed: int) -> np.ndarray:
    """(count, 4) float32 boxes of 10 to 150 pixels a side, small ones more often."""
    rng = np.random.default_rng(seed)
    side = np.minimum(np.exp(rng.uniform(np.log(10), np.log(150), (count, 2))), size / 2)
    corner = rng.uniform(0, 1, (count, 2)) * (size - side)
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def maker(plain: bool, count: int, size: int, images: int) -> Callable[[], dict[str, Any]]:
    """A call that makes the targets of some images; it tells the memory that one takes."""
    grid = AnchorGrid(AnchorSettings(), size, size)
    sets = [random_boxes(count, size, seed) for seed in range(images)]
    classes, ignored = np.zeros(count, np.int64), np.zeros((0, 4), np.float32)

    def make(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if plain:
            return make_targets_plainly(grid.boxes, boxes, classes, ignored)
        return make_targets(grid, boxes, classes, ignored)

    make(sets[0])  # what is kept from then on is no memory of an image
    tracemalloc.start()
    make(sets[0])
    taken = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()

    def call() -> dict[str, Any]:
        for boxes in sets:
            make(boxes)
        return {"images": images, "mb": taken}

    return call


def main() -> None:
    """Runs both ways in turn and prints images a second, ratios and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=900)
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    many, few = (20, 1) if options.quick else (200, 5)
    subjects = [
        Subject(f"{way}, {count} boxes", maker, (way == "plain", count, options.size, images))
        for count in COUNTS
        for way, images in (("ours", many), ("plain", few if count < 200 else 1))
    ]
    figures = compare(subjects, 3)
    anchors = len(AnchorGrid(AnchorSettings(), options.size, options.size).boxes)
    report(f"Targets of {anchors} anchors", figures, "ours, 20 boxes", [], options.out)
    for name, found in figures.items():
        speed = found.result["images"] / statistics.median(found.cpu_seconds)
        print(f"{name:20}{speed:10.1f} images per CPU second{found.result['mb']:10.1f} MB an image")
    print("Asked: 200 images per second at 20 boxes, 200 MB at 200 boxes.")


if __name__ == "__main__":
    main()
