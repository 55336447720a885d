import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection.data import table
from detection.data.table import (
    classes_of,
    labels_for,
    read_annotations,
    read_classes,
    read_table,
    to_voc,
    write_table,
)
from inspection.data.boxes import ImageLabels
from inspection.data.images import write_image
from inspection.data.voc import PREDICTION, seal, write_voc
from inspection.errors import InputError
from tests.places import DATA

HEADER = "image,xmin,ymin,xmax,ymax,label,difficult,source\n"

fuzzed = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Folder:
    """A data set that a test fills: 40 x 30 images and their XML."""

    def __init__(self, root: Path) -> None:
        self.images, self.annotations = root / "images_900", root / "annotations"
        self.images.mkdir()
        self.annotations.mkdir()
        self.table = self.annotations / "annotations.csv"

    def image(self, name: str) -> None:
        write_image(self.images / name, np.zeros((30, 40, 3), np.uint8))

    def xml(self, name: str, *boxes: tuple[float, ...], label: str = "error", **other) -> Path:
        path = self.annotations / f"{name}.xml"
        image = other.pop("image", f"{name}.png")
        size = other.pop("size", (40, 30, 3))
        write_voc(path, image, size, boxes, [label] * len(boxes), **other)
        return path

    def read(self, **options) -> list[ImageLabels]:
        return read_annotations(self.annotations, self.images, **options)

    def labels(self, **options) -> list[ImageLabels]:
        return labels_for(self.annotations, self.images, **options)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def problems_of(call, *args, **options) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    return "\n".join(caught.value.problems)


FLOATS = st.floats(0, 1000, width=32)
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8
).filter(lambda text: "\\" not in text)


@st.composite
def label_lists(draw) -> list[ImageLabels]:
    labels = []
    for image in draw(st.lists(NAMES, unique=True, max_size=5)):
        boxes = []
        for x1, y1, width, height in draw(st.lists(st.tuples(*[FLOATS] * 4), max_size=4)):
            box = np.array([x1, y1, x1 + width + 1, y1 + height + 1], np.float32)
            boxes.append(box)
        names = [draw(NAMES) for _ in boxes]
        flags = [draw(st.booleans()) for _ in boxes]
        source = draw(st.sampled_from(["", "하위/a.xml"]))
        labels.append(ImageLabels(image, boxes, names, flags, source))
    return labels


@fuzzed
@given(label_lists())
def test_tables_come_back_as_they_were(tmp_path, labels):
    write_table(tmp_path / "a.csv", labels)
    assert read_table(tmp_path / "a.csv") == labels


def test_the_table_is_plain(tmp_path):
    labels = [
        ImageLabels("a.png", [[1, 2, 3.5, 4]], ["error"], [True], "a.xml"),
        ImageLabels("b.png", [], source="b.xml"),
    ]
    write_table(tmp_path / "a.csv", labels)
    assert (tmp_path / "a.csv").read_text() == (
        HEADER + "a.png,1,2,3.5,4,error,1,a.xml\nb.png,,,,,,,b.xml\n"
    )


def test_reads_keras_retinanet(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("img\\a.png,1,2,3,4,error\nimg\\a.png,5,6,7,8,dust\n\nb.png,,,,,\n")
    first, second = read_table(path)
    assert (first.image, first.label) == ("img/a.png", ("error", "dust"))
    assert first.xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert second.is_normal


def test_reads_what_excel_saves(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(("\ufeff" + HEADER.strip() + "\r\n웨이퍼.png,1,2,3,4,찍힘,0,\r\n").encode())
    assert read_table(path)[0].label == ("찍힘",)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.png,1,2,3,4", "has 5 fields"),
        ("a.png,1,2,x,4,error", "xmax must be a number"),
        ("a.png,1,,,4,error", "ymin and xmax must be a number"),
        ("a.png,1,2,inf,4,error", "xmax must be a number"),
        ("a.png,1,2,3,4,", "has no class"),
        (",1,2,3,4,error", "no file name"),
        ("a.png,1,2,1,4,error", "has no area"),
        ("a.png,3,2,1,4,error", "is inverted"),
        ("a.png,-3,2,-1,4,error", "lies outside"),
        ("a.png,1,2,3,4,dust", "not in the class list"),
        ('a.png,1,2,3,4,"error', "is not CSV"),
    ],
)
def test_errors_name_the_line(tmp_path, row, says):
    path, classes = tmp_path / "a.csv", tmp_path / "classes.csv"
    path.write_text(f"ok.png,1,2,3,4,error\n{row}\n")
    classes.write_text("error,0\n")
    problems = problems_of(read_table, path, classes)
    assert says in problems
    assert f"{path}, line 2" in problems


