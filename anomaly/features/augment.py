"""Changed copies of normal images: turned, with noise, and cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspection.data.letterbox import Image8


@dataclass(frozen=True)
class Augmentation:
    """Which changed copies of every normal image are learnt beside it.

    Only for products whose good parts may look so: where parts always lie alike, a turned one
    is an anomaly.

    Args:
        rotations: Copies turned by 90, 180 and 270 degrees.
        noise: Standard deviation of Gaussian noise in grey levels on every changed copy.
        crops: Copies cut at random, each of `share` of width and height.
        grid: Copies cut regularly, `grid` x `grid` places of `share` of width and height.
        share: Of width and height that a cut keeps.
    """

    rotations: bool = False
    noise: float = 0.0
    crops: int = 0
    grid: int = 0
    share: float = 0.8

    @property
    def copies(self) -> int:
        """How many changed copies each image has."""
        changed = 3 * self.rotations + self.crops + self.grid**2
        return changed or int(self.noise > 0)  # noise alone makes one copy

    def apply(self, rgb: Image8, copy: int, rng: np.random.Generator) -> Image8:
        """A changed copy.

        Args:
            rgb: (H, W, 3).
            copy: Its number, from 1 to `copies`.
            rng: Source of chance.

        Returns:
            (H', W', 3).
        """
        rgb = self.moved(rgb, copy, rng)
        if self.noise:
            # In float, and clipped: in uint8 dark pixels would turn white.
            rgb = np.clip(rgb + rng.normal(0, self.noise, rgb.shape), 0, 255).round()
        return np.ascontiguousarray(rgb, np.uint8)

    def moved(self, image: np.ndarray, copy: int, rng: np.random.Generator) -> np.ndarray:
        """As `apply` without noise, for anything of (H, W) or (H, W, C): a mask moves alike."""
        if not 1 <= copy <= self.copies:
            raise ValueError(f"copy {copy} of {self.copies}")
        number = copy - 1
        turned = 3 * self.rotations
        if number < turned:
            return np.rot90(image, number + 1)
        if number < turned + self.crops:
            return self._cut(image, *rng.random(2))
        if self.grid:
            row, column = divmod(number - turned - self.crops, self.grid)
            steps = max(1, self.grid - 1)
            return self._cut(image, row / steps, column / steps)
        return image

    def _cut(self, image: np.ndarray, down: float, right: float) -> np.ndarray:
        height, width = (max(1, round(self.share * side)) for side in image.shape[:2])
        top = round(down * (image.shape[0] - height))
        left = round(right * (image.shape[1] - width))
        return image[top : top + height, left : left + width]


PLAIN = Augmentation()
