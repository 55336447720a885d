"""Threshold rules against brute force, and the operating point's way to a file and back."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inspection.decisions.operating_point import (
    OperatingPoint,
    Rate,
    choose_threshold,
    fixed_threshold,
)
from inspection.errors import InputError

some_scores = hnp.arrays(
    np.float32, st.integers(1, 25), elements=st.integers(0, 16).map(lambda n: np.float32(n / 16))
)
targets = st.sampled_from([0.0, 0.005, 0.1, 0.25, 1.0])


def join(defects, normals):
    return np.concatenate([defects, normals]), np.r_[np.ones(len(defects)), np.zeros(len(normals))]


def every_outcome(defects, normals):
    """(misses, false rejects) at thresholds under, between, at and over all scores."""
    steps = sorted({*defects.tolist(), *normals.tolist()})
    for threshold in (*steps, 2.0):
        yield int((defects < threshold).sum()), int((normals >= threshold).sum())


@given(some_scores, some_scores, targets)
def test_least_overkill_is_the_best_there_is(defects, normals, target):
    point = choose_threshold(*join(defects, normals), "least-overkill", target=target)
    allowed = target * len(defects) + 1e-9
    best = min((o, m) for m, o in every_outcome(defects, normals) if m <= allowed)
    assert (point.overkill.count, point.miss.count) == best


@given(some_scores, some_scores, targets)
def test_least_miss_is_the_best_there_is(defects, normals, target):
    point = choose_threshold(*join(defects, normals), "least-miss", target=target)
    allowed = target * len(normals) + 1e-9
    best = min((m, o) for m, o in every_outcome(defects, normals) if o <= allowed)
    assert (point.miss.count, point.overkill.count) == best


@given(some_scores, some_scores, st.floats(0.001, 0.5), st.floats(1, 1000))
def test_least_cost_is_the_best_there_is(defects, normals, prevalence, cost):
    def total(misses, rejects):
        return cost * prevalence * misses / len(defects) + (1 - prevalence) * rejects / len(normals)

    point = choose_threshold(
        *join(defects, normals), "least-cost", prevalence=prevalence, miss_cost=cost
    )
    best = min(total(*outcome) for outcome in every_outcome(defects, normals))
    assert total(point.miss.count, point.overkill.count) == pytest.approx(best, abs=1e-9)


@given(some_scores, some_scores)
def test_stated_rates_are_those_of_the_threshold(defects, normals):
    point = choose_threshold(*join(defects, normals))
    assert point.miss == Rate(
        int((~point.is_defect(defects)).sum()), len(defects), "defective images"
    )
    assert point.overkill.count == int(point.is_defect(normals).sum())
    # A score kept as float32 decides as one kept as float64.
    everything = np.concatenate([defects, normals])
    assert ((everything >= np.float32(point.threshold)) == point.is_defect(everything)).all()


@given(some_scores, targets)
def test_normal_quantile_needs_no_defects(normals, target):
    point = choose_threshold(normals, np.zeros(len(normals)), "normal-quantile", target=target)
    allowed = target * len(normals) + 1e-9
    assert point.overkill.count <= allowed
    best = max(o for _, o in every_outcome(normals, normals) if o <= allowed)
    assert point.overkill.count == best
    assert str(point.miss) == "not measurable (0 defective images)"


@given(some_scores, some_scores, targets, targets)
def test_review_band_keeps_both_targets(defects, normals, target, overkill_target):
    score, truth = join(defects, normals)
    point = choose_threshold(
        score, truth, "review-band", target=target, overkill_target=overkill_target
    )
    decisions = [point.decide(value) for value in score]
    passed = sum(d == "OK" for d, bad in zip(decisions, truth, strict=True) if bad)
    rejected = sum(d == "NG" for d, bad in zip(decisions, truth, strict=True) if not bad)
    assert passed == point.miss.count <= target * len(defects) + 1e-9
    assert rejected == point.overkill.count <= overkill_target * len(normals) + 1e-9
    assert decisions.count("review") == point.review.count


def test_threshold_leaves_room_on_both_sides():
    point = choose_threshold([0.25, 0.75], [False, True])
    assert point.threshold == 0.5
    assert point.decide(0.5) == "NG"
    assert point.decide(0.4999) == "OK"


def test_small_calibration_part_says_how_many_it_takes():
    score, truth = np.r_[np.full(100, 0.9), np.full(50, 0.1)], np.r_[np.ones(100), np.zeros(50)]
    point = choose_threshold(score, truth)
    assert "598" in point.notes[0]
    assert "100 defective images" in point.notes[0]
    score, truth = np.r_[np.full(598, 0.9), np.full(50, 0.1)], np.r_[np.ones(598), np.zeros(50)]
    assert choose_threshold(score, truth).notes == ()


@pytest.mark.parametrize(
    ("rule", "truth", "words"),
    [
        ("least-overkill", [0, 0], "needs defective images"),
        ("least-miss", [1, 1], "needs normal images"),
        ("least-cost", [1, 1], "needs normal images"),
        ("normal-quantile", [1, 1], "needs normal images"),
        ("best", [0, 1], "unknown; take one of least-overkill"),
    ],
)
def test_what_a_rule_cannot_do_is_said(rule, truth, words):
    with pytest.raises(InputError, match=words):
        choose_threshold([0.1, 0.9], truth, rule)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="1 of 2 scores"):
        choose_threshold([np.nan, 0.5], [0, 1])
    with pytest.raises(InputError, match="no image"):
        choose_threshold([], [])


@pytest.mark.parametrize("rule", ["least-overkill", "least-cost", "review-band"])
def test_operating_point_survives_json(rule):
    point = choose_threshold([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1], rule, data_hash="abc")
    stored = json.loads(json.dumps(point.to_dict(), allow_nan=False))
    again = OperatingPoint.from_dict(stored)
    assert again.to_dict() == point.to_dict()
    assert stored["miss"]["interval_95"] == list(point.miss.interval)
    assert (stored["defects"], stored["normals"], stored["data_hash"]) == (2, 2, "abc")


def test_broken_operating_point_is_refused():
    stored = choose_threshold([0.1, 0.9], [0, 1]).to_dict()
    for broken in ({**stored, "threshold": None}, {**stored, "threshold": float("nan")}, {}):
        with pytest.raises(InputError, match="Operating point"):
            OperatingPoint.from_dict(broken)


def test_a_review_band_that_is_not_finite_is_refused():
    stored = fixed_threshold(0.5).to_dict() | {"review_threshold": math.inf}  # 1e999 in JSON
    with pytest.raises(InputError, match="not a finite number"):
        OperatingPoint.from_dict(stored)


def test_a_review_band_over_the_threshold_is_refused():
    stored = fixed_threshold(0.5).to_dict()
    with pytest.raises(InputError, match="review threshold is over"):
        OperatingPoint.from_dict(stored | {"review_threshold": 0.6})
    assert OperatingPoint.from_dict(stored | {"review_threshold": 0.5}).decide(0.5) == "NG"


def test_fixed_threshold_says_that_nobody_calibrated_it():
    point = fixed_threshold(0.7)
    assert "not calibrated" in point.rule
    assert point.decide(np.float32(0.7)) == "NG"
    assert str(point.overkill) == "not measurable (0 normal images)"
