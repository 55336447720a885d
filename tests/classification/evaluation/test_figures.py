"""Figures against scikit-learn and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sk_confusion
from sklearn.metrics import f1_score

from classification.evaluation.figures import choose_point, confusion_matrix, macro_f1, measure
from classification.models.classifier import decided, softmax
from inspection.errors import InputError

NAMES = ("normal", "a", "b")


def shares(draw_seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw_seed)
    truth = rng.integers(0, 3, count)
    logits = rng.normal(size=(count, 3)) + 1.2 * np.eye(3)[truth]
    return truth, softmax(logits)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(3, 60))
def test_figures_equal_scikit_learns(seed, count):
    truth, probability = shares(seed, count)
    decision = probability.argmax(axis=1)
    found = measure(truth, decision, probability, NAMES, "normal")
    there = sorted({*truth, *decision})
    assert found.macro_f1 == pytest.approx(f1_score(truth, decision, average="macro", labels=there))
    np.testing.assert_array_equal(found.confusion, sk_confusion(truth, decision, labels=range(3)))
    each = f1_score(truth, decision, average=None, labels=[0, 1, 2], zero_division=0)
    for one, wanted in zip(found.classes, each, strict=True):
        assert one.f1 == pytest.approx(wanted) or (one.f1 != one.f1 and wanted == 0)
    assert found.miss.count == ((truth > 0) & (decision == 0)).sum()
    assert found.overkill.total == (truth == 0).sum()
    low, high = found.macro_f1_interval
    assert 0 <= low <= high <= 1


def test_perfect_is_one():
    truth = np.array([0, 1, 2, 2])
    found = measure(truth, truth, np.eye(3)[truth], NAMES, "normal")
    assert found.macro_f1 == 1
    assert found.calibration_error == 0
    assert (found.miss.count, found.overkill.count) == (0, 0)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(4, 40))
def test_the_threshold_has_the_highest_macro_f1_of_all(seed, count):
    truth, probability = shares(seed, count)
    truth[:2] = (0, 1)
    point = choose_point(truth, probability, NAMES, "normal")

    def at(threshold: float) -> float:
        decision = decided(probability, NAMES, "normal", threshold)
        return float(macro_f1(confusion_matrix(truth, decision, 3)))

    assert at(point.threshold) >= max(at(t) for t in np.linspace(0, 1.01, 203)) - 1e-9
    score = 1 - probability[:, 0]
    assert point.miss.count == ((truth > 0) & (score < point.threshold)).sum()


def test_the_threshold_is_not_rounded_past_a_score():
    """Sure networks give scores that lie closer together than float32 can tell."""
    score = np.array([0.1, 1 - 3e-9, 1 - 2e-9, 1 - 1e-9])
    truth = np.array([0, 0, 0, 1])
    probability = np.stack([1 - score, score], axis=1)
    point = choose_point(truth, probability, ("normal", "a"), "normal")
    decision = decided(probability, ("normal", "a"), "normal", point.threshold)
    np.testing.assert_array_equal(decision, truth)
    assert (point.miss.count, point.overkill.count) == (0, 0)


def test_a_stated_prevalence_is_as_if_defects_were_so_common():
    rng = np.random.default_rng(2)
    truth = np.array([0] * 90 + [1] * 6 + [2] * 4)
    probability = softmax(rng.normal(size=(100, 3)) + 1.2 * np.eye(3)[truth])
    repeated = np.concatenate([np.arange(90), np.repeat(np.arange(90, 100), 9)])
    wanted = choose_point(truth[repeated], probability[repeated], NAMES, "normal")
    found = choose_point(truth, probability, NAMES, "normal", prevalence=0.5)
    assert found.threshold == wanted.threshold
    assert found.threshold < choose_point(truth, probability, NAMES, "normal").threshold
    assert found.rule == "highest macro F1 at 50.0 % defective"
    own = choose_point(truth, probability, NAMES, "normal", prevalence=0.1)
    assert own.threshold == choose_point(truth, probability, NAMES, "normal").threshold
    cheap = choose_point(truth, probability, NAMES, "normal", "least-cost", prevalence=1e-6)
    assert cheap.overkill.count == 0
    with pytest.raises(InputError, match=r"--prevalence 1: must be over 0 and under 1"):
        choose_point(truth, probability, NAMES, "normal", prevalence=1.0)


def test_what_goes_to_review_is_neither_missed_nor_rejected():
    truth = np.array([0, 0, 1, 1, 2])
    decision = np.array([0, 0, 0, 0, 2])
    in_review = np.array([False, True, True, False, False])
    found = measure(truth, decision, np.eye(3)[decision], NAMES, "normal", in_review=in_review)
    assert (found.miss.count, found.miss.total) == (1, 3)
    assert found.overkill.count == 0
    assert (found.review.count, found.review.total) == (2, 5)
    assert measure(truth, decision, np.eye(3)[decision], NAMES, "normal").review is None


def test_calibration_of_shares_that_are_frequencies():
    rng = np.random.default_rng(0)
    first = rng.uniform(0.5, 1, 40_000)
    truth = (rng.uniform(size=40_000) > first).astype(int)
    found = measure(truth, np.zeros(40_000, int), np.stack([first, 1 - first], 1), ("x", "y"), None)
    assert found.calibration_error < 0.01
    assert found.miss is None
    sure = measure(truth, np.zeros(40_000, int), np.eye(2)[np.zeros(40_000, int)], ("x", "y"), None)
    assert sure.calibration_error == pytest.approx(0.25, abs=0.01)


def test_rules_of_the_other_rooms_hold_here_too():
    truth, probability = shares(3, 200)
    point = choose_point(truth, probability, NAMES, "normal", "least-miss", target_overkill=0.1)
    assert point.overkill.value <= 0.1
    with pytest.raises(InputError, match="needs defects and normal"):
        choose_point(np.zeros(5, int), probability[:5], NAMES, "normal")
    with pytest.raises(InputError, match="no image"):
        measure(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)), NAMES, None)


def test_the_threshold_moves_only_normal_against_the_rest():
    probability = np.array([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3], [0.9, 0.05, 0.05]])
    assert decided(probability, NAMES, "normal", 0.3).tolist() == [1, 2, 0]
    assert decided(probability, NAMES, "normal", None).tolist() == [0, 0, 0]
    assert decided(probability, NAMES, None, 0.3).tolist() == [0, 0, 0]
