"""Regions, tiles and fits, and maps back in the picture's own pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.data.preparation import Preparation, encode_mask, tile_windows
from anomaly.features.maps import smooth
from inspection.data.images import write_image
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
    prepared = Preparation(size=32, tile=64, overlap=0.3).apply(rgb)
    assert prepared.views.shape[1:] == (32, 32, 3)
    y, x = np.mgrid[0:150, 0:210].astype(np.float32)
    plane = 3 * x - 2 * y
    maps = [plane[top : top + 64, left : left + 64] for left, top in prepared.windows]
    np.testing.assert_allclose(prepared.merge(np.stack(maps)), plane, atol=1e-2)


def test_a_region_of_interest_is_all_that_is_seen():
    rgb = RNG.integers(0, 256, (50, 80, 3), np.uint8)
    prepared = Preparation(size=32, roi=(10, 5, 42, 37)).apply(rgb)
    np.testing.assert_array_equal(prepared.views[0], rgb[5:37, 10:42])
    full = prepared.on_picture(prepared.merge(np.ones((1, 32, 32), np.float32)), outside=-1)
    assert full.shape == (50, 80)
    assert (full[5:37, 10:42] == 1).all()
    assert (full == -1).sum() == full.size - 32 * 32


@pytest.mark.parametrize("size", [(40, 80), (80, 40), (33, 77)])
def test_a_letterbox_border_is_no_part_of_the_map(size):
    prepared = Preparation(size=64, fit="letterbox").apply(np.zeros((*size, 3), np.uint8))
    inside = (prepared.views[0] == 0).all(axis=2).astype(np.float32)
    assert 0 < inside.mean() < 1
    assert prepared.merge(inside[None]).min() == 1
    assert prepared.on_picture(prepared.merge(inside[None])).shape == size


def test_bad_regions_and_tiles_are_named():
    rgb = np.zeros((50, 80, 3), np.uint8)
    with pytest.raises(InputError, match=r"part\.png: the region of interest 0, 0, 81, 50"):
        Preparation(roi=(0, 0, 81, 50)).apply(rgb, "part.png")
    with pytest.raises(InputError, match="at most 50"):
        Preparation(tile=60).apply(rgb)


def test_it_travels_as_plain_values():
    wanted = Preparation(128, "letterbox", 12, (1, 2, 30, 40), 20, 0.5)
    assert Preparation.from_dict(wanted.to_dict()) == wanted


@pytest.fixture
def left_half(tmp_path) -> str:
    mask = np.zeros((64, 96, 3), np.uint8)
    mask[:, :48] = 255
    write_image(tmp_path / "mask.png", mask)
    return encode_mask(tmp_path / "mask.png")


def test_cells_that_count_lie_on_the_region_and_in_the_mask(left_half):
    rgb = RNG.integers(0, 256, (64, 96, 3), np.uint8)
    whole = Preparation(size=32, roi_mask=left_half).apply(rgb).counted((8, 8))
    np.testing.assert_array_equal(whole[0], np.arange(8)[None, :].repeat(8, 0) < 4)
    boxed = Preparation(size=48, fit="letterbox", roi_mask=left_half).apply(rgb).counted((12, 12))
    wanted = np.zeros((12, 12), bool)
    wanted[2:10, :6] = True  # 8 pixels of border above and below
    np.testing.assert_array_equal(boxed[0], wanted)
    tiles = Preparation(size=32, tile=32, overlap=0, roi_mask=left_half).apply(rgb)
    assert [one.mean() for one in tiles.counted((8, 8))] == [1, 0.5, 0, 1, 0.5, 0]
    assert Preparation(size=32).apply(rgb).counted((8, 8)).all()


def test_a_masked_cell_lends_nothing_to_its_neighbours():
    counted = np.ones((1, 16, 16), bool)
    counted[:, :, 8:] = False
    maps = np.where(counted, np.float32(1), np.float32(1000))
    found = smooth(maps, 64, counted)
    np.testing.assert_allclose(found[counted], 1, rtol=1e-5)
    assert found.max() == pytest.approx(1)
