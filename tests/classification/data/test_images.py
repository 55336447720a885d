"""Layouts of images, and what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from classification.data.images import open_images
from inspection.data.images import write_image
from inspection.data.labelled import find_images
from inspection.errors import InputError
from inspection.files.writing import write_text_atomic
from tests.classification.conftest import draw, write_set


def put(path, kind="normal", seed=0):
    image, mask = draw(kind, seed)
    write_image(path, image)
    return image, mask


def test_a_folder_for_each_class_with_masks(shared_set):
    found = open_images(shared_set)
    assert found.classes == ("normal", "dot", "긁힘")
    assert found.normal == "normal"
    assert len(found.items) == 28
    for item in found.items:
        mask = item.read_mask()
        assert (mask is None) == (item.kind == "normal")
        if mask is not None:
            assert 50 < mask.sum() < 200


def test_train_and_test_folders_keep_their_sides(tmp_path):
    write_set(tmp_path / "train", (4, 4, 4))
    write_set(tmp_path / "test", (3, 3, 3))
    found = open_images(tmp_path)
    sides = {(item.image.split("/")[0], tuple(sorted(item.parts))) for item in found.items}
    assert sides == {("train", ("train", "val")), ("test", ("test",))}
    assert next(i for i in found.items if i.kind == "dot").read_mask() is not None


def test_defect_images_with_masks_beside_normal_images(tmp_path):
    train = tmp_path / "train"
    for number in range(4):
        put(train / "normal_images" / f"n{number}.png", seed=number)
        image, mask = draw("dot", number)
        write_image(train / "defect_images" / f"d{number}.png", image)
        write_image(
            train / "defect_masks" / f"d{number}.png",
            np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2),
        )
    found = open_images(tmp_path)
    assert found.classes == ("normal", "defect")
    assert sum(item.mask is not None for item in found.items) == 4
    write_image(train / "defect_masks" / "no such.png", np.zeros((48, 48, 3), np.uint8))
    with pytest.raises(InputError, match=r"no such\.png: no image"):
        open_images(tmp_path)


def test_a_table_with_masks_and_parts(labelled):
    rows = ["image,label,mask,part"]
    for number in range(3):
        rows.append(f"normal/normal_{number:02d}.png,양품,,train")
        rows.append(f"dot/dot_{number:02d}.png,dot,masks/dot/dot_{number:02d}.png,test")
    write_text_atomic(labelled / "표.csv", "\n".join(rows) + "\n")
    found = open_images(labelled / "표.csv")
    assert found.normal == "양품"
    assert {tuple(i.parts) for i in found.items} == {("train",), ("test",)}


def test_all_that_is_wrong_with_a_table_is_told_with_its_line(labelled):
    rows = ["image,label,part", "normal/normal_00.png,normal,huh", "gone.png,dot,", "x"]
    rows += ["normal/normal_01.png,normal,", "normal/normal_01.png,normal,"]
    write_text_atomic(labelled / "t.csv", "\n".join(rows) + "\n")
    with pytest.raises(InputError) as caught:
        open_images(labelled / "t.csv")
    text = str(caught.value)
    for piece in (
        "line 2: the part is 'huh'",
        "line 3: gone.png is not there",
        "line 4: must hold",
    ):
        assert piece in text
    assert "normal/normal_01.png occurs twice" in text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda root: (root / "leer").mkdir(), r"leer: the class is empty"),
        (lambda root: put(root / "lone" / "one.png"), r"'lone' holds 1 image; it takes at least"),
        (
            lambda root: (root / "dot" / "dot_00.png").write_bytes(b"no image"),
            r"dot_00\.png: is no PNG",
        ),
        (
            lambda root: write_image(
                root / "masks" / "dot" / "dot_01.png", np.zeros((9, 9, 3), np.uint8)
            ),
            r"dot_01\.png: the mask has 9 x 9 pixels, its image",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence(labelled, change, match):
    change(labelled)
    with pytest.raises(InputError, match=match):
        open_images(labelled)


def test_one_class_is_none(tmp_path):
    for number in range(4):
        put(tmp_path / "normal" / f"{number}.png")
    with pytest.raises(InputError, match=r"1 class only.*anomaly"):
        open_images(tmp_path)
    with pytest.raises(InputError, match="there is no such class; there are"):
        open_images(tmp_path, normal="huh")
    with pytest.raises(InputError, match="there is no such folder"):
        open_images(tmp_path / "nowhere")


def test_images_of_any_folder_know_their_class_where_it_is_told(shared_set):
    found = find_images(shared_set, ("normal", "dot"))
    kinds = {one.kind for one in found}
    assert kinds == {"normal", "dot", None}
    assert sum(one.read_mask() is not None for one in found) == 16
    assert len(find_images(shared_set / "dot", ("dot",))) == 8
    assert find_images(shared_set / "dot" / "dot_00.png", ("dot",))[0].kind is None


def test_a_split_that_nothing_can_be_chosen_on_is_not_stored(shared_set, tmp_path):
    from classification.data.dataset import open_data

    def opened(**options):
        return open_data(shared_set, tmp_path, say=lambda line: None, **options)

    with pytest.raises(InputError, match=r"the val part is empty.*--fractions"):
        opened(fractions=(0.8, 0, 0.2))
    assert not list(tmp_path.rglob("*.csv"))
    assert opened().part("val")


def test_a_detectors_folders_beside_the_classes_are_left_out_and_said(labelled):
    for name in ("images", "images_900"):
        put(labelled / name / "a.png")
    (labelled / "annotations").mkdir()
    (labelled / "annotations" / "a.xml").write_text("<annotation/>")
    found = open_images(labelled)
    assert found.classes == ("normal", "dot", "긁힘")
    (note,) = found.notes
    assert "annotations and images and images_900 are no classes" in note


def test_paths_that_leave_the_tables_folder_are_refused(labelled):
    put(labelled.parent / "outside.png")
    rows = ["image,label", "../outside.png,dot", f"{labelled / 'dot/dot_00.png'},dot", "a" * 300]
    rows[-1] += ",dot"
    write_text_atomic(labelled / "t.csv", "\n".join(rows) + "\n")
    with pytest.raises(InputError) as caught:
        open_images(labelled / "t.csv")
    for line in (2, 3):
        assert f"t.csv, line {line}: " in str(caught.value)
    assert "'../outside.png' leads out of the folder" in str(caught.value)
    assert "line 4: 'aaa" in str(caught.value)


def test_names_that_are_not_utf8_are_refused_at_once(labelled):
    for kind in ("dot", "긁힘"):
        bad = Path(os.fsdecode(os.fsencode(labelled / kind) + b"/\xb1\xdc.png"))
        bad.write_bytes((labelled / "dot/dot_00.png").read_bytes())
    with pytest.raises(InputError, match=r"2 names are not UTF-8 \(dot/.*긁힘/"):
        open_images(labelled)
    with pytest.raises(InputError, match="2 names are not UTF-8"):
        find_images(labelled, ("dot",))
    with pytest.raises(InputError, match="1 name is not UTF-8"):
        find_images(bad, ("dot",))
