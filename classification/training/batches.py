"""Batches of a training: images in the sampler's order, changed, pasted and mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from classification.training.augment import Augmenter
from classification.training.mixing import MIXES
from classification.training.paste import paste_by_mask
from classification.training.sampling import Sampler
from inspection.data.labelled import LabelledImage
from inspection.data.letterbox import Image8
from inspection.data.preparation import Preparation

_KEPT_BYTES = 2e9


class Views:
    """What the network sees of images; what fits stays in memory.

    Args:
        items: The images.
        preparation: How they are brought to the network.
        most_bytes: Held in memory at the most; the rest is read again each time.
    """

    def __init__(
        self,
        items: Sequence[LabelledImage],
        preparation: Preparation,
        most_bytes: float = _KEPT_BYTES,
    ) -> None:
        self.items = tuple(items)
        self._preparation = preparation
        self._kept: dict[int, Image8] = {}
        self._masks: dict[int, np.ndarray] = {}
        self._most = int(most_bytes / (3 * preparation.size**2))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Image8:
        """(S, S, 3) uint8.

        Raises:
            InputError: The image cannot be read.
        """
        if index in self._kept:
            return self._kept[index]
        view = self._preparation(self.items[index].path).rgb
        if len(self._kept) < self._most:
            self._kept[index] = view
        return view

    def mask(self, index: int) -> np.ndarray:
        """(S, S) bool where the defect is; the image must have a mask.

        Raises:
            InputError: Image or mask cannot be read.
        """
        if index not in self._masks:
            item = self.items[index]
            self._masks[index] = self._preparation(item.path).mask_seen(item.read_mask())
        return self._masks[index]


@dataclass(frozen=True)
class Batch:
    """One step's images.

    Args:
        images: (B, S, S, 3) float32, RGB 0 to 255.
        targets: (B, K) float32, shares of the classes.
        names: Their paths.
    """

    images: np.ndarray
    targets: np.ndarray
    names: tuple[str, ...]


class Batches:
    """The batch of any step of a training; the same for the same seed, whatever came before.

    Args:
        views: The training's images, and no others: pastes come from here too.
        labels: Class index of each.
        classes: How many classes there are.
        sampler: Decides the order.
        batch_size: Images a step.
        recipe: Augmentation, see `classification.training.augment`.
        normal: Index of the normal class, which defects are pasted into; None for none.
        paste: Chance that a normal image gets a defect pasted in, and its class.
        mix: `none`, `mixup` or `cutmix`.
        mix_alpha: See `classification.training.mixing`.
        seed: Decides everything random.
    """

    def __init__(
        self,
        views: Views,
        labels: Sequence[int],
        classes: int,
        sampler: Sampler,
        batch_size: int,
        recipe: str = "none",
        normal: int | None = None,
        paste: float = 0.0,
        mix: str = "none",
        mix_alpha: float = 0.4,
        seed: int = 0,
    ) -> None:
        self.views, self.labels = views, np.asarray(labels, np.int64)
        self.classes, self.sampler, self.batch_size = classes, sampler, batch_size
        self.seed, self._normal, self._paste = seed, normal, paste
        self._augmenter = Augmenter(recipe)
        self._mix: Callable | None = MIXES.get(mix)
        self._alpha = mix_alpha
        self._sources = [i for i, item in enumerate(views.items) if item.mask is not None]
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    @property
    def steps(self) -> int:
        """Steps in which as many images are shown as there are."""
        return max(1, -(-len(self.views) // self.batch_size))

    def __getitem__(self, step: int) -> Batch:
        images, labels, names = [], [], []
        for position in range(step * self.batch_size, (step + 1) * self.batch_size):
            index = self._at(position)
            image, label = self.sample(index, position)
            images.append(image)
            labels.append(label)
            names.append(self.views.items[index].image)
        batch = np.stack(images).astype(np.float32)
        targets = np.eye(self.classes, dtype=np.float32)[labels]
        if self._mix is not None:
            rng = np.random.default_rng([self.seed, 2**30, step])
            batch, targets = self._mix(batch, targets, self._alpha, rng)
        return Batch(batch, targets.astype(np.float32), tuple(names))

    def sample(self, index: int, position: int) -> tuple[Image8, int]:
        """An image as it is shown at a position of the run, and its class."""
        rng = np.random.default_rng([self.seed, position])
        image, label = self.views[index], int(self.labels[index])
        if self._sources and label == self._normal and rng.random() < self._paste:
            source = self._sources[int(rng.integers(len(self._sources)))]
            mask = self.views.mask(source)
            if mask.any():  # a fine defect may have nothing left of it at the network's size
                image = paste_by_mask(image, self.views[source], mask, rng)
                label = int(self.labels[source])
        return self._augmenter(image, int(rng.integers(2**31))), label

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, len(self.views))
        if self._order[0] != epoch:
            self._order = (epoch, self.sampler.order(epoch))
        return int(self._order[1][place])

    @property
    def prior(self) -> np.ndarray:
        """(K,) share of each class among what is shown, pastes included.

        Pastes whose mask is empty at the network's size count as if they took place.
        """
        share = np.asarray(self.sampler.prior, np.float64).copy()
        if self._sources and self._normal is not None and self._paste:
            moved = share[self._normal] * self._paste
            share[self._normal] -= moved
            kinds = np.bincount(self.labels[self._sources], minlength=self.classes)
            share += moved * kinds / kinds.sum()
        return share
