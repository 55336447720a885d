"""How well score maps find the defect's place, against masks."""

from __future__ import annotations

import cv2
import numpy as np

_LEVELS = 4000
_REACH = 12.0  # sinh of it is some 80,000 times the scale


class PixelMetrics:
    """AUROC over pixels, and AUPRO, from maps and masks that come one at a time.

    Memory does not grow with the number of pixels: scores are counted between thresholds that
    are fixed beforehand, close together around the scores of normal pixels and further apart,
    in proportion, away from them.

    Args:
        centre: A middling score of normal pixels.
        scale: How far over it normal scores reach, above 0.
        most_false: AUPRO's highest false-positive rate.

    Source: per-region overlap, Bergmann et al. 2019, MVTec AD, section 5.2; normalised up to a
        false-positive rate of .3 as there.
    """

    def __init__(self, centre: float, scale: float, most_false: float = 0.3) -> None:
        self.thresholds = centre + scale * np.sinh(np.linspace(-_REACH, _REACH, _LEVELS))
        self.most_false = most_false
        self._normal = np.zeros(_LEVELS + 1, np.int64)
        self._defect = np.zeros(_LEVELS + 1, np.int64)
        self._overlap = np.zeros(_LEVELS, np.float64)
        self._regions = 0

    def update(self, score_map: np.ndarray, mask: np.ndarray) -> None:
        """Takes in an image.

        Args:
            score_map: (H, W) float32.
            mask: (H, W) bool, where the defect is; all False for a normal image.

        Raises:
            ValueError: The shapes differ.
        """
        if score_map.shape != mask.shape:
            raise ValueError(f"a map of {score_map.shape} and a mask of {mask.shape}")
        self._normal += self._counts(score_map[~mask])
        if not mask.any():
            return
        self._defect += self._counts(score_map[mask])
        count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        for index in range(1, count):
            inside = self._counts(score_map[regions == index])
            self._overlap += _at_least(inside) / inside.sum()
        self._regions += count - 1

    def _counts(self, scores: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.thresholds, scores, side="right")
        return np.bincount(places.ravel(), minlength=_LEVELS + 1)

    def compute(self) -> tuple[float, float]:
        """(pixel AUROC, AUPRO), NaN where there is no defect or no normal pixel."""
        if not self._regions or not self._normal.sum():
            return float("nan"), float("nan")
        false = _at_least(self._normal) / self._normal.sum()
        true = _at_least(self._defect) / self._defect.sum()
        # From the highest threshold, over which nothing lies, to the lowest, over which all does.
        false = np.concatenate([[0.0], false[::-1], [1.0]])
        true = np.concatenate([[0.0], true[::-1], [1.0]])
        overlap = np.concatenate([[0.0], self._overlap[::-1] / self._regions, [1.0]])
        auroc = float(np.trapezoid(true, false))
        limit = self.most_false
        inside = false < limit
        x = np.append(false[inside], limit)
        y = np.append(overlap[inside], np.interp(limit, false, overlap))
        return auroc, float(np.trapezoid(y, x) / limit)


def _at_least(counts: np.ndarray) -> np.ndarray:
    """(_LEVELS,) how many scores are at or over each threshold."""
    return counts[::-1].cumsum()[::-1][1:]
