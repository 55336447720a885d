"""Folders, MVTec's layout and CSV as one list of images; everything wrong is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly.data.images import NORMAL, open_images
from inspection.data.images import write_image
from inspection.data.masks import read_mask
from inspection.data.split import PARTS
from inspection.errors import InputError


def grey(path, value, side=(64, 64)):
    write_image(path, np.full((*side, 3), value, np.uint8))


def test_a_folder_is_enough(product):
    found = open_images(product)
    assert found.kinds == {NORMAL: 12, "얼룩": 6}
    assert all(item.parts == frozenset(PARTS) for item in found.items if not item.is_defect)
    assert all("train" not in item.parts for item in found.items if item.is_defect)
    spots = [item for item in found.items if item.is_defect]
    assert all(item.read_mask().any() for item in spots)
    assert not found.items[0].read_mask().any()


def test_normal_alone_and_good_for_normal(product, tmp_path):
    shutil.copytree(product / "normal", tmp_path / "alone/good")
    found = open_images(tmp_path / "alone")
    assert found.kinds == {NORMAL: 12}


def test_mvtec_layout_keeps_train_and_test_apart(product, tmp_path):
    root = tmp_path / "bottle"
    shutil.copytree(product / "normal", root / "train/good")
    shutil.copytree(product / "얼룩", root / "test/broken")
    (root / "test/good").mkdir()
    shutil.copy(product / "normal/00.png", root / "test/good/00.png")
    for path in (product / "masks/얼룩").iterdir():
        target = root / "ground_truth/broken" / f"{path.stem}_mask.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    found = open_images(root)
    assert found.kinds == {NORMAL: 13, "broken": 6}
    parts = {item.image.split("/")[0]: item.parts for item in found.items}
    assert parts == {"train": {"train", "val"}, "test": {"val", "test"}}
    assert all(item.mask for item in found.items if item.is_defect)


def test_a_table_with_masks(product):
    lines = ["image,kind,mask", "normal/00.png,normal,", "normal/01.png,Good,"]
    lines.append("얼룩/00.png,얼룩,masks/얼룩/00.png")
    table = product / "표.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    found = open_images(table)
    assert found.kinds == {NORMAL: 2, "얼룩": 1}
    assert found.items[-1].read_mask().any()


def test_bad_lines_of_a_table_are_all_named(product):
    table = product / "표.csv"
    table.write_text("image,kind\nnormal/00.png,\nnormal/99.png,normal\nnormal/01.png,normal\n" * 1)
    with pytest.raises(InputError) as caught:
        open_images(table)
    assert [", line 2:" in caught.value.problems[0], ", line 3:" in caught.value.problems[1]] == [
        True,
        True,
    ]
    table.write_text("file,label\n")
    with pytest.raises(InputError, match="line 1: must name the columns"):
        open_images(table)


def test_what_is_wrong_is_named_at_once(product):
    (product / "normal/03.png").write_bytes(b"no image")
    grey(product / "masks/얼룩/01.png", 0, (32, 32))
    with pytest.raises(InputError) as caught:
        open_images(product)
    assert len(caught.value.problems) == 2
    assert any("03.png" in problem for problem in caught.value.problems)
    assert any("draw it at the image's size" in problem for problem in caught.value.problems)


def test_a_mask_of_many_greys_is_refused(product):
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    write_image(product / "masks/얼룩/01.png", ramp)
    found = open_images(product)
    item = next(item for item in found.items if item.image.endswith("얼룩/01.png"))
    with pytest.raises(InputError, match=r"not binary, 78\.1 % of its pixels"):
        item.read_mask()


@pytest.mark.parametrize("there", [(), ("scratch",), ("normal",)])
def test_no_normal_image_is_one_sentence(tmp_path, there):
    for name in there:
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="normal") as caught:
        open_images(tmp_path)
    assert len(caught.value.problems) == 1


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_images(tmp_path / "none")


def test_defects_in_train_are_refused(product, tmp_path):
    shutil.copytree(product / "normal", tmp_path / "a/train/good")
    shutil.copytree(product / "얼룩", tmp_path / "a/train/broken")
    with pytest.raises(InputError, match="would be learnt as normal"):
        open_images(tmp_path / "a")


def test_grey_pixels_along_a_masks_edges_are_taken(product):
    """As a mask that was scaled has them."""
    path = product / "masks/얼룩/01.png"
    before = read_mask(path, product / "얼룩/01.png")
    grey = cv2.GaussianBlur(before.astype(np.float32) * 255, (0, 0), 0.45).astype(np.uint8)
    write_image(path, np.repeat(grey[..., None], 3, axis=2))
    assert len(np.unique(grey)) > 2
    assert (read_mask(path, product / "얼룩/01.png") == before).all()


def test_a_detectors_folders_beside_the_classes_are_no_defects(product):
    grey(product / "images" / "a.png", 90)
    (product / "annotations").mkdir()
    found = open_images(product)
    assert found.kinds == {NORMAL: 12, "얼룩": 6}
    assert "annotations and images are no classes" in found.notes[0]


def test_paths_that_leave_the_tables_folder_are_refused(product):
    grey(product.parent / "outside.png", 90)
    table = product / "표.csv"
    table.write_text(f"image,kind\n../outside.png,normal\n{product / 'normal/00.png'},normal\n")
    with pytest.raises(InputError) as caught:
        open_images(table)
    assert [f", line {n}: " in p for n, p in enumerate(caught.value.problems, 2)] == [True, True]
    assert "leads out of the folder" in caught.value.problems[0]


def test_names_that_are_not_utf8_are_refused_at_once(product):
    for kind in ("normal", "얼룩"):
        bad = Path(os.fsdecode(os.fsencode(product / kind) + b"/\xb1\xdc.png"))
        bad.write_bytes((product / "normal/00.png").read_bytes())
    with pytest.raises(InputError, match=r"2 names are not UTF-8"):
        open_images(product)
