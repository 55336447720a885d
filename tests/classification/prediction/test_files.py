"""What classification adds to a prediction."""

from __future__ import annotations

import pytest

from classification.prediction.files import LabelLine


def test_a_class_is_a_decision_where_none_is_of_good_parts():
    def line(**values):
        return LabelLine(image="0", file="/0", stem="0", state=[], **values)

    assert line(decision="dot", label="dot", probability={"dot": 1.0}).done
    with pytest.raises(ValueError, match="no image is OK"):
        line(decision="OK", label="dot", probability={"dot": 1.0})
