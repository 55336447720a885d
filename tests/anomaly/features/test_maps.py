"""Smoothed maps of scores."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.features.maps import smooth


def test_a_masked_cell_lends_nothing_to_its_neighbours():
    counted = np.ones((1, 16, 16), bool)
    counted[:, :, 8:] = False
    maps = np.where(counted, np.float32(1), np.float32(1000))
    found = smooth(maps, 64, counted)
    np.testing.assert_allclose(found[counted], 1, rtol=1e-5)
    assert found.max() == pytest.approx(1)
