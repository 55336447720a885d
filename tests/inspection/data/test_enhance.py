"""Even light, contrast, and the part without its background."""

from __future__ import annotations

import numpy as np

from inspection.data.enhance import equalise, flatten_light, foreground
from inspection.data.preparation import Preparation


def test_flat_light_takes_out_a_slope_and_leaves_a_scratch():
    x = np.linspace(60, 200, 120, dtype=np.float32)
    image = np.repeat(np.tile(x, (80, 1))[..., None], 3, axis=2).astype(np.uint8)
    image[40:42, 50:70] -= 40
    flat = flatten_light(image).astype(float)
    assert np.ptp(flat[10, 10:-10, 0]) < 0.3 * np.ptp(image[10, 10:-10, 0].astype(float))
    assert flat[40, 60, 0] < flat[30, 60, 0] - 20


def test_the_foreground_is_the_part_with_its_holes():
    image = np.full((60, 90, 3), 20, np.uint8)
    image[15:45, 20:70] = 180
    image[25:30, 40:45] = 20
    found = foreground(image)
    wanted = np.zeros((60, 90), bool)
    wanted[15:45, 20:70] = True
    assert (found != wanted).mean() < 0.03
    assert foreground(np.full((30, 30, 3), 99, np.uint8)).all()
    grey = Preparation(60, background=True)(image).rgb
    assert (grey[:5] == 114).all()


def test_equalised_contrast_grows_and_colour_stays():
    rng = np.random.default_rng(0)
    image = rng.integers(100, 120, (64, 64, 3)).astype(np.uint8)
    assert equalise(image, 4.0).std() > 1.3 * image.std()
