"""Which images a prediction takes."""

from __future__ import annotations

import pytest

from inspection.prediction.journal import RECORD
from inspection.prediction.sources import images_of, list_given


def test_masks_below_a_folder_are_left_out_and_counted_unless_they_are_given(tmp_path):
    for name in ("a.png", "crack/b.png", "masks/crack/b.png", "ground_truth/c_mask.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    problems: list[str] = []
    notes: list[str] = []
    listed = list_given([tmp_path], [], problems, notes, images_of)
    assert [name for _, name in listed] == ["a.png", "crack/b.png"]
    assert notes == ["Note: 2 images in folders of masks left out."]
    (mask,) = list_given([tmp_path / "masks"], [], problems, notes, images_of)
    assert mask == (tmp_path / "masks/crack/b.png", "crack/b.png")
    assert len(notes) == 1
    assert not problems


@pytest.mark.parametrize("place", ["results", "."])
def test_what_another_prediction_drew_is_left_out_and_counted_unless_it_is_given(tmp_path, place):
    results = tmp_path / place
    for path in (
        tmp_path / "a.png",
        tmp_path / "overlays/b.png" if place != "." else tmp_path / "b.png",
        results / RECORD,
        results / "heat_maps/a.jpg",
        results / "overlays/crack/a.jpg",
        results / "fresh.png",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    problems: list[str] = []
    notes: list[str] = []
    own = [tmp_path / "results2/overlays"]
    listed = list_given([tmp_path], own, problems, notes, images_of)
    assert {path.name for path, _ in listed} == {"a.png", "b.png", "fresh.png"}
    assert notes == ["Note: 2 images that predictions drew left out."]
    given = list_given([results / "overlays"], own, problems, notes, images_of)
    assert (results / "overlays/crack/a.jpg", "crack/a.jpg") in given
    assert len(notes) == 1
    assert not problems
