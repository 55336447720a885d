import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from detection.data.annotations import read_annotations
from detection.data.check import KINDS, check
from inspection.data.images import write_image
from inspection.data.voc import GUESSES, seal, write_voc
from inspection.errors import InputError
from tests.places import DATA


class Folder:
    """A data set that a test fills: 40 x 30 images, all different, and their XML."""

    def __init__(self, root: Path) -> None:
        self.images, self.annotations = root / "이미지", root / "annotations"
        self.images.mkdir()
        self.annotations.mkdir()

    def add(self, name: str, *boxes: tuple[float, ...], label: str = "error", **other) -> Path:
        pixels = np.full((30, 40, 3), len(list(self.images.iterdir())), np.uint8)
        write_image(self.images / f"{name}.png", pixels)
        path = self.annotations / f"{name}.xml"
        size = other.pop("size", (40, 30, 3))
        write_voc(path, f"{name}.png", size, boxes, [label] * len(boxes), **other)
        return path

    def check(self, **options):
        return check(self.annotations, self.images, **options)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def only(problems):
    (problem,) = problems
    assert problem.kind in KINDS
    assert problem.message
    return problem


def test_nothing_at_all_is_no_success(folder):
    with pytest.raises(InputError, match="neither XML nor an image"):
        folder.check()


def test_a_clean_set_has_no_problems(folder):
    folder.add("a", (0, 0, 40, 30), (1, 1, 5, 5))
    folder.add("웨이퍼", label="찍힘")
    assert folder.check(classes=["error", "찍힘"]) == []


def test_malformed_xml(folder):
    path = folder.add("a", (1, 1, 5, 5))
    replace(path, "</annotation>", "")
    problem = only(folder.check())
    assert (problem.file, problem.kind) == (str(path), "malformed XML")
    assert problem.where.startswith("line ")


def test_every_bad_field_is_a_problem_with_its_line(folder):
    path = folder.add("a", (1, 1, 5, 5))
    replace(path, "<xmin>1<", "<xmin>x<")
    replace(path, "<ymax>5<", "<ymax><")
    first, second = folder.check()
    assert (first.kind, second.kind) == ("malformed XML", "malformed XML")
    assert int(first.where.split()[1]) < int(second.where.split()[1])


def test_missing_image(folder):
    folder.add("a", (1, 1, 5, 5))
    (folder.images / "a.png").unlink()
    assert only(folder.check()).kind == "missing image"


def test_unreadable_image(folder):
    folder.add("a", (1, 1, 5, 5))
    (folder.images / "a.png").write_bytes(b"no image")
    problem = only(folder.check())
    assert (problem.kind, problem.file) == ("unreadable image", str(folder.images / "a.png"))


def test_another_size(folder):
    folder.add("a", (1, 1, 5, 5), size=(30, 40, 3))
    problem = only(folder.check())
    assert (problem.kind, problem.where) == ("image size", "size")
    assert "30 x 40" in problem.message
    assert "40 x 30" in problem.message


def test_boxes_outside_are_held_against_the_file_not_the_xml(folder):
    folder.add("a", (1, 1, 41, 5), size=(0, 0, 0))
    found = folder.check()
    assert only([item for item in found if not item.repaired]).kind == "box outside"
    assert only([item for item in found if item.repaired]).kind == "image size"


def test_a_box_that_starts_below_zero(folder):
    folder.add("a", (-1, 1, 4, 5))
    assert only(folder.check()).kind == "box outside"
    assert folder.check(one_based=True)[0].kind == "box outside"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("<xmax>9<", "<xmax>2<", "no area"), ("<ymax>9<", "<ymax>1<", "inverted")],
)
def test_zero_and_inverted_boxes(folder, old, new, says):
    replace(folder.add("a", (2, 2, 9, 9)), old, new)
    problem = only(folder.check())
    assert problem.kind == "zero or inverted box"
    assert says in problem.message


