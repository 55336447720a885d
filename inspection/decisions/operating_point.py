"""The threshold that turns a score into a decision, and the rules that choose it.

A part is NG iff its score is at or over the threshold. A threshold is chosen on the
calibration part and reported on the test part, never both on one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from inspection.decisions.rates import (
    Rate,
    escape_ppm,
    grouped_interval,
    images_needed,
    more_needed,
    percent,
    prevalence_weights,
    support_note,
)
from inspection.errors import InputError
from inspection.fields import RuleName
from inspection.finite import check_finite

__all__ = [
    "DEFECTIVE",
    "NORMAL",
    "RULES",
    "OperatingPoint",
    "Rate",
    "between",
    "choose_threshold",
    "escape_ppm",
    "fixed_threshold",
    "grouped_interval",
    "images_needed",
    "more_needed",
    "percent",
    "prevalence_weights",
    "support_note",
]

DEFECTIVE, NORMAL = "defective images", "normal images"
RULES = get_args(RuleName)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, why it is where it is, and what it was chosen on.

    Args:
        threshold: Scores at or over it are NG.
        rule: How the threshold was chosen, in words.
        target: The rule's target (a share, or a cost weight); NaN where it has none.
        miss: Defective images under the threshold (under `review_threshold` where one is
            set), on the calibration part.
        overkill: Normal images at or over the threshold, on the calibration part.
        data_hash: Hash of the calibration data.
        review_threshold: With it, scores from here up to the threshold go to review.
        review: Images of the calibration part that go to review; None without a band.
        notes: What a reader must know, for instance that the part is too small.
    """

    threshold: float
    rule: str
    target: float
    miss: Rate
    overkill: Rate
    data_hash: str = ""
    review_threshold: float | None = None
    review: Rate | None = None
    notes: tuple[str, ...] = ()

    @property
    def defects(self) -> int:
        """Defective images it was chosen on."""
        return self.miss.total

    @property
    def normals(self) -> int:
        """Normal images it was chosen on."""
        return self.overkill.total

    def is_defect(self, score: np.ndarray | float) -> np.ndarray:
        """NG or not, compared in float64 so that float32 rounding moves no decision.

        Args:
            score: Any shape.

        Returns:
            bool, same shape.

        Raises:
            NotFinite: A score is no finite number; NaN would compare as OK.
        """
        check_finite(scores=score)
        return np.asarray(score, np.float64) >= self.threshold

    def decide(self, score: float) -> str:
        """`OK`, `review` (only where a review band is set) or `NG`; raises as `is_defect`."""
        if bool(self.is_defect(score)):
            return "NG"
        if self.review_threshold is not None and float(score) >= self.review_threshold:
            return "review"
        return "OK"

    def to_dict(self) -> dict[str, Any]:
        """Everything, with intervals, ready for JSON and for the model file."""
        return {
            "threshold": self.threshold,
            "rule": self.rule,
            "target": None if math.isnan(self.target) else self.target,
            "defects": self.defects,
            "normals": self.normals,
            "miss": self.miss.to_dict(),
            "overkill": self.overkill.to_dict(),
            "data_hash": self.data_hash,
            "review_threshold": self.review_threshold,
            "review": self.review.to_dict() if self.review else None,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OperatingPoint:
        """Reads what `to_dict` wrote; intervals are computed again from the counts.

        Raises:
            InputError: A field is missing or not what it should be.
        """
        try:
            target, review = values["target"], values.get("review")
            review_threshold = values.get("review_threshold")
            point = cls(
                threshold=float(values["threshold"]),
                rule=str(values["rule"]),
                target=math.nan if target is None else float(target),
                miss=_rate_from(values["miss"]),
                overkill=_rate_from(values["overkill"]),
                data_hash=str(values.get("data_hash", "")),
                review_threshold=None if review_threshold is None else float(review_threshold),
                review=None if review is None else _rate_from(review),
                notes=tuple(str(note) for note in values.get("notes", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"Operating point: {error!r} in the stored values; choose the threshold anew."
            ) from error
        for limit in (point.threshold, point.review_threshold):
            if limit is not None and not math.isfinite(limit):
                raise InputError("Operating point: the stored threshold is not a finite number.")
        if point.review_threshold is not None and point.review_threshold > point.threshold:
            raise InputError("Operating point: the stored review threshold is over the threshold.")
        return point


def choose_threshold(
    score: np.ndarray,
    is_defect: np.ndarray,
    rule: str = "least-overkill",
    *,
    target: float = 0.005,
    overkill_target: float = 0.02,
    prevalence: float = 0.01,
    miss_cost: float = 100.0,
    overkill_cost: float = 1.0,
    data_hash: str = "",
) -> OperatingPoint:
    """Chooses a threshold on the calibration part by one of `RULES`.

    - `least-overkill`: least overkill with miss <= `target`.
    - `least-miss`: least miss with overkill <= `target`.
    - `least-cost`: least `miss_cost * prevalence * miss + overkill_cost *
      (1 - prevalence) * overkill`.
    - `normal-quantile`: lowest threshold with overkill <= `target`, from normal scores alone.
    - `review-band`: OK as far up as miss <= `target` allows, NG as far down as overkill <=
      `overkill_target` allows, review between; no band where one threshold meets both.

    Where several thresholds do equally well by the rule, the other rate decides.

    Args:
        score: (N,) image scores of the calibration part, never of the test part.
        is_defect: (N,) bool, the truth.
        rule: One of `RULES`.
        target: Highest share allowed by the rule.
        overkill_target: Highest overkill of the `review-band` rule.
        prevalence: Share of defective parts in production, for `least-cost`.
        miss_cost: Cost of one escape.
        overkill_cost: Cost of one false reject.
        data_hash: Hash of the calibration data, stored with the result.

    Returns:
        The operating point with its rates on the calibration part, and notes where the
        part is too small to support the target.

    Raises:
        InputError: Unknown rule, a score that is not a number, or no image of a kind that
            the rule needs.
    """
    scores = _Scores.of(score, is_defect)
    scores.check(rule)
    if rule == "review-band":
        return _review_band(scores, target, overkill_target, data_hash)
    texts = {
        "least-overkill": f"least overkill with miss <= {percent(target)}",
        "least-miss": f"least miss with overkill <= {percent(target)}",
        "least-cost": f"least cost (escape {miss_cost:g}, false reject {overkill_cost:g}, "
        f"{percent(prevalence)} defective)",
        "normal-quantile": f"{percent(1 - target)} quantile of normal scores",
    }
    if rule == "least-cost":
        target = math.nan
        cost = (
            miss_cost * prevalence * scores.missed / scores.defects
            + overkill_cost * (1 - prevalence) * scores.rejected / scores.normals
        )
        # Equal costs (to rounding) go to fewer escapes.
        best = int(np.lexsort((scores.missed, np.round(cost, 12)))[0])
    elif rule == "least-overkill":
        best = scores.least_overkill(target)
    elif rule == "least-miss":
        best = scores.least_miss(target)
    else:
        best = scores.first_with_overkill(target)
    return scores.point(best, texts[rule], target, data_hash, on_miss=rule == "least-overkill")


def between(steps: np.ndarray) -> np.ndarray:
    """A threshold between each two neighbouring scores.

    Halfway decides the same on this part and leaves both sides the same room; as a float32 value
    it decides alike in float32 and float64. Where no float32 lies between, it is the upper score.

    Args:
        steps: (N,) float64, rising.

    Returns:
        (N - 1,) float64, over the lower and at most the upper score.
    """
    middle = (steps[:-1] + (steps[1:] - steps[:-1]) / 2).astype(np.float32).astype(np.float64)
    return np.where((middle > steps[:-1]) & (middle <= steps[1:]), middle, steps[1:])


def fixed_threshold(threshold: float) -> OperatingPoint:
    """An operating point that nobody calibrated, and that says so."""
    return OperatingPoint(
        # As a float32 value it decides alike in float32 and float64.
        threshold=float(np.float32(threshold)),
        rule=f"fixed at {threshold:g}, not calibrated",
        target=math.nan,
        miss=Rate(0, 0, DEFECTIVE),
        overkill=Rate(0, 0, NORMAL),
    )


@dataclass(frozen=True, eq=False)
class _Scores:
    """Every distinct threshold with its misses and false rejects, lowest threshold first."""

    threshold: np.ndarray
    missed: np.ndarray
    rejected: np.ndarray
    defects: int
    normals: int
    all_scores: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, is_defect: np.ndarray) -> _Scores:
        score = np.asarray(score, np.float64).ravel()
        is_defect = np.asarray(is_defect, bool).ravel()
        if score.shape != is_defect.shape:
            raise ValueError(f"{score.size} scores for {is_defect.size} images.")
        if not np.isfinite(score).all():
            raise InputError(
                f"Calibration: {np.count_nonzero(~np.isfinite(score))} of {score.size} scores "
                "are not finite numbers; score these images again."
            )
        steps = np.unique(score)
        if not steps.size:
            raise InputError("Calibration: there is no image; add images to the validation part.")
        # The top one is over every score.
        top = float(np.nextafter(np.float32(steps[-1]), np.float32(np.inf)))
        threshold = np.concatenate([steps[:1], between(steps), [top]])
        defect, normal = np.sort(score[is_defect]), np.sort(score[~is_defect])
        return cls(
            threshold=threshold,
            missed=np.searchsorted(defect, threshold),
            rejected=normal.size - np.searchsorted(normal, threshold),
            defects=defect.size,
            normals=normal.size,
            all_scores=np.sort(score),
        )

    def check(self, rule: str) -> None:
        if rule not in RULES:
            raise InputError(f"Rule '{rule}' is unknown; take one of {', '.join(RULES)}.")
        problems = []
        if rule != "normal-quantile" and not self.defects:
            problems.append(
                f"Rule '{rule}' needs defective images in the calibration part, which has none; "
                "add some or take 'normal-quantile'."
            )
        if rule != "least-overkill" and not self.normals:
            problems.append(
                f"Rule '{rule}' needs normal images in the calibration part, which has none; "
                "add some."
            )
        if problems:
            raise InputError(problems)

    def last_with_miss(self, target: float) -> int:
        # Rates are multiples of 1/n: a hair of room keeps 1/200 <= .005 true.
        return int(np.flatnonzero(self.missed <= target * self.defects + 1e-9)[-1])

    def first_with_overkill(self, target: float) -> int:
        return int(np.flatnonzero(self.rejected <= target * self.normals + 1e-9)[0])

    def least_overkill(self, target: float) -> int:
        best = self.last_with_miss(target)
        # The same overkill may cost fewer escapes further down. Without normal images every
        # overkill is 0, and going down would reject everything.
        return int(np.searchsorted(-self.rejected, -self.rejected[best])) if self.normals else best

    def least_miss(self, target: float) -> int:
        best = self.first_with_overkill(target)
        # Likewise the same miss may cost less overkill further up.
        return int(np.searchsorted(self.missed, self.missed[best], "right")) - 1

    def point(
        self, best: int, rule: str, target: float, data_hash: str, on_miss: bool
    ) -> OperatingPoint:
        miss = Rate(int(self.missed[best]), self.defects, DEFECTIVE)
        overkill = Rate(int(self.rejected[best]), self.normals, NORMAL)
        note = (
            support_note(miss, target, "miss rate")
            if on_miss
            else support_note(overkill, target, "overkill rate")
        )
        return OperatingPoint(
            threshold=float(self.threshold[best]),
            rule=rule,
            target=target,
            miss=miss,
            overkill=overkill,
            data_hash=data_hash,
            notes=(note,) if note else (),
        )


def _review_band(
    scores: _Scores, target: float, overkill_target: float, data_hash: str
) -> OperatingPoint:
    low, high = scores.last_with_miss(target), scores.first_with_overkill(overkill_target)
    if high <= low:  # one threshold meets both targets, so nothing goes to review
        low = high = scores.least_overkill(target)
    bounds = scores.threshold[[low, high]]
    in_band = int(np.diff(np.searchsorted(scores.all_scores, bounds))[0])
    miss = Rate(int(scores.missed[low]), scores.defects, DEFECTIVE)
    overkill = Rate(int(scores.rejected[high]), scores.normals, NORMAL)
    notes = (
        support_note(miss, target, "miss rate"),
        support_note(overkill, overkill_target, "overkill rate"),
    )
    return OperatingPoint(
        threshold=float(bounds[1]),
        rule=f"review between miss <= {percent(target)} and overkill <= {percent(overkill_target)}",
        target=target,
        miss=miss,
        overkill=overkill,
        data_hash=data_hash,
        review_threshold=float(bounds[0]),
        review=Rate(in_band, scores.defects + scores.normals, "images"),
        notes=tuple(note for note in notes if note),
    )


def _rate_from(values: Mapping[str, Any]) -> Rate:
    return Rate(int(values["count"]), int(values["total"]), str(values.get("of", "images")))
