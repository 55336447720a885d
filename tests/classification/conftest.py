"""A small drawn set, and one trained run that tests copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from inspection.data.images import write_image

SIZE = 48
KINDS = ("normal", "dot", "긁힘")


def draw(kind: str, seed: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A noisy grey image with a bright square, a dark bar or nothing, and the defect's mask."""
    rng = np.random.default_rng([seed, len(kind)])
    image = rng.normal(120, 6, (size, size)).astype(np.float32)
    mask = np.zeros((size, size), bool)
    y, x = (int(v) for v in rng.integers(4, size - 20, 2))
    if kind == "dot":
        mask[y : y + 12, x : x + 12] = True
        image[mask] = 230
    elif kind == "긁힘":
        mask[y : y + 6, x : x + 18] = True
        image[mask] = 20
    grey = np.clip(image, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), mask


def write_set(root: Path, counts=(12, 8, 8)) -> Path:
    """Folder per class with masks; returns the root."""
    for kind, count in zip(KINDS, counts, strict=True):
        for number in range(count):
            image, mask = draw(kind, number)
            write_image(root / kind / f"{kind}_{number:02d}.png", image)
            if mask.any():
                shown = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
                write_image(root / "masks" / kind / f"{kind}_{number:02d}.png", shown)
    return root


@pytest.fixture(scope="session")
def shared_set(tmp_path_factory) -> Path:
    """Not to be changed."""
    return write_set(tmp_path_factory.mktemp("자료") / "parts")


@pytest.fixture
def labelled(shared_set, tmp_path) -> Path:
    """A copy to change."""
    return shutil.copytree(shared_set, tmp_path / "자료" / "parts")


@pytest.fixture(scope="session")
def shared_run(shared_set, tmp_path_factory) -> Path:
    """A trained run; not to be changed."""
    from classification.settings import ClassificationSettings
    from classification.training.loop import train

    runs = tmp_path_factory.mktemp("runs")
    return train(
        settings_of(ClassificationSettings, shared_set, runs, epochs=8, steps=8), say=quiet
    )


@pytest.fixture
def run(shared_run, tmp_path) -> Path:
    """A copy of the trained run, with its split."""
    shutil.copytree(shared_run.parent, tmp_path / "runs")
    return tmp_path / "runs" / shared_run.name


def settings_of(kind, data: Path, runs: Path, **options):
    """Settings of the smallest useful training."""
    small = {
        "model": "resnet18-small",
        "weights": "none",
        "size": SIZE,
        "batch_size": 8,
        "epochs": 2,
        "name": "run",
        "aug": "flip",
        "lr": 2e-3,
        "fractions": (0.6, 0.2, 0.2),
    }
    return kind(data=data, runs=runs, **{**small, **options})


def quiet(_text: str) -> None:
    """Says nothing."""
