"""Regions, masks, tiles and fits, and the way back to the image's own pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inspection.data.enhance import equalise
from inspection.data.images import write_image
from inspection.data.masks import encode_mask
from inspection.data.preparation import Preparation, tile_windows
from inspection.errors import InputError

RNG = np.random.default_rng(0)


@given(
    st.integers(40, 300),
    st.integers(40, 300),
    st.integers(8, 40),
    st.floats(0, 0.9),
)
def test_tiles_cover_everything_and_overlap_as_asked(width, height, tile, overlap):
    windows = tile_windows(width, height, tile, overlap)
    covered = np.zeros((height, width), int)
    for left, top in windows:
        assert 0 <= left <= width - tile
        assert 0 <= top <= height - tile
        covered[top : top + tile, left : left + tile] += 1
    assert covered.min() >= 1
    for axis in (0, 1):
        starts = np.unique([window[axis] for window in windows])
        assert (np.diff(starts) <= max(1, tile * (1 - overlap)) + 1).all()


def test_blended_tiles_show_no_seam():
    """A map that is a plane comes back as that plane, since every tile knows it exactly."""
    rgb = np.zeros((150, 210, 3), np.uint8)
    prepared = Preparation(size=32, tile=64, overlap=0.3)(rgb)
    assert prepared.views.shape[1:] == (32, 32, 3)
    y, x = np.mgrid[0:150, 0:210].astype(np.float32)
    plane = 3 * x - 2 * y
    maps = [plane[top : top + 64, left : left + 64] for left, top in prepared.windows]
    np.testing.assert_allclose(prepared.merge(np.stack(maps)), plane, atol=1e-2)


def test_a_region_of_interest_is_all_that_is_seen():
    rgb = RNG.integers(0, 256, (50, 80, 3), np.uint8)
    prepared = Preparation(size=32, roi=(10, 5, 42, 37))(rgb)
    np.testing.assert_array_equal(prepared.views[0], rgb[5:37, 10:42])
    full = prepared.on_image(prepared.merge(np.ones((1, 32, 32), np.float32)), outside=-1)
    assert full.shape == (50, 80)
    assert (full[5:37, 10:42] == 1).all()
    assert (full == -1).sum() == full.size - 32 * 32


@pytest.mark.parametrize("size", [(40, 80), (80, 40), (33, 77)])
def test_a_letterbox_border_is_no_part_of_the_map(size):
    prepared = Preparation(size=64, fit="letterbox")(np.zeros((*size, 3), np.uint8))
    inside = (prepared.views[0] == 0).all(axis=2).astype(np.float32)
    assert 0 < inside.mean() < 1
    assert prepared.merge(inside[None]).min() == 1
    assert prepared.on_image(prepared.merge(inside[None])).shape == size


def test_bad_regions_and_tiles_are_named():
    rgb = np.zeros((50, 80, 3), np.uint8)
    with pytest.raises(InputError, match=r"part\.png: the region of interest 0,0,81,50"):
        Preparation(256, roi=(0, 0, 81, 50))(rgb, "part.png")
    with pytest.raises(InputError, match="at most 50"):
        Preparation(256, tile=60)(rgb)


@pytest.mark.parametrize(
    "wanted",
    [
        Preparation(128, "letterbox", 12, (1, 2, 30, 40), tile=20, overlap=0.5),
        Preparation(96, background=True, clahe=2.5, flatten=True),
        Preparation(224),
    ],
)
def test_it_travels_as_json(wanted):
    assert Preparation.from_dict(json.loads(json.dumps(wanted.to_dict()))) == wanted


def test_what_either_room_stored_before_is_read():
    ours = {"size": 64, "fit": "stretch", "bits": 16, "roi": [1, 2, 30, 40]}
    classifier = ours | {"background": True, "clahe": 0.0, "flatten": False}
    assert Preparation.from_dict(classifier) == Preparation(64, roi=(1, 2, 30, 40), background=True)
    product = ours | {"tile": 32, "overlap": 0.25, "roi_mask": None, "channels": 1}
    assert Preparation.from_dict(product) == Preparation(
        64, roi=(1, 2, 30, 40), tile=32, channels=1
    )


def test_features_that_were_kept_before_are_found():
    before = (
        "Preparation(size=64, fit='stretch', bits=16, roi=None, tile=None, overlap=0.25, "
        "roi_mask=None, channels=None)"
    )
    assert repr(Preparation(64)) == before
    assert repr(Preparation(64, flatten=True)) != before


@pytest.mark.parametrize(
    "values",
    [
        {"size": 7},
        {"bits": 17},
        {"fit": "crop"},
        {"overlap": 1.0},
        {"clahe": float("nan")},
        {"roi_mask": "AAAA"},
        {"unknown": 1},
    ],
)
def test_what_no_training_writes_is_refused(values):
    with pytest.raises(ValidationError):
        Preparation.from_dict({"size": 64, **values})


def test_light_is_evened_before_tiles_and_masks(left_half):
    rgb = RNG.integers(0, 256, (64, 96, 3), np.uint8)
    seen = Preparation(32, tile=32, overlap=0, roi_mask=left_half, clahe=2.0)(rgb)
    np.testing.assert_array_equal(seen.views[0], equalise(rgb, 2.0)[:32, :32])
    assert not seen.views[2].any()


@pytest.fixture
def left_half(tmp_path) -> str:
    mask = np.zeros((64, 96, 3), np.uint8)
    mask[:, :48] = 255
    write_image(tmp_path / "mask.png", mask)
    return encode_mask(tmp_path / "mask.png")


def test_cells_that_count_lie_on_the_region_and_in_the_mask(left_half):
    rgb = RNG.integers(0, 256, (64, 96, 3), np.uint8)
    whole = Preparation(size=32, roi_mask=left_half)(rgb).counted((8, 8))
    np.testing.assert_array_equal(whole[0], np.arange(8)[None, :].repeat(8, 0) < 4)
    boxed = Preparation(size=48, fit="letterbox", roi_mask=left_half)(rgb).counted((12, 12))
    wanted = np.zeros((12, 12), bool)
    wanted[2:10, :6] = True  # 8 pixels of border above and below
    np.testing.assert_array_equal(boxed[0], wanted)
    tiles = Preparation(size=32, tile=32, overlap=0, roi_mask=left_half)(rgb)
    assert [one.mean() for one in tiles.counted((8, 8))] == [1, 0.5, 0, 1, 0.5, 0]
    assert Preparation(size=32)(rgb).counted((8, 8)).all()


@settings(max_examples=60)
@given(
    st.integers(20, 90),
    st.integers(20, 90),
    st.sampled_from(["stretch", "letterbox"]),
    st.booleans(),
    st.data(),
)
def test_a_place_in_the_image_comes_back_to_itself(width, height, fit, cut, data):
    """A bright spot of the image, looked at and mapped back, lies where it was."""
    roi = (width // 5, height // 5, width - 2, height - 3) if cut else None
    x1, y1, x2, y2 = roi or (0, 0, width, height)
    x = data.draw(st.integers(x1 + 3, x2 - 4))
    y = data.draw(st.integers(y1 + 3, y2 - 4))
    image = np.zeros((height, width, 3), np.uint8)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    view = Preparation(64, fit, roi=roi)(image)
    seen = view.rgb.astype(float).mean(axis=2) * (view.rgb.mean(axis=2) != 114)
    back = view.to_source(seen)
    assert back.shape == (height, width)
    rows, columns = np.mgrid[:height, :width]
    assert abs((back * columns).sum() / back.sum() - x) < 2
    assert abs((back * rows).sum() / back.sum() - y) < 2
    outside = np.ones((height, width), bool)
    outside[y1:y2, x1:x2] = False
    assert not back[outside].any()


def test_a_mask_is_seen_where_the_image_is():
    image = np.zeros((40, 80, 3), np.uint8)
    mask = np.zeros((40, 80), bool)
    mask[10:20, 50:60] = True
    image[mask] = 200
    for fit in ("stretch", "letterbox"):
        view = Preparation(64, fit)(image)
        seen = view.mask_seen(mask)
        bright = view.rgb[..., 0] > 150
        assert (seen & bright).sum() > 0.8 * (seen | bright).sum()
