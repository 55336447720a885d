"""Figures of a classifier: macro F1, each class with its intervals, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inspection.decisions.operating_point import (
    DEFECTIVE,
    NORMAL,
    OperatingPoint,
    Rate,
    between,
    choose_threshold,
    percent,
    prevalence_weights,
)
from inspection.errors import InputError

MACRO_F1 = "macro-f1"
_DRAWS = 1000
_BINS = 10


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is recognised.

    Args:
        label: Its name.
        precision: Right ones among those called so.
        recall: Right ones among those that are so.
        f1: Harmonic mean of the two; 0 where nothing is right, NaN where the class does not
            occur at all.
        f1_interval: 95 %, by the posterior of right ones, false alarms and misses.
    """

    label: str
    precision: Rate
    recall: Rate
    f1: float
    f1_interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "label": self.label,
            "precision": self.precision.to_dict(),
            "recall": self.recall.to_dict(),
            "f1": self.f1,
            "f1_interval_95": list(self.f1_interval),
        }


@dataclass(frozen=True)
class Measures:
    """What is reported of a classifier on a set of images.

    Args:
        classes: Figures of each class.
        macro_f1: Mean F1 of the classes that occur.
        macro_f1_interval: 95 %, by bootstrap over images.
        accuracy: Right ones of all.
        confusion: (K, K) int64, truth by row, decision by column.
        miss: Defects decided OK; None where there is no normal class.
        overkill: Normal ones decided NG; None where there is no normal class.
        review: Those sent to review; None without a review band.
        calibration: See `calibration_curve`.
        calibration_error: Mean distance of share and frequency (ECE).
    """

    classes: tuple[ClassFigures, ...]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    accuracy: Rate
    confusion: np.ndarray
    miss: Rate | None
    overkill: Rate | None
    review: Rate | None
    calibration: list[tuple[float, float, int]]
    calibration_error: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "macro_f1": self.macro_f1,
            "macro_f1_interval_95": list(self.macro_f1_interval),
            "accuracy": self.accuracy.to_dict(),
            "miss": self.miss.to_dict() if self.miss else None,
            "overkill": self.overkill.to_dict() if self.overkill else None,
            "review": self.review.to_dict() if self.review else None,
            "classes": [item.to_dict() for item in self.classes],
            "confusion": self.confusion.tolist(),
            "calibration_curve": [list(row) for row in self.calibration],
            "expected_calibration_error": self.calibration_error,
        }


def confusion_matrix(
    truth: np.ndarray, decision: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """(K, K) counts, truth by row, decision by column: int64, float64 where they are weighted."""
    cells = np.asarray(truth, np.int64) * classes + np.asarray(decision, np.int64)
    return np.bincount(cells, weights, classes * classes).reshape(classes, classes)


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """F1 of each class from (..., K, K) counts; NaN where a class neither is nor is called."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return np.divide(2 * right, both, out=np.full(right.shape, np.nan), where=both > 0)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that occur, from (..., K, K) counts."""
    scores = f1_scores(confusion)
    there = ~np.isnan(scores)
    return np.where(there, scores, 0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)


def measure(
    truth: np.ndarray,
    decision: np.ndarray,
    probability: np.ndarray,
    classes: Sequence[str],
    normal: str | None,
    in_review: np.ndarray | None = None,
) -> Measures:
    """All figures.

    Args:
        truth: (N,) class indices.
        decision: (N,) class indices.
        probability: (N, K) shares, for the calibration.
        classes: K names.
        normal: The class of good parts, or None.
        in_review: (N,) bool, what goes to review and is neither missed nor rejected; None
            without a review band.

    Raises:
        InputError: There is no image.
    """
    truth, decision = np.asarray(truth, np.int64), np.asarray(decision, np.int64)
    if not len(truth):
        raise InputError("There is no image to measure on.")
    count = len(classes)
    confusion = confusion_matrix(truth, decision, count)
    scores = f1_scores(confusion)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(truth), (confusion / len(truth)).ravel(), _DRAWS)
    drawn = drawn.reshape(_DRAWS, count, count)
    rows = []
    for index, name in enumerate(classes):
        right = int(confusion[index, index])
        called, there = int(confusion[:, index].sum()), int(confusion[index].sum())
        rows.append(
            ClassFigures(
                name,
                Rate(right, called, f"called {name}"),
                Rate(right, there, f"that are {name}"),
                float(scores[index]),
                _f1_interval(right, called - right, there - right, rng),
            )
        )
    miss = overkill = review = None
    if normal is not None:
        place = list(classes).index(normal)
        good, called_good = truth == place, decision == place
        passed = called_good if in_review is None else called_good & ~in_review
        if in_review is not None:
            review = Rate(int(in_review.sum()), len(truth), "images")
        miss = Rate(int((~good & passed).sum()), int((~good).sum()), DEFECTIVE)
        overkill = Rate(int((good & ~called_good).sum()), int(good.sum()), NORMAL)
    low, high = np.quantile(macro_f1(drawn), [0.025, 0.975])
    curve, error = calibration_curve(truth, probability)
    return Measures(
        tuple(rows),
        float(macro_f1(confusion)),
        (float(low), float(high)),
        Rate(int((truth == decision).sum()), len(truth)),
        confusion,
        miss,
        overkill,
        review,
        curve,
        error,
    )


