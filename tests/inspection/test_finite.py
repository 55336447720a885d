"""What is no finite number is refused by name, and never decided as OK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inspection.decisions.operating_point import fixed_threshold
from inspection.errors import InputError
from inspection.finite import NotFinite, check_finite, names_file
from inspection.prediction.detections import Detections

BAD = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])


@BAD
def test_the_array_and_the_number_of_values_are_named(value):
    check_finite(scores=np.zeros((0, 3)), logits=1.0)
    with pytest.raises(NotFinite, match=r"1 of 6 map values .* not finite numbers"):
        check_finite(logits=np.ones(3), map_values=np.array([[1, 2, value], [0, 0, 0]]))
    image = Path("부품.png")
    with pytest.raises(InputError, match=r"^부품\.png: 1 of 1 logits"), names_file(image):
        check_finite(logits=value)
    with pytest.raises(NotFinite, match=r"^1 of 1"), names_file(np.zeros((2, 2, 3))):
        check_finite(logits=value)


@BAD
def test_no_operating_point_decides_on_it(value):
    point = fixed_threshold(0.5)
    with pytest.raises(NotFinite):
        point.decide(value)
    with pytest.raises(NotFinite):
        point.is_defect(np.array([0.1, value]))


@BAD
def test_no_detection_holds_it(value):
    with pytest.raises(NotFinite, match="scores"):
        Detections([[0, 0, 4, 4]], [value], ("dot",))
    with pytest.raises(NotFinite, match="edges"):
        Detections([[0, 0, 4, value]], [0.5], ("dot",))
