"""Every layout for every room, and tables as spreadsheets write them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from anomaly.data.images import NORMAL
from anomaly.data.images import open_images as open_product
from classification.data.images import open_images as open_classes
from inspection.data import labelled
from inspection.data.grouping import grouping_by
from inspection.data.images import write_image
from inspection.data.labelled import find_labelled
from inspection.errors import InputError
from inspection.files.tables import read_rows
from inspection.files.writing import file_hash
from inspection.training.contents import write_contents


def put(root, *names):
    for name in names:
        for number in range(3):
            write_image(root / name / f"{number}.png", np.full((8, 8, 3), 9 * number, np.uint8))


def put_masks(folder):
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[2:4, 2:4] = 255
    for number in range(3):
        write_image(folder / f"{number}_mask.png", mask)


def test_mvtecs_layout_serves_both_rooms(tmp_path):
    put(tmp_path, "train/good", "test/good", "test/긁힘")
    put_masks(tmp_path / "ground_truth/긁힘")
    product, classes = open_product(tmp_path), open_classes(tmp_path)
    assert product.kinds == {NORMAL: 6, "긁힘": 3}
    assert classes.classes == ("good", "긁힘")
    for found in (product, classes):
        masked = {item.image for item in found.items if item.mask}
        assert masked == {f"test/긁힘/{number}.png" for number in range(3)}
    sides = {item.image.rsplit("/", 1)[0]: set(item.parts) for item in product.items}
    assert sides == {
        "train/good": {"train", "val"},
        "test/good": {"val", "test"},
        "test/긁힘": {"val", "test"},
    }
    assert {frozenset(i.parts) for i in classes.items if i.image.startswith("test")} == {
        frozenset({"test"})
    }


def test_defect_images_beside_normal_images_serve_both_rooms(tmp_path):
    put(tmp_path, "train/normal_images", "train/defect_images")
    put_masks(tmp_path / "train/defect_masks")
    assert open_classes(tmp_path).classes == ("normal", "defect")
    found = open_product(tmp_path)
    assert found.kinds == {NORMAL: 3, "defect": 3}
    for item in found.items:
        assert item.read_mask().sum() == (4 if item.is_defect else 0)
        assert ("train" in item.parts) == item.is_normal


def test_both_rooms_find_the_same_images_of_one_folder(tmp_path):
    put(tmp_path, "OK", "crack")
    product, classes = open_product(tmp_path), open_classes(tmp_path)
    assert [item.path for item in product.items] == [item.path for item in classes.items]
    assert (classes.normal, product.normal) == ("OK", NORMAL)
    assert {item.label for item in product.items} == {(), ("crack",)}
    assert {item.label for item in classes.items} == {("OK",), ("crack",)}


def test_a_mask_in_no_classs_folder_is_that_of_a_defect(tmp_path):
    put(tmp_path, "normal", "crack")
    put_masks(tmp_path / "masks")
    masked = {item.kind for item in find_labelled(tmp_path).items if item.mask}
    assert masked == {"crack"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["label", "kind"])
def test_a_table_as_a_spreadsheet_writes_it(tmp_path, delimiter, column):
    put(tmp_path, "a", "b")
    rows = [("Image", f" {column} ", "part")]
    rows += [(f"a/{number}.png", "good", part) for number, part in enumerate(("", "", "train"))]
    rows += [(f"b\\{number}.png", '"크랙, 긴"', "val") for number in range(3)]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    table = tmp_path / "표.csv"
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    for found in (open_product(table), open_classes(table)):
        assert found.kinds["크랙, 긴"] == 3
        assert {tuple(i.parts) for i in found.items if i.image.startswith("b/")} == {("val",)}
    table.write_bytes(text.replace("val", "train").encode())
    with pytest.raises(InputError, match="would be learnt as normal") as caught:
        open_product(table)
    assert len(caught.value.problems) == 3


def test_groups_may_be_separated_by_semicolons(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("image;part number\n0.png;7\n1.png;7\n", encoding="utf-8")
    group = grouping_by(table)
    assert group("0.png") == group("a/1.png") == "7"


def test_a_column_named_twice_is_refused(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("image,label,Label\na.png,ok,ng\n")
    with pytest.raises(InputError, match="line 1: names a column twice"):
        find_labelled(table)


def test_rows_of_our_own_tables_are_separated_by_commas_only(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a;b\n")
    assert read_rows(path) == [(1, ["a;b"])]


def test_every_file_is_read_once_for_hash_and_contents(tmp_path, monkeypatch):
    for kind in ("normal", "dot"):
        (tmp_path / kind).mkdir()
        write_image(tmp_path / kind / "a.png", np.full((4, 4, 3), len(kind), np.uint8))
    images = find_labelled(tmp_path)
    read: list[Path] = []
    monkeypatch.setattr(labelled, "file_hash", lambda path: (read.append(path), file_hash(path))[1])
    # As records have it since there were runs.
    lines = (f"{item.image}\0{item.kind}\0{file_hash(item.path)}\0\n" for item in images.items)
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert images.hash == images.hash == digest
    write_contents(tmp_path / "run", {i.image: i.path for i in images.items}, images.contents)
    rows = read_rows(tmp_path / "run/contents.csv")[1:]
    assert [cells for _, cells in rows] == [[i.image, file_hash(i.path)] for i in images.items]
    assert read == [item.path for item in images.items]
