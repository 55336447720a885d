"""What the tests of several rooms share: quiet libraries and a small labelled set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Before anything imports TensorFlow or albumentations.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# The same CPU kernels here as in the processes that the tests start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import hypothesis
import numpy as np
import pytest

from tests.journeys.browser import CHROMIUM, DRIVER

# A busy machine must not turn a slow example into a failure.
hypothesis.settings.register_profile("inspection", deadline=None, print_blob=True)
hypothesis.settings.load_profile("inspection")

CLASSES = ("dot", "긁힘")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked `browser` is skipped where there is none."""
    if item.get_closest_marker("browser") and not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed (see packages-debian.txt)")


@dataclass(frozen=True)
class SmallSet:
    """A labelled set on disk, as a user would have it.

    Args:
        annotations: Folder of labelImg XML files and `split.csv`.
        images: Folder of the images.
        snapshots: Empty folder for runs.
    """

    annotations: Path
    images: Path
    snapshots: Path


def draw_image(seed: int, size: int = 96, normal: bool = False):
    """A noisy grey image with one bright square and one dark bar, and their boxes.

    Returns:
        (size, size, 3) uint8, (N, 4) float32 boxes, N class names.
    """
    rng = np.random.default_rng(seed)
    image = rng.normal(120, 4, (size, size, 1)).repeat(3, axis=2)
    boxes: list[tuple[int, int, int, int]] = []
    names: list[str] = []
    if not normal:
        half = size // 2
        for number, name in enumerate(CLASSES):
            width, height = (20, 20) if name == "dot" else (36, 14)
            x = int(rng.integers(2, size - width - 2))
            y = int(rng.integers(0, half - height)) + number * half
            image[y : y + height, x : x + width] = 230 if name == "dot" else 20
            boxes.append((x, y, x + width, y + height))
            names.append(name)
    return (
        np.clip(image, 0, 255).astype(np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        tuple(names),
    )


def write_small_set(
    root: Path, train: int = 8, val: int = 2, size: int = 96, repeat_val: bool = False
) -> SmallSet:
    """Writes images, XML and split; every fourth training image is normal.

    Args:
        root: A folder, made where missing.
        train: Training images.
        val: Validation images; one normal image for the test part is added.
        size: Side of the images in pixels.
        repeat_val: Draws the validation images like the first training images, so that a
            model that overfits them shows it in the validation's mAP.
    """
    from inspection.data.images import write_image
    from inspection.data.voc import write_voc

    folders = SmallSet(root / "annotations", root / "images", root / "snapshots")
    for folder in (folders.annotations, folders.images, folders.snapshots):
        folder.mkdir(parents=True, exist_ok=True)
    lines = ["image,group,part"]
    parts = ["train"] * train + ["val"] * val + ["test"]
    for number, part in enumerate(parts):
        normal = part == "test" or (part == "train" and number % 4 == 3 and not repeat_val)
        seed = number - train if repeat_val and part == "val" else number
        image, boxes, names = draw_image(seed, size, normal)
        file = f"{part}_{number:02d}.png"
        write_image(folders.images / file, image)
        write_voc(
            folders.annotations / f"{part}_{number:02d}.xml",
            file,
            (size, size, 3),
            boxes,
            names,
        )
        lines.append(f"{file},{file},{part}")
    (folders.annotations / "split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folders


@pytest.fixture
def small_set(tmp_path: Path) -> SmallSet:
    """Eight training images (two normal), two for validation, one normal for test."""
    return write_small_set(tmp_path / "자료")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Refuses every connection and lists what was tried."""
    import socket

    tried: list[str] = []

    def refuse(*arguments, **_options):
        tried.append(repr(arguments[-1:]))
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried
