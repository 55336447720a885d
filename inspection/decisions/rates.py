"""Rates with exact intervals, and how many images it takes to show one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inspection.errors import InputError

CONFIDENCE = 0.95
_DRAWS = 2000


def percent(share: float) -> str:
    """A share as a percentage that reads 0 % or 100 % only where it is exactly that.

    Args:
        share: 0 to 1.

    Returns:
        At least two significant digits, for instance `0.67 %` or `99.97 %`.
    """
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    distance = min(value, 100 - value)
    # More decimals near the ends, where rounding would turn a few escapes into none.
    decimals = (
        1 if distance >= 10 else 2 if distance >= 0.1 else 1 - math.floor(math.log10(distance))
    )
    return f"{value:.{decimals}f} %"


@dataclass(frozen=True)
class Rate:
    """A counted share with its exact Clopper-Pearson interval (Clopper & Pearson 1934).

    Args:
        count: How many of `total`.
        total: How many there were; 0 means the rate cannot be measured.
        of: What was counted, for the text, for instance `normal images`.
    """

    count: int
    total: int
    of: str = "images"

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise ValueError(f"A rate needs 0 <= count <= total, not {self.count} of {self.total}.")

    @property
    def value(self) -> float:
        """count / total, NaN where total is 0."""
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided 95 % interval; (0, 1) where nothing was counted."""
        from scipy.special import betaincinv

        k, n, tail = self.count, self.total, (1 - CONFIDENCE) / 2
        low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
        high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
        return low, high

    @property
    def upper(self) -> float:
        """One-sided 95 % upper bound: what "at most" means when a requirement is shown."""
        from scipy.special import betaincinv

        if self.count == self.total:
            return 1.0
        return float(betaincinv(self.count + 1, self.total - self.count, CONFIDENCE))

    def __str__(self) -> str:
        if not self.total:
            return f"not measurable (0 {self.of})"
        share = f"{self.count} of {self.total} {self.of}"
        if not self.count:
            return f"{share}: at most {percent(self.upper)} (one-sided 95 %)"
        low, high = self.interval
        return f"{share}: {percent(self.value)} (95 %: {percent(low)} to {percent(high)})"

    def to_dict(self) -> dict[str, Any]:
        """Counts, value, interval and bound, ready for JSON."""
        return {
            "count": self.count,
            "total": self.total,
            "of": self.of,
            "value": self.value if self.total else None,
            "interval_95": list(self.interval),
            "upper_95": self.upper,
        }


def images_needed(target: float, misses: int = 0) -> int:
    """Smallest sample that shows a rate <= target when `misses` of it are wrong.

    Args:
        target: The rate to show, 0 to 1.
        misses: How many wrong ones the sample holds.

    Returns:
        598 for target .005 without a miss, 95 % sure (one-sided).
    """
    from scipy.special import betaincinv

    if not 0 < target < 1:
        raise ValueError(f"A target lies between 0 and 1, not at {target}.")

    def shown(n: int) -> bool:
        return betaincinv(misses + 1, n - misses, CONFIDENCE) <= target

    low, high = misses, misses + 1
    while not shown(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def more_needed(rate: Rate, target: float) -> int:
    """How many more images without a further error show `rate` <= target; 0 if shown now."""
    return max(0, images_needed(target, rate.count) - rate.total)


def support_note(rate: Rate, target: float, what: str) -> str:
    """One sentence when a sample is too small to support a target, "" when it is not.

    Args:
        rate: The measured rate.
        target: The rate to show, 0 to 1.
        what: `miss rate` or `overkill rate`.
    """
    if not 0 < target < 1 or (rate.total and rate.upper <= target):
        return ""
    more = more_needed(rate, target)
    return (
        f"{rate.total} {rate.of} with {rate.count} wrong cannot show {what} <= "
        f"{percent(target)} at 95 % confidence: that takes {rate.total + more} "
        f"({more} more, all decided rightly)."
    )


def escape_ppm(miss: Rate, prevalence: float) -> tuple[float, float]:
    """Defective parts passed as OK per million parts inspected.

    Args:
        miss: Missed defects.
        prevalence: Share of defective parts in production, 0 to 1.

    Returns:
        The estimate (NaN where not measurable) and its one-sided 95 % upper bound.
    """
    return 1e6 * prevalence * miss.value, 1e6 * prevalence * miss.upper


def prevalence_weights(is_defect: np.ndarray, prevalence: float | None) -> np.ndarray:
    """What each image counts, so that defective ones make up a share other than their own.

    Args:
        is_defect: (N,) bool.
        prevalence: Share of defective images, over 0 and under 1; None leaves each at 1.

    Returns:
        (N,) float64 with the sum N; ones where a kind is missing.

    Raises:
        InputError: The prevalence is no share.
    """
    is_defect = np.asarray(is_defect, bool)
    if prevalence is None:
        return np.ones(is_defect.shape)
    if not 0 < prevalence < 1:
        raise InputError(f"--prevalence {prevalence:g}: must be over 0 and under 1")
    share = is_defect.mean() if is_defect.size else 0.0
    if not 0 < share < 1:
        return np.ones(is_defect.shape)
    return np.where(is_defect, prevalence / share, (1 - prevalence) / (1 - share))


def grouped_interval(wrong: np.ndarray, group: Sequence[str]) -> tuple[float, float]:
    """95 % interval of a rate whose images come in groups, several images of one part.

    Resamples whole groups (percentile bootstrap, Efron 1979). Where no image or every image
    is wrong resampling would say 0 wide, so Clopper-Pearson over the groups answers. It is
    never narrower than Clopper-Pearson over the images: grouping adds no knowledge, and few
    errors make the bootstrap too sure.

    Args:
        wrong: (N,) bool.
        group: (N,) the part each image shows.

    Returns:
        Low and high, the same in every call.
    """
    _, index = np.unique(np.asarray(group), return_inverse=True)
    total = np.bincount(index)
    count = np.bincount(index, weights=np.asarray(wrong, np.float64))
    if not count.any() or (count == total).all():
        return Rate(len(total) if count.any() else 0, len(total)).interval
    rng = np.random.default_rng(0)
    rates = np.empty(_DRAWS)
    for draw in range(_DRAWS):  # one row at a time: draws x groups would not fit for millions
        chosen = rng.integers(0, len(total), len(total))
        rates[draw] = count[chosen].sum() / total[chosen].sum()
    low, high = np.quantile(rates, [0.025, 0.975])
    by_image = Rate(int(count.sum()), int(total.sum())).interval
    return min(float(low), by_image[0]), max(float(high), by_image[1])


def auroc(score: np.ndarray, is_defect: np.ndarray) -> float:
    """Chance that a defect scores over a normal image, ties counted half.

    Args:
        score: (N,).
        is_defect: (N,) bool.

    Returns:
        0 to 1, NaN where one of the two is missing.

    Raises:
        InputError: A score is not a finite number.

    Source: Mann and Whitney 1947, as in Hanley and McNeil 1982.
    """
    from scipy.stats import rankdata

    score, is_defect = np.asarray(score, np.float64), np.asarray(is_defect, bool)
    if not np.isfinite(score).all():
        raise InputError(f"{np.count_nonzero(~np.isfinite(score))} scores are not finite numbers.")
    defects, normals = np.count_nonzero(is_defect), np.count_nonzero(~is_defect)
    if not defects or not normals:
        return float("nan")
    ranks = rankdata(score)[is_defect].sum()
    return float((ranks - defects * (defects + 1) / 2) / (defects * normals))
