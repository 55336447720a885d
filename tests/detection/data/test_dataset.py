"""Labels and split of a folder: made once, extended, never reshuffled."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from detection.data.dataset import boxes_per_class, choose_stratified, open_dataset, split_path
from inspection.data.boxes import ImageLabels
from inspection.data.images import write_image
from inspection.data.split import load_split
from inspection.data.voc import write_voc
from inspection.errors import InputError
from tests.conftest import CLASSES


def opened(small_set, said=None, **options):
    return open_dataset(
        small_set.annotations,
        small_set.images,
        small_set.snapshots,
        say=(said.append if said is not None else lambda text: None),
        **options,
    )


def add_image(small_set, name="new.png", box=(4, 4, 24, 24)):
    write_image(small_set.images / name, np.full((96, 96, 3), 99, np.uint8))
    write_voc(
        small_set.annotations / name.replace(".png", ".xml"),
        name,
        (96, 96, 3),
        np.array([box], np.float32),
        (CLASSES[0],),
    )


def test_parts_classes_and_hash(small_set):
    said: list[str] = []
    dataset = opened(small_set, said)
    assert dataset.classes == tuple(sorted(CLASSES))
    counts = {part: len(dataset.part(part)) for part in ("train", "val", "test")}
    assert counts == {"train": 8, "val": 2, "test": 1}
    assert boxes_per_class(dataset.part("train")) == {CLASSES[0]: 6, CLASSES[1]: 6}
    assert sum(item.is_normal for item in dataset.part("train")) == 2
    assert not said  # there was a split, and nothing to fix
    assert dataset.hash == opened(small_set).hash


def test_hash_sees_a_box_that_moved(small_set):
    before = opened(small_set).hash
    add_image(small_set, "train_00.png", (5, 5, 50, 50))
    assert opened(small_set).hash != before


def test_split_is_made_once_stored_and_said(small_set):
    path = small_set.annotations / "split.csv"
    path.unlink()
    said: list[str] = []
    first = opened(small_set, said)
    assert path.is_file()
    assert sum(str(path) in text for text in said) == 1
    said.clear()
    second = opened(small_set, said, seed=99, fractions=(0.2, 0.4, 0.4))
    assert second.split == first.split
    assert [str(path) in text and "--fractions" in text for text in said] == [True]
    said.clear()
    assert opened(small_set, said).split == first.split
    assert not said


@pytest.mark.parametrize(
    ("group_by", "said"),
    [(r"\w+_(\d)\d", "tears"), ("(", "regular expression"), ("x(y)z", "group of no image")],
)
def test_a_grouping_that_the_stored_split_does_not_keep_is_refused(small_set, group_by, said):
    with pytest.raises(InputError, match=said):
        opened(small_set, group_by=group_by)


def test_a_grouping_that_the_stored_split_keeps_is_fine(small_set):
    opened(small_set, group_by=r"^(train|val|test)_")


def test_parts_and_classes_that_are_missing_are_said(small_set):
    path = small_set.annotations / "split.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",test\n", ",val\n"), encoding="utf-8")
    add_image(small_set, "val_99.png")
    xml = small_set.annotations / "val_99.xml"
    xml.write_text(xml.read_text(encoding="utf-8").replace(CLASSES[0], "rare"), encoding="utf-8")
    path.write_text(
        path.read_text(encoding="utf-8") + "val_99.png,val_99.png,val\n", encoding="utf-8"
    )
    said: list[str] = []
    opened(small_set, said)
    assert any("test part is empty" in text for text in said)
    assert any("no box of rare" in text for text in said)


def test_names_that_differ_in_case_or_space_are_said(small_set):
    xml = next(small_set.annotations.glob("train_00.xml"))
    text = xml.read_text(encoding="utf-8")
    name = next(name for name in CLASSES if name in text)
    xml.write_text(text.replace(f">{name}<", f">{name.upper()} <"), encoding="utf-8")
    said: list[str] = []
    opened(small_set, said)
    assert any(repr(f"{name.upper()} ") in text and "case or space" in text for text in said)


def test_new_images_join_and_none_moves(small_set):
    before = opened(small_set).split.assignments
    add_image(small_set)
    said: list[str] = []
    after = opened(small_set, said).split.assignments
    assert set(after) == {*before, "new.png"}
    assert all(after[image] == part for image, part in before.items())
    assert any("1 new" in text for text in said)
    assert load_split(small_set.annotations / "split.csv").assignments == after


def test_images_that_left_are_no_trouble(small_set):
    (small_set.annotations / "train_00.xml").unlink()
    dataset = opened(small_set)
    assert len(dataset.part("train")) == 7
    assert "train_00.png" in dataset.split.assignments


def test_read_only_labels_keep_their_split_elsewhere(small_set):
    small_set.annotations.joinpath("split.csv").unlink()
    before = sorted(small_set.annotations.iterdir())
    small_set.annotations.chmod(0o555)
    try:
        dataset = opened(small_set)
        assert small_set.snapshots in dataset.split_path.parents
        assert opened(small_set).split == dataset.split
        assert sorted(small_set.annotations.iterdir()) == before
    finally:
        small_set.annotations.chmod(0o755)


def test_a_split_counts_wherever_it_was_stored_first(small_set):
    """Making a folder read-only, or writable again, must not move an image."""
    inside = opened(small_set)
    small_set.annotations.chmod(0o555)
    try:
        assert opened(small_set, seed=9).split == inside.split
        (small_set.annotations / "split.csv").unlink()
        outside = opened(small_set, seed=3)
    finally:
        small_set.annotations.chmod(0o755)
    assert opened(small_set, seed=9).split == outside.split


def test_two_read_only_folders_do_not_share_a_split(tmp_path):
    paths = []
    for parent in ("a", "b"):
        folder = tmp_path / parent / "annotations"
        folder.mkdir(parents=True)
        folder.chmod(0o555)
        paths.append(split_path(folder, tmp_path / "snapshots"))
    assert paths[0] != paths[1]


def test_csv_instead_of_xml(small_set):
    """`convert` writes it; a user may keep only that."""
    expected = opened(small_set)
    for path in small_set.annotations.glob("*.xml"):
        path.unlink()
    assert (small_set.annotations / "annotations.csv").is_file()
    again = opened(small_set)
    assert again.classes == expected.classes
    assert [item.image for item in again.labels] == [item.image for item in expected.labels]


def test_missing_folders_are_named(small_set, tmp_path):
    with pytest.raises(InputError, match="그림"):
        open_dataset(small_set.annotations, tmp_path / "그림", small_set.snapshots, say=print)
    with pytest.raises(InputError, match="없음"):
        open_dataset(tmp_path / "없음", small_set.images, small_set.snapshots, say=print)


def test_broken_xml_stops_with_its_name(small_set):
    (small_set.annotations / "train_01.xml").write_text("<annotation><obj")
    with pytest.raises(InputError, match=r"train_01\.xml"):
        opened(small_set)


def test_image_that_is_gone_stops_with_its_name(small_set):
    (small_set.images / "train_01.png").unlink()
    with pytest.raises(InputError, match=r"train_01\.png"):
        opened(small_set)


def test_notes_are_few(small_set):
    """A folder that was copied from another machine fixes its file names; not 5,000 lines."""
    for path in small_set.annotations.glob("*.xml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(".png</filename>", ".jpg</filename>"), encoding="utf-8")
    shutil.rmtree(small_set.snapshots)
    said: list[str] = []
    dataset = opened(small_set, said)
    assert len(dataset.labels) == 11
    assert len(said) <= 6


def test_boxes_per_class_counts_boxes():
    labels = [
        ImageLabels("a", [[0, 0, 1, 1]] * 3, ("x", "y", "x")),
        ImageLabels("b", [], ()),
    ]
    assert boxes_per_class(labels) == {"x": 2, "y": 1}


def test_a_split_that_nothing_can_be_trained_with_is_not_stored(small_set):
    (small_set.annotations / "split.csv").unlink()
    for path in sorted(small_set.annotations.glob("*.xml"))[1:]:
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"<object>.*</object>", "", text, flags=re.S), encoding="utf-8")
    with pytest.raises(InputError, match=r"at least one box each.*--fractions"):
        opened(small_set, to_train=True)
    assert not (small_set.annotations / "split.csv").exists()
    opened(small_set)  # to look at it is no crime
    with pytest.raises(InputError, match=r"split\.csv; add images, or delete that file"):
        opened(small_set, to_train=True)


def test_some_images_stand_for_all_kinds():
    def images(count, name, *label, difficult=None):
        boxes = [[0, 0, 9, 9]] * len(label)
        return [ImageLabels(f"{name}{i}", boxes, label, difficult) for i in range(count)]

    labels = images(60, "normal") + images(29, "common", "common") + images(10, "hard", "common")
    labels += images(1, "rare", "rare", "common") + images(20, "not", "rare", difficult=[True])
    chosen = choose_stratified(labels, 12, seed=1)
    assert chosen == choose_stratified(labels, 12, seed=1)
    assert chosen != choose_stratified(labels, 12, seed=2)
    names = [item.image.rstrip("0123456789") for item in chosen]
    assert names.count("rare") == 1
    assert 3 <= names.count("common") + names.count("hard") <= 5
    # A box that counts comes first, whatever room there is.
    assert choose_stratified(labels, 1, seed=1)[0].image == "rare0"
    assert choose_stratified(labels, 500, seed=1) == labels
