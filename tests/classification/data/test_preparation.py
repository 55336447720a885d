"""What the network sees, and the way back to the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classification.data.preparation import Preparation, equalise, flatten_light, foreground
from inspection.errors import InputError


@settings(max_examples=60)
@given(
    st.integers(20, 90),
    st.integers(20, 90),
    st.sampled_from(["stretch", "letterbox"]),
    st.booleans(),
    st.data(),
)
def test_a_place_in_the_picture_comes_back_to_itself(width, height, fit, cut, data):
    """A bright spot of the picture, looked at and mapped back, lies where it was."""
    roi = (width // 5, height // 5, width - 2, height - 3) if cut else None
    x1, y1, x2, y2 = roi or (0, 0, width, height)
    x = data.draw(st.integers(x1 + 3, x2 - 4))
    y = data.draw(st.integers(y1 + 3, y2 - 4))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    view = Preparation(64, fit, roi=roi)(picture)
    seen = view.rgb.astype(float).mean(axis=2) * (view.rgb.mean(axis=2) != 114)
    back = view.to_source(seen)
    assert back.shape == (height, width)
    rows, columns = np.mgrid[:height, :width]
    assert abs((back * columns).sum() / back.sum() - x) < 2
    assert abs((back * rows).sum() / back.sum() - y) < 2
    outside = np.ones((height, width), bool)
    outside[y1:y2, x1:x2] = False
    assert not back[outside].any()


def test_a_mask_is_seen_where_the_picture_is():
    picture = np.zeros((40, 80, 3), np.uint8)
    mask = np.zeros((40, 80), bool)
    mask[10:20, 50:60] = True
    picture[mask] = 200
    for fit in ("stretch", "letterbox"):
        view = Preparation(64, fit)(picture)
        seen = view.of_mask(mask)
        bright = view.rgb[..., 0] > 150
        assert (seen & bright).sum() > 0.8 * (seen | bright).sum()


def test_flat_light_takes_out_a_slope_and_leaves_a_scratch():
    x = np.linspace(60, 200, 120, dtype=np.float32)
    picture = np.repeat(np.tile(x, (80, 1))[..., None], 3, axis=2).astype(np.uint8)
    picture[40:42, 50:70] -= 40
    flat = flatten_light(picture).astype(float)
    assert np.ptp(flat[10, 10:-10, 0]) < 0.3 * np.ptp(picture[10, 10:-10, 0].astype(float))
    assert flat[40, 60, 0] < flat[30, 60, 0] - 20


def test_the_foreground_is_the_part_with_its_holes():
    picture = np.full((60, 90, 3), 20, np.uint8)
    picture[15:45, 20:70] = 180
    picture[25:30, 40:45] = 20
    found = foreground(picture)
    wanted = np.zeros((60, 90), bool)
    wanted[15:45, 20:70] = True
    assert (found != wanted).mean() < 0.03
    assert foreground(np.full((30, 30, 3), 99, np.uint8)).all()
    grey = Preparation(60, background=True)(picture).rgb
    assert (grey[:5] == 114).all()


def test_equalised_contrast_grows_and_colour_stays():
    rng = np.random.default_rng(0)
    picture = rng.integers(100, 120, (64, 64, 3)).astype(np.uint8)
    assert equalise(picture, 4.0).std() > 1.3 * picture.std()


def test_a_region_outside_the_picture_is_refused():
    with pytest.raises(InputError, match=r"has 30 x 20 pixels, and the region of interest 0,0,40"):
        Preparation(32, roi=(0, 0, 40, 10))(np.zeros((20, 30, 3), np.uint8))


def test_preparation_travels_as_json():
    one = Preparation(96, "letterbox", 12, (1, 2, 30, 40), True, 2.5, True)
    assert Preparation.from_dict(one.to_dict()) == one