def test_unknown_class_only_with_a_list(folder):
    folder.add("a", (1, 1, 5, 5), label="dust")
    assert folder.check() == []
    problem = only(folder.check(classes=["error"]))
    assert (problem.kind, problem.where[:4]) == ("unknown class", "line")


@pytest.mark.parametrize("other", ["Error", "error ", " ERROR", "er ror"])
def test_names_that_differ_in_case_or_space(folder, other):
    folder.add("a", (1, 1, 5, 5), (2, 2, 6, 6))
    path = folder.add("b", (1, 1, 5, 5), label=other)
    problem = only(folder.check())
    assert (problem.kind, problem.file) == ("similar class", str(path))
    assert repr(other) in problem.message


def test_the_class_list_says_which_spelling_is_right(folder):
    folder.add("a", (1, 1, 5, 5), (2, 2, 6, 6))
    folder.add("b", (1, 1, 5, 5), label="Error")
    kinds = {(item.kind, Path(item.file).name) for item in folder.check(classes=["Error"])}
    assert kinds == {("unknown class", "a.xml"), ("similar class", "a.xml")}


def test_duplicate_box(folder):
    folder.add("a", (1, 1, 5, 5), (2, 2, 5, 5), (1, 1, 5, 5))
    problem = only(folder.check())
    assert problem.kind == "duplicate box"
    assert "stands on line" in problem.message


def test_two_xml_for_one_image(folder):
    path = folder.add("a", (1, 1, 5, 5))
    (folder.annotations / "b.xml").write_bytes(path.read_bytes())
    problem = only(folder.check())
    assert (problem.kind, problem.where) == ("duplicate image", "filename")
    assert Path(problem.file).name == "b.xml"


def test_two_images_with_one_content(folder):
    folder.add("a")
    folder.add("b")
    (folder.images / "b.png").write_bytes((folder.images / "a.png").read_bytes())
    problem = only(folder.check())
    assert (problem.kind, problem.file) == ("duplicate image", str(folder.images / "b.png"))


def test_image_without_xml(folder):
    folder.add("a")
    folder.add("b").unlink()
    assert only(folder.check()).kind == "image without XML"
    (folder.annotations / "annotations.csv").write_text("b.png,,,,,\n")
    assert folder.check() == []


def test_a_broken_table(folder):
    folder.add("a")
    (folder.annotations / "annotations.csv").write_text("a.png,,,,,\na.png,1\n")
    problem = only(folder.check())
    assert (problem.kind, problem.where) == ("malformed table", "line 2")


@pytest.mark.parametrize("stale", ["C:\\labels\\old\\a.png", "/home/old/a.png"])
def test_a_stale_path_is_repaired(folder, stale):
    folder.add("a", (1, 1, 5, 5), image_path=stale)
    problem = only(folder.check())
    assert (problem.kind, problem.repaired) == ("stale path", True)


def test_a_good_path_is_none(folder):
    folder.add("a", (1, 1, 5, 5), image_path=folder.images / "a.png")
    assert folder.check() == []


def test_a_stale_file_name_is_repaired(folder):
    replace(folder.add("a"), "a.png", "camera 7.jpg")
    problem = only(folder.check())
    assert (problem.kind, problem.repaired, problem.where) == ("stale path", True, "filename")


def test_all_problems_come_at_once_and_in_order(folder):
    folder.add("a", (1, 1, 50, 5), (1, 1, 50, 5))
    replace(folder.add("b"), "</annotation>", "")
    folder.add("c").unlink()
    problems = folder.check(classes=["dust"])
    kinds = Counter(item.kind for item in problems)
    assert kinds == {
        "box outside": 2,
        "unknown class": 2,
        "duplicate box": 1,
        "malformed XML": 1,
        "image without XML": 1,
    }
    assert [item.file for item in problems] == sorted(item.file for item in problems)