def test_all_lines_are_reported_at_once(tmp_path):
    (tmp_path / "a.csv").write_text("a.png,1,2,1,4,e\nb.png,1\nc.png,9,9,1,1,e\n")
    problems = problems_of(read_table, tmp_path / "a.csv")
    assert [f"line {n}" in problems for n in (1, 2, 3)] == [True] * 3


def test_other_encodings_are_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("a.png,1,2,3,4,e\n찍힘.png,,,,,\n".encode("cp949"))
    assert "line 2: is not UTF-8" in problems_of(read_table, tmp_path / "a.csv")


@fuzzed
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_input_errors(tmp_path, content, with_header):
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER.encode() * with_header + content)
    try:
        labels = read_table(path, warnings=[])
    except InputError:
        return
    assert all(np.isfinite(item.xyxy).all() for item in labels)


@fuzzed
@given(st.data())
def test_damaged_tables_are_read_or_input_errors(tmp_path, data):
    content = bytearray((HEADER + "a.png,1,2,3,4,찍힘,0,a.xml\n" * 3).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(content)))
        end = start + data.draw(st.integers(0, 6))
        content[start:end] = data.draw(st.binary(max_size=5))
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(content))
    try:
        labels = read_table(path, images_dir=tmp_path, warnings=[])
    except InputError:
        return
    assert all((item.xyxy[:, 2:] > item.xyxy[:, :2]).all() for item in labels)


@fuzzed
@given(st.binary(max_size=60))
def test_random_class_files_are_input_errors(tmp_path, content):
    (tmp_path / "classes").write_bytes(content)
    try:
        names = read_classes(tmp_path / "classes")
    except InputError:
        return
    assert len(names) == len(set(names)) > 0