def _f1_interval(
    right: int, alarms: int, missed: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of F1; unlike a bootstrap's it has a width also where nothing is right.

    Source: Goutte and Gaussier 2005, A probabilistic interpretation of precision, recall and
        F-score; with Jeffreys' prior.
    """
    shares = rng.dirichlet([right + 0.5, alarms + 0.5, missed + 0.5], _DRAWS)
    found = 2 * shares[:, 0] / (2 * shares[:, 0] + shares[:, 1] + shares[:, 2])
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def calibration_curve(
    truth: np.ndarray, probability: np.ndarray
) -> tuple[list[tuple[float, float, int]], float]:
    """How often the likeliest class is right, against the share it is given.

    Args:
        truth: (N,) class indices.
        probability: (N, K) shares.

    Returns:
        (mean share, frequency of being right, images) of each tenth of 0 to 1 that holds
        images, and the expected calibration error.

    Source: Guo et al. 2017, arXiv:1706.04599, equations 2 and 3.
    """
    best = probability.max(axis=1)
    right = probability.argmax(axis=1) == truth
    places = np.minimum((best * _BINS).astype(int), _BINS - 1)
    curve, error = [], 0.0
    for place in np.unique(places):
        here = places == place
        share, hit = float(best[here].mean()), float(right[here].mean())
        curve.append((share, hit, int(here.sum())))
        error += abs(share - hit) * here.mean()
    return curve, float(error)


def choose_point(
    truth: np.ndarray,
    probability: np.ndarray,
    classes: Sequence[str],
    normal: str,
    rule: str = MACRO_F1,
    target_miss: float = 0.005,
    target_overkill: float = 0.02,
    data_hash: str = "",
    prevalence: float | None = None,
) -> OperatingPoint:
    """The threshold on 1 - normal's share, chosen on the calibration part.

    Args:
        truth: (N,) class indices.
        probability: (N, K) shares.
        classes: K names.
        normal: The class of good parts.
        rule: `macro-f1`: the highest mean F1 of all classes, of several such the middle of the
            widest range; or a rule of `inspection.decisions.operating_point`.
        target_miss: For rules with a target.
        target_overkill: For rules with a target.
        data_hash: Stored with the result.
        prevalence: Share of defects where the model will be used, for `macro-f1` and
            `least-cost`. F1 depends on it: a threshold that is best among 8 % defects is not
            the best among 30 %. Where left out, the calibration part's own for `macro-f1`.

    Raises:
        InputError: The rule is unknown, or there is no image of a kind that it needs.
    """
    place = list(classes).index(normal)
    score = 1 - probability[:, place]
    is_defect = truth != place
    if rule != MACRO_F1:
        on_overkill = rule in ("least-miss", "normal-quantile")
        return choose_threshold(
            score,
            is_defect,
            rule,
            target=target_overkill if on_overkill else target_miss,
            overkill_target=target_overkill,
            data_hash=data_hash,
            **({} if prevalence is None else {"prevalence": prevalence}),
        )
    if not is_defect.any() or is_defect.all():
        raise InputError("Rule 'macro-f1' needs defects and normal images in the calibration part.")
    weights = prevalence_weights(is_defect, prevalence)
    threshold = _best_threshold(truth, probability, score, place, weights)
    missed = Rate(int((is_defect & (score < threshold)).sum()), int(is_defect.sum()), DEFECTIVE)
    rejected = Rate(int((~is_defect & (score >= threshold)).sum()), int((~is_defect).sum()), NORMAL)
    return OperatingPoint(
        threshold,
        "highest macro F1" + ("" if prevalence is None else f" at {percent(prevalence)} defective"),
        float("nan"),
        missed,
        rejected,
        data_hash,
    )


def _best_threshold(
    truth: np.ndarray,
    probability: np.ndarray,
    score: np.ndarray,
    place: int,
    weights: np.ndarray,
) -> float:
    others = probability.copy()
    others[:, place] = -1
    likeliest = others.argmax(axis=1)
    count = probability.shape[1]
    steps = np.concatenate([[0.0], np.unique(score), [np.nextafter(1.0, 2.0)]])
    # Between two neighbouring scores every threshold decides alike.
    thresholds = between(steps)
    found = np.array(
        [
            macro_f1(
                confusion_matrix(truth, np.where(score >= one, likeliest, place), count, weights)
            )
            for one in thresholds
        ]
    )
    best = np.flatnonzero(found >= found.max() - 1e-12)
    widths = steps[1:][best] - steps[:-1][best]
    return float(thresholds[best[int(widths.argmax())]])