def test_missing_folders_are_input_errors(folder, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        check(tmp_path / "none", folder.images)
    with pytest.raises(InputError, match="no folder"):
        check(folder.annotations, tmp_path / "none")


def test_a_large_set_takes_seconds(folder):
    content = folder.add("a", *[(i, i, i + 5, i + 5) for i in range(5)]).read_text()
    image = (folder.images / "a.png").read_bytes()
    for i in range(1000):
        (folder.annotations / f"{i}.xml").write_text(content.replace("a.png", f"{i}.png"))
        # What follows the last chunk is no part of the image, but of the content.
        (folder.images / f"{i}.png").write_bytes(image + b"%04d" % i)
    start = time.process_time()
    assert folder.check() == []
    # About 0.8 s at rest; the bound is for a busy machine.
    assert time.process_time() - start < 6


@pytest.mark.parametrize(
    ("name", "errors"),
    [("neu_det", {"duplicate box": 2, "duplicate image": 1}), ("deeppcb", {})],
)
def test_published_sets(name, errors):
    source = DATA / name
    if not source.is_dir():
        pytest.skip(f"{name} is not there; set INSPECTION_DATA")
    problems = check(source / "annotations", source / "images")
    assert Counter(item.kind for item in problems if not item.repaired) == errors


@pytest.mark.parametrize("origin", GUESSES)
def test_boxes_that_a_program_guessed_are_no_labels(folder, origin):
    sign = seal(origin, np.array([[1, 1, 5, 5]]), ["error"], [False])
    path = folder.add("a", (1, 1, 5, 5), database=sign)
    problem = only(folder.check())
    assert problem.where == "database"
    assert f"is {GUESSES[origin]} that nobody has looked at" in problem.message
    with pytest.raises(InputError, match="nobody has looked at"):
        read_annotations(folder.annotations, folder.images)
    replace(path, "<xmax>5<", "<xmax>6<")
    assert folder.check() == []
    assert len(read_annotations(folder.annotations, folder.images)) == 1


def test_one_bad_field_hides_nothing_else(folder):
    path = folder.add("a", (1, 1, 5, 5), (2, 2, 50, 9), (20, 20, 25, 25), label="dust")
    replace(path, "<xmin>1<", "<xmin>x<")
    replace(path, "<ymax>25<", "<ymax>20<")
    (folder.annotations / "annotations.csv").write_text("a.png,1\nb.png,,,,,\ngone.png,,,,,\n")
    folder.add("b").unlink()
    kinds = Counter(item.kind for item in folder.check(classes=["error"]))
    assert kinds == {
        "malformed XML": 1,
        "box outside": 1,
        "zero or inverted box": 1,
        "unknown class": 2,
        "malformed table": 1,
        "missing image": 1,
    }


def test_a_table_alone_must_name_images_that_are_there(folder):
    folder.add("a").unlink()
    table = folder.annotations / "annotations.csv"
    table.write_text("a.png,1,1,5,5,error\ngone.png,,,,,\n")
    problem = only(folder.check())
    assert (problem.file, problem.kind, problem.repaired) == (str(table), "missing image", False)


def test_an_inverted_box_that_lies_outside_is_both(folder):
    replace(folder.add("a", (2, 2, 9, 9)), "<xmin>2<", "<xmin>60<")
    kinds = [item.kind for item in folder.check()]
    assert kinds == ["box outside", "zero or inverted box"]


def test_names_that_are_not_utf8_are_a_problem_beside_the_others(folder):
    folder.add("a", (1, 1, 50, 5))
    bad = Path(os.fsdecode(os.fsencode(folder.images) + b"/\xb1\xdc.png"))
    bad.write_bytes((folder.images / "a.png").read_bytes())
    assert {item.kind for item in folder.check()} == {"file name", "box outside"}
    assert all(item.kind in KINDS for item in folder.check())


def test_missing_folders_are_named_together(tmp_path):
    with pytest.raises(InputError) as caught:
        check(tmp_path / "no xml", tmp_path / "no images")
    assert len(caught.value.problems) == 2