def test_class_files(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("dust,1\nerror,0\n")
    assert read_classes(path) == ("error", "dust")
    path.write_text("dust\nerror\n\n")
    assert read_classes(path) == ("dust", "error")
    for content, says in {
        "": "no class name",
        "a\na": "line 2: the class 'a' occurs twice",
        "a,0\nb,0": "line 2: the number 0",
        "a,0\nb,2": "count from 0 to 1",
        "a,b": "line 1",
    }.items():
        path.write_text(content)
        assert says in problems_of(read_classes, path)


def test_reads_a_folder_of_xml(folder):
    for name in ("b.png", "a.png", "하위/c.png"):
        folder.image(name)
    folder.xml("b", (0, 0, 40, 30), (1, 2, 3, 4))
    folder.xml("a")
    folder.xml("sub/c", (5, 5, 6, 6), label="dust")
    normal, full, sub = folder.read()
    assert (normal.image, normal.is_normal) == ("a.png", True)
    assert full.xyxy.tolist() == [[0, 0, 40, 30], [1, 2, 3, 4]]
    assert (sub.image, sub.source) == ("하위/c.png", "sub/c.xml")
    assert classes_of([normal, full, sub]) == ("dust", "error")


def test_images_are_found_by_name_however_it_was_written(folder):
    folder.image("웨이퍼.png")
    folder.xml("1", image="웨이퍼.png", image_path="/gone/웨이퍼.png")
    assert folder.read()[0].image == "웨이퍼.png"


def test_images_are_found_by_the_name_of_the_xml(folder):
    folder.image("a.bmp")
    folder.xml("a", image="old name.jpg")
    assert folder.read()[0].image == "a.bmp"


def test_an_image_beside_wins_over_one_elsewhere(folder):
    folder.image("x/a.png")
    folder.image("y/a.png")
    folder.xml("x/a", (1, 1, 2, 2))
    folder.xml("y/a")
    assert [(item.image, len(item)) for item in folder.read()] == [("x/a.png", 1), ("y/a.png", 0)]
    folder.xml("a")
    assert "more than once" in problems_of(folder.read)


def test_unlabelled_images_are_skipped_or_normal(folder):
    folder.image("a.png")
    folder.image("b.png")
    folder.xml("a", (1, 1, 2, 2))
    assert [item.image for item in folder.read()] == ["a.png"]
    assert [len(item) for item in folder.read(unlabelled="normal")] == [1, 0]
    assert [len(item) for item in folder.labels(unlabelled="normal")] == [1, 0]
    assert [len(item) for item in folder.labels()] == [1]


def test_boxes_reaching_outside_are_clipped_with_a_word(folder, caplog):
    folder.image("a.png")
    folder.xml("a", (-3, 5, 50, 12), (0, 0, 40, 30))
    notes = []
    assert folder.read(warnings=notes)[0].xyxy.tolist() == [[0, 5, 40, 12], [0, 0, 40, 30]]
    (note,) = notes
    assert "a.xml, line" in note
    assert "was clipped" in note
    folder.read()
    assert "was clipped" in caplog.text


def test_every_fault_is_reported_with_its_file_and_line(folder):
    for name in "abcde":
        folder.image(f"{name}.png")
    for name, box in {"a": "5 5 5 9", "b": "9 5 5 9", "c": "50 5 60 9"}.items():
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
        inner = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
        (folder.annotations / f"{name}.xml").write_text(
            f"<annotation>\n<object><name>e</name><bndbox>{inner}</bndbox></object></annotation>"
        )
    (folder.annotations / "d.xml").write_text("<annotation>")
    folder.xml("e")
    folder.xml("second", image="e.png")
    folder.xml("gone")
    problems = problems_of(folder.read)
    for says in (
        "a.xml, line 2: the box (5, 5, 5, 9) has no area",
        "b.xml, line 2: the box (9, 5, 5, 9) is inverted",
        "c.xml, line 2: the box (50, 5, 60, 9) lies outside",
        "d.xml, line 1: is not well-formed",
        "second.xml: names the image e.png",
        "gone.xml: the image 'gone.png' is not in",
    ):
        assert says in problems


def test_another_stated_size_is_mentioned(folder):
    folder.image("a.png")
    folder.xml("a", (1, 1, 2, 2), size=(400, 300, 3))
    notes = []
    folder.read(warnings=notes)
    assert "states an image of 400 x 300" in notes[0]


def test_missing_folders_are_input_errors(folder, tmp_path):
    assert "no folder" in problems_of(read_annotations, tmp_path / "x", folder.images)
    assert "no folder" in problems_of(read_annotations, folder.annotations, tmp_path / "x")
    assert "label images first" in problems_of(folder.labels)


def age(path: Path, seconds: float) -> None:
    stamp = path.stat().st_mtime + seconds
    os.utime(path, (stamp, stamp))


def test_training_converts_by_itself(folder):
    folder.image("a.png")
    folder.image("b.png")
    path = folder.xml("a", (1, 1, 2, 2))
    assert folder.labels() == folder.read()
    assert folder.table.is_file()
    folder.xml("a", (3, 3, 9, 9))
    age(path, 10)
    assert folder.labels()[0].xyxy.tolist() == [[3, 3, 9, 9]]
    age(folder.table, 20)
    age(folder.xml("b", (4, 4, 5, 5)), -1000)
    assert [item.image for item in folder.labels()] == ["a.png", "b.png"]
    path.unlink()
    assert [item.image for item in folder.labels()] == ["b.png"]


def test_a_fresh_table_is_taken_without_parsing(folder):
    folder.image("a.png")
    path = folder.xml("a", (1, 1, 2, 2))
    before = folder.labels()
    stamp = path.stat().st_mtime_ns
    path.write_text("no XML any more")
    os.utime(path, ns=(stamp, stamp))
    assert folder.labels() == before


def test_an_xml_saved_while_the_table_is_made_is_read_again(folder, monkeypatch):
    folder.image("a.png")
    age(folder.xml("a", (1, 1, 2, 2)), -10)
    write = table.write_table

    def saved_meanwhile(path, labels):
        folder.xml("a", (3, 3, 9, 9))
        write(path, labels)

    monkeypatch.setattr(table, "write_table", saved_meanwhile)
    folder.labels()
    monkeypatch.undo()
    assert folder.labels()[0].xyxy.tolist() == [[3, 3, 9, 9]]


def test_rows_without_xml_survive_a_conversion(folder):
    for name in "abc":
        folder.image(f"{name}.png")
    folder.table.write_text(HEADER + "b.png,1,2,3,4,dust,0,\nc.png,,,,,,,\nd.png,,,,,,,\n")
    age(folder.xml("a", (1, 1, 2, 2)), 10)
    notes = []
    assert [len(item) for item in folder.labels(warnings=notes)] == [1, 1, 0]
    assert "d.png are dropped" in notes[0]
    assert [item.image for item in read_table(folder.table)] == ["a.png", "b.png", "c.png"]


def test_a_table_alone_is_enough(folder):
    folder.image("a.png")
    folder.table.write_text("/old/place/a.png,1,2,99,4,error\n")
    notes = []
    (item,) = folder.labels(warnings=notes)
    assert (item.image, item.xyxy.tolist()) == ("a.png", [[1, 2, 40, 4]])
    assert "was clipped" in notes[0]
    folder.table.write_text("b.png,1,2,9,4,error\n")
    assert "'b.png' is not in" in problems_of(folder.labels)


def test_paths_relative_to_the_table_are_found(folder):
    folder.image("x/a.png")
    folder.image("y/a.png")
    rows = ("../images_900/y/a.png", "y/a.png", str(folder.images / "y/a.png"), "gone.png")
    folder.table.write_text("".join(f"{row},1,2,3,4,e\n" for row in rows))
    first, lost = read_table(folder.table, images_dir=folder.images)
    assert (first.image, len(first)) == ("y/a.png", 3)
    assert lost.image == rows[-1]


def test_a_read_only_folder_is_left_alone(folder):
    folder.image("a.png")
    folder.xml("a", (1, 1, 2, 2))
    folder.annotations.chmod(0o555)
    try:
        assert folder.labels() == folder.read()
        assert not folder.table.exists()
    finally:
        folder.annotations.chmod(0o755)


def test_one_based_files_are_converted_each_time(folder):
    folder.image("a.png")
    folder.xml("a", (1, 1, 40, 30))
    assert folder.labels(one_based=True)[0].xyxy.tolist() == [[0, 0, 40, 30]]
    assert folder.labels()[0].xyxy.tolist() == [[1, 1, 40, 30]]
    assert folder.labels(one_based=True)[0].xyxy.tolist() == [[0, 0, 40, 30]]


def test_xml_to_table_to_xml_keeps_everything(folder, tmp_path):
    folder.image("하위/가.png")
    folder.image("b.png")
    folder.xml("하위/가", (0, 0, 40, 30), (1, 2, 3, 4), label="찍힘 1", difficult=[True, False])
    folder.xml("b")
    labels = folder.read()
    write_table(tmp_path / "a.csv", labels)
    to_voc(read_table(tmp_path / "a.csv"), folder.images, tmp_path / "back")
    assert read_annotations(tmp_path / "back", folder.images) == labels


def test_existing_xml_is_not_replaced(folder, tmp_path):
    folder.image("a.png")
    folder.image("a.bmp")
    labels = [ImageLabels("a.png", [])]
    to_voc(labels, folder.images, tmp_path / "out")
    assert "exists" in problems_of(to_voc, labels, folder.images, tmp_path / "out")
    to_voc(labels, folder.images, tmp_path / "out", overwrite=True)
    both = [*labels, ImageLabels("a.bmp", [])]
    assert "shares" in problems_of(to_voc, both, folder.images, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("name", "boxes"), [("neu_det", 3339), ("deeppcb", 6873)])
def test_published_sets_lose_no_box(tmp_path, name, boxes):
    source = DATA / name
    if not source.is_dir():
        pytest.skip(f"{name} is not there; set INSPECTION_DATA")
    shutil.copytree(source / "annotations", tmp_path / "annotations")
    (tmp_path / "annotations").chmod(0o755)
    notes = []
    labels = labels_for(tmp_path / "annotations", source / "images", warnings=notes)
    assert sum(map(len, labels)) == boxes
    assert len(classes_of(labels)) == 6
    assert notes == []
    assert read_table(tmp_path / "annotations" / "annotations.csv") == labels


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("../../victim.png", "leads out of the folder"),
        ("/etc/victim.png", "leads out of the folder"),
        ("C:\\victim.png", "leads out of the folder"),
        ("a" * 300, "is longer than a file's name can be"),
    ],
)
def test_names_that_cannot_be_of_the_folder_are_refused_with_their_line(folder, image, says):
    folder.image("a.png")
    folder.table.write_text(f"a.png,1,2,3,4,e\n{image},1,2,3,4,e\n")
    problems = problems_of(read_table, folder.table, images_dir=folder.images)
    assert f"{folder.table}, line 2: the image" in problems
    assert says in problems


def test_classes_of_thousands_of_digits_are_problems_of_their_line(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text(f"dot,0\nscratch,{'9' * 5000}\n{'x' * 300},2\n")
    problems = problems_of(read_classes, path)
    assert f"{path}, line 2: must be a class name" in problems
    assert f"{path}, line 3: the name has 300 characters" in problems
    (tmp_path / "a.csv").write_text(f"a.png,1,2,3,4,{'9' * 5000}\n")
    problems = problems_of(read_table, tmp_path / "a.csv")
    assert "line 1: the class name has 5000 characters" in problems
    assert len(problems) < 300


def test_a_table_made_of_predictions_is_not_taken(folder):
    folder.image("a.png")
    path = folder.xml("a", (1, 1, 5, 5))
    folder.labels()
    sign = seal(PREDICTION, np.array([[1, 1, 5, 5]]), ["error"], [False])
    state = path.stat()
    path.write_text(path.read_text(encoding="utf-8").replace("Unknown", sign), encoding="utf-8")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "is a prediction that nobody has looked at" in problems_of(folder.labels)
