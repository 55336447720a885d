"""Exact intervals, their text, and the sample-size planner."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from inspection.decisions.rates import (
    Rate,
    escape_ppm,
    grouped_interval,
    images_needed,
    more_needed,
    percent,
    support_note,
)

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_interval_is_clopper_pearson(case):
    count, total = case
    expected = binomtest(count, total).proportion_ci(0.95, "exact")
    assert Rate(count, total).interval == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(counts)
def test_upper_bound_is_the_one_sided_one(case):
    count, total = case
    upper = Rate(count, total).upper
    if count == total:
        assert upper == 1.0
    else:
        assert binom.cdf(count, total, upper) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(("total", "bound"), [(30, 0.095), (100, 0.0295), (300, 0.0099)])
def test_zero_misses_have_the_design_pages_bounds(total, bound):
    assert Rate(0, total).upper == pytest.approx(bound, abs=0.00006)


@given(counts)
def test_text_never_claims_a_bare_zero(case):
    text = str(Rate(*case, of="defective images"))
    head = text.split(": ", 1)[1]
    assert not re.match(r"0(\.0+)? %", head)
    if case[0] < case[1]:
        assert not re.match(r"100(\.0+)? %", head)


@given(st.floats(1e-9, 1 - 1e-9))
def test_percent_rounds_to_neither_end(share):
    assert 0 < float(percent(share).removesuffix(" %")) < 100


def test_rate_without_a_sample_is_not_measurable():
    rate = Rate(0, 0, "normal images")
    assert str(rate) == "not measurable (0 normal images)"
    assert math.isnan(rate.value)
    assert rate.interval == (0.0, 1.0)
    assert rate.to_dict()["value"] is None


def test_text_of_counted_rates():
    assert str(Rate(0, 30, "defective images")) == (
        "0 of 30 defective images: at most 9.50 % (one-sided 95 %)"
    )
    assert str(Rate(2, 300, "images")).startswith("2 of 300 images: 0.67 % (95 %: 0.08")


def test_rate_refuses_impossible_counts():
    with pytest.raises(ValueError, match="3 of 2"):
        Rate(3, 2)


def test_planner_knows_the_design_pages_598():
    assert images_needed(0.005) == 598


@given(st.floats(0.001, 0.5), st.integers(0, 20))
def test_planner_returns_the_smallest_sample(target, misses):
    needed = images_needed(target, misses)
    assert Rate(misses, needed).upper <= target
    if needed > misses + 1:
        assert Rate(misses, needed - 1).upper > target


def test_more_needed_counts_what_is_there():
    assert more_needed(Rate(0, 100), 0.005) == 498
    assert more_needed(Rate(0, 598), 0.005) == 0


def test_support_note_says_how_many_it_takes():
    note = support_note(Rate(0, 100, "defective images"), 0.005, "miss rate")
    assert "598" in note
    assert "498 more" in note
    assert support_note(Rate(0, 598), 0.005, "miss rate") == ""
    assert "598" in support_note(Rate(0, 0, "defective images"), 0.005, "miss rate")


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0])
def test_planner_refuses_impossible_targets(target):
    with pytest.raises(ValueError, match="between 0 and 1"):
        images_needed(target)


def test_escapes_per_million():
    estimate, bound = escape_ppm(Rate(1, 100), 0.01)
    assert estimate == pytest.approx(100)
    assert bound > estimate


def test_groups_widen_the_interval_and_keep_the_seed():
    rng = np.random.default_rng(0)
    wrong = np.repeat(rng.random(30) < 0.2, 5)
    group = np.repeat([f"part {index}" for index in range(30)], 5)
    low, high = grouped_interval(wrong, group)
    exact_low, exact_high = Rate(int(wrong.sum()), wrong.size).interval
    assert low < exact_low
    assert high > exact_high
    assert (low, high) == grouped_interval(wrong, group)


def test_groups_without_an_error_count_as_one_each():
    group = np.repeat([f"part {index}" for index in range(30)], 5)
    assert grouped_interval(np.zeros(150, bool), group) == Rate(0, 30).interval
    assert grouped_interval(np.ones(150, bool), group) == Rate(30, 30).interval
