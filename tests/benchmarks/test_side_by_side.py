"""What a benchmark says of its ratios."""

from __future__ import annotations

import pytest

from benchmarks.side_by_side import Bar, Figures


def figures(seconds: list[float], cpu: list[float]) -> Figures:
    return Figures(seconds, cpu)


OURS = figures([4.0, 4.0, 4.0], [8.0, 8.0, 8.0])


@pytest.mark.parametrize(
    ("slow", "verdict"),
    [([80, 84, 90], "met"), ([40, 42, 44], "MISSED"), ([46, 75.2, 91.6], "met in 1 of 3 rounds")],
)
def test_a_bar_gives_its_range_and_the_ratio_of_cpu_seconds(slow, verdict):
    stock = figures(slow, [80.0, 88.0, 96.0])
    line = Bar("speed", "stock", "ours", 20).line({"stock": stock, "ours": OURS})
    low, middle, high = (value / 4 for value in slow)
    assert f"min/median/max {low:.2f}/{middle:.2f}/{high:.2f}x" in line
    assert "in CPU seconds 10.00/11.00/12.00x" in line
    assert line.endswith(f": {verdict}")


def test_a_bar_that_must_not_be_exceeded():
    bar = Bar("overhead", "file", "bare", 1.15, at_most=True)
    assert bar.line({"file": OURS, "bare": OURS}).endswith(": met")
    slow = figures([5.0], [8.0])
    assert bar.line({"file": slow, "bare": OURS}).endswith(": MISSED")
    assert bar.line({"file": Figures(), "bare": OURS}).endswith("not measured")
