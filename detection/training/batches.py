"""Training batches: images read once, windows cut, augmented, and turned into targets.

Which image stands where in the run depends on the seed and the position only, so that a
resumed run goes on exactly where it stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.models.anchors import AnchorGrid, AnchorSettings
from detection.models.targets import make_targets
from detection.training.augment import Augmenter, Recipe, Sample, paste_defect
from inspection.data.boxes import ImageLabels
from inspection.data.images import read_image
from inspection.data.letterbox import FitMode, fit_for

# A box of which less than this is left in a window is neither learnt nor held against it.
_VISIBLE = 0.5
_PASTE_PROBABILITY = 0.5
_CACHE_BYTES = 3 * 2**30


class FittedImages:
    """Labelled images at the network's size, kept in memory up to a bound.

    Args:
        labels: The images and their boxes.
        images_dir: Where the files stand.
        classes: Class names; the index is the place in it.
        size: Side of the fitted image in pixels.
        fit: How images of other sizes are fitted.
        bits: Bits per sample of 16-bit files.
        cache_bytes: Bound on the memory for decoded images.
    """

    def __init__(
        self,
        labels: Sequence[ImageLabels],
        images_dir: str | Path,
        classes: Sequence[str],
        size: int,
        fit: FitMode = "letterbox",
        bits: int = 16,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self.labels = tuple(labels)
        self.images_dir = Path(images_dir)
        self.size = size
        self._fit = fit
        self._bits = bits
        self._index = {name: index for index, name in enumerate(classes)}
        self._room = cache_bytes
        self._cache: dict[int, Sample] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """The fitted sample; its arrays must not be written to.

        Raises:
            InputError: The file cannot be read.
        """
        sample = self._cache.get(index)
        if sample is None:
            sample = self._read(index)
            with self._lock:
                if self._room >= sample.image.nbytes and index not in self._cache:
                    self._room -= sample.image.nbytes
                    self._cache[index] = sample
        return sample

    def _read(self, index: int) -> Sample:
        labels = self.labels[index]
        image = read_image(self.images_dir / labels.image, self._bits)
        fit = fit_for(image.shape[1], image.shape[0], self.size, self._fit)
        classes = np.array([self._index[name] for name in labels.label], np.int64)
        # As in an evaluation, where finding a difficult box is neither right nor wrong.
        classes = np.where(labels.difficult, -1, classes)
        return Sample(fit.apply(image), fit.to_fitted(labels.xyxy), classes)


@dataclass(frozen=True)
class Window:
    """Where a training window comes from: an image, and a box in it or -1 for anywhere."""

    image: int
    box: int


def plan_windows(images: FittedImages, crop: int | None, background: float = 1.0) -> list[Window]:
    """One entry per image of an epoch, not yet in random order.

    Whole images: one each. With crops: one window around every box, and `background` times as
    many anywhere, spread over all images and at least one in each.
    """
    if crop is None:
        return [Window(index, -1) for index in range(len(images))]
    windows = [
        Window(index, box)
        for index, labels in enumerate(images.labels)
        for box in np.flatnonzero(~labels.difficult)
    ]
    anywhere = max(len(images), round(background * len(windows)))
    return windows + [Window(index % len(images), -1) for index in range(anywhere)]


def cut_window(sample: Sample, box: int, crop: int, rng: np.random.Generator) -> Sample:
    """Cuts a square window at native resolution.

    Args:
        sample: The whole fitted image.
        box: Index of the box to cut around, or -1 for anywhere.
        crop: Side of the window in pixels, at most the image's.
        rng: Source of chance.

    Returns:
        The window; boxes clipped to it, those mostly outside marked with class -1.
    """
    height, width = sample.image.shape[:2]
    if box < 0:
        left = int(rng.integers(0, width - crop + 1))
        top = int(rng.integers(0, height - crop + 1))
    else:
        left = _start(sample.boxes[box, 0], sample.boxes[box, 2], crop, width, rng)
        top = _start(sample.boxes[box, 1], sample.boxes[box, 3], crop, height, rng)
    offset = np.array([left, top, left, top], np.float32)
    moved = sample.boxes - offset
    boxes = np.clip(moved, 0, crop)
    whole = (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(axis=1)
    shown = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    # A sliver of less than a pixel is nothing to learn; a box that nothing was cut from stays.
    inside = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1) | (boxes == moved).all(axis=1)
    classes = np.where(shown >= _VISIBLE * whole, sample.classes, -1)
    image = sample.image[top : top + crop, left : left + crop]
    return Sample(image, boxes[inside], classes[inside])


def _start(low: float, high: float, crop: int, limit: int, rng: np.random.Generator) -> int:
    """A window start that keeps [low, high] inside where it fits, else keeps its middle."""
    if high - low > crop:
        low = high = (low + high) / 2
    first = max(0, int(np.ceil(high)) - crop)
    last = min(limit - crop, int(np.floor(low)))
    return int(rng.integers(first, last + 1)) if last >= first else min(first, limit - crop)


@dataclass(frozen=True)
class Batch:
    """What one training step gets.

    Args:
        images: (B, S, S, 3) float32 RGB 0-255.
        targets: `{"box": (B, A, 4) float32, "classification": (B, A) int32}`.
        names: The images that it was made of.
    """

    images: np.ndarray
    targets: dict[str, np.ndarray]
    names: tuple[str, ...]


class Batches:
    """Makes the batch at any position of a run.

    Args:
        images: The training images.
        anchors: The model's anchors.
        batch_size: Images per step.
        crop: Side of the training windows; None trains on whole images.
        augment: Recipe; `heavy` also pastes defects.
        seed: Decides order, windows and augmentation.
        background: Windows anywhere, for each window around a box.
    """

    def __init__(
        self,
        images: FittedImages,
        anchors: AnchorSettings,
        batch_size: int,
        crop: int | None = None,
        augment: Recipe = "basic",
        seed: int = 0,
        background: float = 1.0,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.crop = None if crop is None or crop >= images.size else crop
        self.seed = seed
        self.windows = plan_windows(images, self.crop, background)
        side = self.crop or images.size
        self._grid = AnchorGrid(anchors, side, side)
        self._augmenter = Augmenter(augment)
        self._defective = [
            index for index, item in enumerate(images.labels) if not item.difficult.all()
        ]
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    @property
    def steps(self) -> int:
        """Steps in which every window is shown once."""
        return -(-len(self.windows) // self.batch_size)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a global step; the same for the same seed, whatever came before."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        samples = [self.shown(position) for position in positions]
        names = [self.images.labels[self._at(position).image].image for position in positions]
        offsets = np.zeros((len(samples), len(self._grid.boxes), 4), np.float32)
        labels = [
            _label_anchors(self._grid, sample, part)
            for sample, part in zip(samples, offsets, strict=True)
        ]
        return Batch(
            np.stack([sample.image for sample in samples]).astype(np.float32),
            {"box": offsets, "classification": np.stack(labels)},
            tuple(names),
        )

    def shown(self, position: int) -> Sample:
        """What training shows at a position of the run."""
        return self.sample(self._at(position), position)

    def sample(self, window: Window, position: int) -> Sample:
        """The augmented image of a window at a position of the run."""
        rng = np.random.default_rng([self.seed, position])
        sample = self.images[window.image]
        if self.crop is not None:
            sample = cut_window(sample, window.box, self.crop, rng)
        pastes = self._augmenter.recipe == "heavy" and self._defective
        if pastes and rng.random() < _PASTE_PROBABILITY:
            source = self.images[self._defective[int(rng.integers(len(self._defective)))]]
            sample = paste_defect(sample, source, rng)
        return self._augmenter(sample, int(rng.integers(2**31)))

    def _at(self, position: int) -> Window:
        turn, place = divmod(position, len(self.windows))
        if self._order[0] != turn:
            order = np.random.default_rng([self.seed, 2**31, turn]).permutation(len(self.windows))
            self._order = (turn, order)
        return self.windows[int(self._order[1][place])]


def _label_anchors(grid: AnchorGrid, sample: Sample, offsets: np.ndarray) -> np.ndarray:
    """Classes of the anchors; their box offsets are written into zeros, (A, 4)."""
    wanted = sample.classes >= 0
    _, labels = make_targets(
        grid, sample.boxes[wanted], sample.classes[wanted], sample.boxes[~wanted], offsets
    )
    return labels
