"""Models that were stored before scores changed decide as they did; see `old_models/make.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import anomaly

FOLDER = Path(__file__).parent / "old_models"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


def image(seed: int) -> np.ndarray:
    """As `old_models/make.py` drew it."""
    noise = np.random.default_rng(seed).integers(-9, 10, (32, 32))
    grey = 90 + 2 * np.arange(32) + noise
    if seed % 2 == 0:
        grey[12:18, 14:20] = 20
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("method", EXPECTED)
def test_an_old_model_decides_as_it_did(method, tmp_path):
    model = anomaly.load(FOLDER / f"{method}.anomaly")
    model.save(tmp_path / "again.anomaly")
    for one in (model, anomaly.load(tmp_path / "again.anomaly")):
        found = [one.predict(image(seed)) for seed in range(20, 26)]
        expected = EXPECTED[method]
        assert [finding.decision for finding in found] == expected["decisions"]
        scores = [finding.score for finding in found]
        np.testing.assert_allclose(scores, expected["scores"], rtol=1e-4)
        means = [finding.score_map.mean() for finding in found]
        np.testing.assert_allclose(means, expected["map_mean"], rtol=1e-4)
