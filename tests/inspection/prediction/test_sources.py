"""Which images a prediction takes."""

from __future__ import annotations

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
