"""The boxes that training shows: cut by windows, turned by recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.data.dataset import fitted_boxes, without_difficult
from detection.models.anchors import AnchorSettings, fit_anchors, without_idle_levels
from detection.settings import TrainSettings
from detection.training.augment import QUARTER_TURNS, Sample
from detection.training.batches import FittedImages, cut_window, plan_windows
from inspection.data.boxes import ImageLabels

_MOST_WINDOWS = 5000


@dataclass(frozen=True, eq=False)
class ShownBoxes:
    """The boxes that a training learns from, image by image.

    Args:
        labelled: (N, 4) xyxy float32 of all labels but difficult ones, on the whole images, in
            pixels of the network's input.
        images: (M, 4) xyxy float32 for each image or window, once for each way it is turned.
        names: M class names for each of them.
        side: Side of such an image or window in pixels.
        cut: Whether windows are cut.
        how: What was done to the labels, for messages.
    """

    labelled: np.ndarray
    images: tuple[np.ndarray, ...]
    names: tuple[tuple[str, ...], ...]
    side: int
    cut: bool
    how: str

    @property
    def boxes(self) -> np.ndarray:
        """(K, 4) xyxy float32 of all images."""
        return np.concatenate([np.zeros((0, 4), np.float32), *self.images])

    def choose_anchors(self, kind: str) -> AnchorSettings:
        """Anchors as the setting asks: `auto` fits them to these boxes, else the paper's.

        Where windows are cut, levels that no box needs are left out.
        """
        side = self.side
        chosen = AnchorSettings() if kind == "default" else fit_anchors(self.boxes, side, side)
        return without_idle_levels(chosen, self.boxes, side, side) if self.cut else chosen


def find_shown_boxes(labels: Sequence[ImageLabels], settings: TrainSettings) -> ShownBoxes:
    """Cuts and turns the labelled boxes as the batches of a training will.

    Args:
        labels: The training images.
        settings: Size, fit, crop, background, recipe and seed of the training.

    Raises:
        InputError: An image's size cannot be read; only headers are.
    """
    labels = [without_difficult(item) for item in labels]
    labelled = fitted_boxes(labels, settings.images, settings.size, settings.fit)
    images = np.split(labelled, np.cumsum([len(item) for item in labels])[:-1]) if labels else []
    names = [item.label for item in labels]
    side, how = settings.size, "as labelled"
    cut = settings.crop is not None and settings.crop < side
    if cut:
        images, names = _cut(labels, images, settings)
        side, how = settings.crop, f"in windows of {settings.crop} px"
    if settings.augment in QUARTER_TURNS:
        images += [boxes[:, [1, 0, 3, 2]] for boxes in images]
        names += names
        how += ", also turned a quarter"
    return ShownBoxes(labelled, tuple(images), tuple(names), side, cut, how)


def _cut(
    labels: Sequence[ImageLabels], boxes: Sequence[np.ndarray], settings: TrainSettings
) -> tuple[list[np.ndarray], list[tuple[str, ...]]]:
    """What is learnt in an epoch's windows, or in a part of them where there are very many."""
    windows = plan_windows(
        FittedImages(labels, settings.images, (), settings.size),
        settings.crop,
        settings.background,
    )
    rng = np.random.default_rng(settings.seed)
    if len(windows) > _MOST_WINDOWS:
        chosen = rng.choice(len(windows), _MOST_WINDOWS, replace=False)
        windows = [windows[index] for index in chosen]
    blank = np.broadcast_to(np.uint8(0), (settings.size, settings.size, 3))
    images, names = [], []
    for window in windows:
        indices = np.arange(len(boxes[window.image]))
        whole = Sample(blank, boxes[window.image], indices)
        cut = cut_window(whole, window.box, settings.crop, rng)
        learnt = cut.classes >= 0
        images.append(cut.boxes[learnt])
        names.append(tuple(labels[window.image].label[i] for i in cut.classes[learnt]))
    return images, names
