"""What a threshold finds without learning: the classical inspection recipe, tuned on its data.

Background removed by a Gaussian, what differs by k deviations (from the median absolute
deviation) kept inside the wafer, holes closed, connected blobs of a fitting size reported, and
a class given by shape. Its settings come from a grid search on the training part, so the
comparison with a trained detector is fair to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from detection.evaluation.average_precision import measure_average_precision
from inspection.data.boxes import ImageLabels
from inspection.errors import InputError
from inspection.prediction.detections import Detections


@dataclass(frozen=True)
class BlobSettings:
    """All that the baseline can be tuned by.

    Attributes:
        background: Standard deviation in pixels of the Gaussian taken as background.
        smooth: Standard deviation in pixels of the Gaussian against noise.
        k: Threshold in robust standard deviations of the wafer.
        close: Side in pixels of the square that joins neighbouring pixels.
        margin: Pixels left out along the wafer's edge.
        smallest_side: Of a box, in pixels; smaller blobs are dropped.
        largest_side: Of a box, in pixels; larger blobs are dropped.
        grow: Pixels added around a blob.
        area_weight: Power of the area by which the contrast is weighted in the score.
        scratch_elongation: A blob whose axes differ by this factor or more is a scratch.
        stain_side: Another blob with a longer side of at least these pixels is a stain.
        stain_is_dark: A stain must also be darker than its surroundings.
    """

    background: float = 12.0
    smooth: float = 1.5
    k: float = 4.0
    close: int = 5
    margin: int = 16
    smallest_side: int = 8
    largest_side: int = 60
    grow: int = 0
    area_weight: float = 0.5
    scratch_elongation: float = 2.5
    stain_side: float = 24.0
    stain_is_dark: bool = True


# Searched exhaustively: what changes the blobs, then what only filters or names them.
SEGMENTATION_GRID: dict[str, tuple[float, ...]] = {
    "background": (4.0, 6.0, 12.0),
    "smooth": (0.6, 1.2),
    "k": (2.0, 2.5, 3.2, 4.0),
    "close": (3, 7),
}
_FILTER_GRID = {
    "smallest_side": (8, 11, 14),
    "largest_side": (45, 60),
    "grow": (0, 1, 2),
    "area_weight": (0.0, 0.5),
}
_CLASS_GRID = {
    "scratch_elongation": (1.6, 2.0, 2.5, 3.2),
    "stain_side": (16.0, 20.0, 24.0, 28.0),
    "stain_is_dark": (False, True),
}
_FINALISTS = 4  # segmentations whose classes are tuned too


@dataclass(frozen=True, eq=False)
class _Blobs:
    """Connected components of one image.

    Attributes:
        xyxy: (N, 4) float32, pixels.
        area: (N,) float32, pixels.
        contrast: (N,) float32, mean deviation in robust standard deviations.
        elongation: (N,) float32, ratio of the axes, at least 1.
        dark: (N,) bool, darker than the background.
    """

    xyxy: np.ndarray
    area: np.ndarray
    contrast: np.ndarray
    elongation: np.ndarray
    dark: np.ndarray


def blob_detections(rgb: np.ndarray, settings: BlobSettings | None = None) -> Detections:
    """Finds and names blobs in one image.

    Args:
        rgb: (H, W, 3) uint8.
        settings: From `tune`; the defaults otherwise.

    Returns:
        Detections whose score rises with contrast (and area), in (0, 1).
    """
    settings = settings or BlobSettings()
    inside = wafer_mask(rgb, settings.margin)
    return _detections(_blobs(_deviation(rgb, inside, settings), inside, settings), settings)


def tune(
    images: Sequence[np.ndarray],
    labels: Sequence[ImageLabels],
    classes: Sequence[str],
    start: BlobSettings | None = None,
    segmentation_grid: dict[str, tuple[float, ...]] | None = None,
) -> BlobSettings:
    """Searches the settings with the highest mean AP@.5 on the images given.

    Blobs are first ranked without regard to class; the classes' rule is then tuned for the
    best few. About 2.5 s an image with the default grid; two dozen images are enough.

    Args:
        images: (H, W, 3) uint8 each.
        labels: Ground truth, in the same order.
        classes: Class names of the labels.
        start: Settings that are not searched keep these values.
        segmentation_grid: Replaces `SEGMENTATION_GRID`.

    Raises:
        InputError: No image, or not one with a box.
    """
    if len(images) != len(labels) or not any(entry.label for entry in labels):
        raise InputError("The baseline is tuned on labelled images; give at least one with a box.")
    start = start or BlobSettings()
    insides = [wafer_mask(rgb, start.margin) for rgb in images]
    found: list[tuple[float, BlobSettings, list[_Blobs]]] = []
    deviations: dict[tuple[float, float], list[np.ndarray]] = {}
    for settings in _each(start, segmentation_grid or SEGMENTATION_GRID):
        key = (settings.background, settings.smooth)
        if key not in deviations:
            deviations = {
                key: [_deviation(*pair, settings) for pair in zip(images, insides, strict=True)]
            }
        blobs = [_blobs(*pair, settings) for pair in zip(deviations[key], insides, strict=True)]
        filtered = (
            (_class_agnostic_ap(blobs, labels, s), s) for s in _each(settings, _FILTER_GRID)
        )
        score, chosen = max(filtered, key=lambda pair: pair[0])
        found.append((score, chosen, blobs))
    found.sort(key=lambda entry: -entry[0])
    named = (
        (_mean_ap(blobs, labels, classes, settings), settings)
        for _, finalist, blobs in found[:_FINALISTS]
        for settings in _each(finalist, _CLASS_GRID)
    )
    return max(named, key=lambda pair: pair[0])[1]


def class_agnostic(
    labels: Sequence[ImageLabels], detections: Sequence[Detections]
) -> tuple[list[ImageLabels], list[Detections]]:
    """Both lists with every class called `defect`: how well blobs are found, names apart."""
    return (
        [replace(entry, label=("defect",) * len(entry.label)) for entry in labels],
        [replace(entry, label=("defect",) * len(entry.label)) for entry in detections],
    )


def wafer_mask(rgb: np.ndarray, margin: int = 0) -> np.ndarray:
    """The wafer by Otsu's threshold: the largest bright or coloured region, made convex.

    Args:
        rgb: (H, W, 3) uint8.
        margin: Pixels taken off along the edge.

    Returns:
        (H, W) bool.
    """
    # The strongest channel keeps a coloured film apart from grey metal of equal brightness.
    strongest = cv2.GaussianBlur(rgb.max(axis=2), (0, 0), 3)
    _, mask = cv2.threshold(strongest, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    # Opening by a large disc takes off clamps that touch the wafer; a wafer is convex.
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (61, 61))
    mask = cv2.morphologyEx(_largest(mask), cv2.MORPH_OPEN, disc)
    mask = _largest(mask, convex=True)
    return cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1] > margin


def _largest(mask: np.ndarray, convex: bool = False) -> np.ndarray:
    """(H, W) uint8: the largest region of a mask, its holes or also its dents filled."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    if contours:
        outline = max(contours, key=cv2.contourArea)
        outline = cv2.convexHull(outline) if convex else outline
        cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED)
    return filled


