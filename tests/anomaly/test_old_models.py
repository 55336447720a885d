"""Models that were stored before scores changed decide as they did; see `old_models/make.py`."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import anomaly
from anomaly.export.write import export
from inspection.data.images import write_image
from inspection.errors import InputError
from inspection.finite import NotFinite

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


def test_a_stored_array_that_is_not_finite_is_refused(tmp_path):
    with zipfile.ZipFile(FOLDER / "cs-flow.anomaly") as file:
        members = {name: file.read(name) for name in file.namelist()}
    arrays = dict(np.load(io.BytesIO(members["arrays.npz"])))
    arrays["deviation_0"][:] = np.inf  # what is divided by it is 0, and looked normal
    content = io.BytesIO()
    np.savez(content, **arrays)
    damaged = tmp_path / "damaged.anomaly"
    with zipfile.ZipFile(damaged, "w") as file:
        for name, member in (members | {"arrays.npz": content.getvalue()}).items():
            file.writestr(name, member)
    with pytest.raises(InputError, match=r"deviation_0.* not finite"):
        anomaly.load(damaged)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_an_exported_weight_that_is_not_finite_is_refused(suffix, tmp_path):
    write_image(tmp_path / "part.png", image(20))
    model = anomaly.load(FOLDER / "patchcore.anomaly")
    path = tmp_path / f"good{suffix}"
    export(model, path, [tmp_path / "part.png"])
    weights = np.asarray(model.method.state().networks["backbone"].weights[0])
    file = path if suffix == ".onnx" else path.with_suffix(".bin")
    stored = np.ascontiguousarray(weights.transpose(3, 2, 0, 1), "<f4").tobytes()
    content = file.read_bytes()
    assert stored in content
    file.write_bytes(content.replace(stored, np.full(weights.size, np.nan, "<f4").tobytes()))
    # Its ReLU would make 0 of it, and OK of every part.
    with pytest.raises(NotFinite, match=r"good.* not finite"):
        anomaly.load(path)
