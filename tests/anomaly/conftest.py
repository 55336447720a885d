"""A small product: bright tiles with stripes; its defects are dark spots and scratches."""

from __future__ import annotations

from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from anomaly.cli import app
from inspection.data.images import write_image


def tile(rng: np.random.Generator, side: int = 64) -> np.ndarray:
    stripes = 120 + 12 * np.sin(np.arange(side) / 3 + rng.uniform(0, 6))
    grey = np.tile(stripes, (side, 1)) + rng.normal(0, 4, (side, side))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def spoiled(rgb: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros(rgb.shape[:2], np.uint8)
    centre = tuple(int(value) for value in rng.integers(12, rgb.shape[0] - 12, 2))
    cv2.circle(mask, centre, 6, 255, -1)
    return np.where(mask[..., None] > 0, np.uint8(50), rgb), mask


def small_backbone() -> keras.Model:
    """A random network whose stages `out0` to `out2` have strides 2 to 8."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(image)
    for index, width in enumerate([16, 24, 32]):
        x = keras.layers.Conv2D(width, 5, strides=2, padding="same", name=f"conv{index}")(x)
        x = keras.layers.ReLU(name=f"out{index}")(x)
    return keras.Model(image, x)


def make_product(root: Path, normals: int = 12, defects: int = 6, side: int = 64) -> Path:
    rng = np.random.default_rng(0)
    for index in range(normals):
        write_image(root / f"normal/{index:02d}.png", tile(rng, side))
    for index in range(defects):
        rgb, mask = spoiled(tile(rng, side), rng)
        write_image(root / f"얼룩/{index:02d}.png", rgb)
        write_image(root / f"masks/얼룩/{index:02d}.png", np.repeat(mask[..., None], 3, axis=2))
    return root


@pytest.fixture
def product(tmp_path) -> Path:
    return make_product(tmp_path / "제품")


@pytest.fixture(scope="session")
def shared_product(tmp_path_factory) -> Path:
    """Read only."""
    return make_product(tmp_path_factory.mktemp("제품"), normals=20, defects=10)


SMALL = ["--size", "64", "--pretrain-steps", "4", "--fractions", "0.5,0.25,0.25"]


def typed(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.fixture(scope="session")
def runs(shared_product, tmp_path_factory) -> Path:
    """Both methods on one product, measured; the second finds split, backbone and features.

    What writes into a run copies it first.
    """
    folder = tmp_path_factory.mktemp("결과")
    for method, config in (("patchcore", "ratio: 0.1"), ("cs-flow", "epochs: 2")):
        settings = folder / f"{method}.yaml"
        settings.write_text(f"options:\n  {config}\n", encoding="utf-8")
        status, text = typed(
            *("train", shared_product, "--method", method, "--runs", folder, "--run", method),
            *("--config", settings, *SMALL),
        )
        assert status == 0, text
        assert "Threshold" in text
        status, text_measured = typed("evaluate", folder / method)
        assert status == 0, text_measured
        assert all(word in text_measured for word in ("miss", "overkill", "AUROC", "AUPRO", "p95"))
    assert "Backbone trained before on these images" in text
    return folder