def _each(start: BlobSettings, grid: dict) -> list[BlobSettings]:
    """`start` with every combination of the grid."""
    return [
        replace(start, **dict(zip(grid, values, strict=True)))
        for values in itertools.product(*grid.values())
    ]


def _deviation(rgb: np.ndarray, inside: np.ndarray, settings: BlobSettings) -> np.ndarray:
    """(H, W) float32: difference to the background in robust standard deviations."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Averaged over the wafer alone, or the edge would darken everything beside it.
    weight = inside.astype(np.float32)
    background = cv2.GaussianBlur(grey * weight, (0, 0), settings.background)
    background /= np.maximum(cv2.GaussianBlur(weight, (0, 0), settings.background), 1e-3)
    fine = cv2.GaussianBlur(grey, (0, 0), settings.smooth) - background
    fine[~inside] = 0
    values = fine[inside][::7]
    spread = 1.4826 * float(np.median(np.abs(values))) if values.size else 1.0
    return fine / np.float32(max(spread, 1e-3))


def _blobs(deviation: np.ndarray, inside: np.ndarray, settings: BlobSettings) -> _Blobs:
    """Connected components over the threshold."""
    over = ((np.abs(deviation) > settings.k) & inside).astype(np.uint8)
    if settings.close > 1:
        square = np.ones((int(settings.close),) * 2, np.uint8)
        over = cv2.morphologyEx(over, cv2.MORPH_CLOSE, square)
    count, components, boxes, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    y, x = np.nonzero(over)
    owner, value = components[y, x], deviation[y, x]

    def mean(quantity: np.ndarray) -> np.ndarray:
        return np.bincount(owner, quantity, count)[1:] / np.bincount(owner, minlength=count)[1:]

    mean_x, mean_y = mean(x), mean(y)
    # A pixel's own extent keeps single rows of pixels from infinite elongation.
    xx, yy = mean(x * x) - mean_x**2 + 1 / 12, mean(y * y) - mean_y**2 + 1 / 12
    xy = mean(x * y) - mean_x * mean_y
    centre, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    left, top, width, height, area = boxes[1:].T.astype(np.float32)
    return _Blobs(
        xyxy=np.stack([left, top, left + width, top + height], axis=1),
        area=area,
        contrast=mean(np.abs(value)).astype(np.float32),
        elongation=np.sqrt((centre + spread) / np.maximum(centre - spread, 1e-3)),
        dark=mean(value) < 0,
    )


def _detections(blobs: _Blobs, settings: BlobSettings) -> Detections:
    """Blobs of a fitting size with their class, the strongest first."""
    sides = blobs.xyxy[:, 2:] - blobs.xyxy[:, :2]
    longer = sides.max(axis=1, initial=0)
    kept = (longer >= settings.smallest_side) & (longer <= settings.largest_side)
    strength = blobs.contrast * blobs.area**settings.area_weight
    order = np.flatnonzero(kept)[np.argsort(-strength[kept], kind="stable")]
    stain = longer >= settings.stain_side
    if settings.stain_is_dark:
        stain &= blobs.dark
    name = np.where(stain, "stain", "particle")
    name[blobs.elongation >= settings.scratch_elongation] = "scratch"
    grow = np.array([-1, -1, 1, 1], np.float32) * settings.grow
    strength = strength[order]
    return Detections(
        xyxy=np.maximum(blobs.xyxy[order] + grow, 0),
        # Any rising function does for a ranking; this one stays within 0 and 1.
        score=(strength / (strength + 10)).astype(np.float32),
        label=tuple(name[order].tolist()),
    )


def _class_agnostic_ap(
    blobs: Sequence[_Blobs], labels: Sequence[ImageLabels], settings: BlobSettings
) -> float:
    found = [_detections(entry, settings) for entry in blobs]
    return measure_average_precision(*class_agnostic(labels, found), ["defect"]).mean_ap


def _mean_ap(
    blobs: Sequence[_Blobs],
    labels: Sequence[ImageLabels],
    classes: Sequence[str],
    settings: BlobSettings,
) -> float:
    found = [_detections(entry, settings) for entry in blobs]
    return measure_average_precision(labels, found, classes).mean_ap
