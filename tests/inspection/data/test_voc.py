from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from inspection.data.voc import MAX_BYTES, read_voc, whole_boxes, write_voc
from inspection.errors import InputError
from tests.places import DATA

VALID = """<annotation>
\t<folder>images_900</folder>
\t<filename>웨이퍼 1.png</filename>
\t<path>C:\\old\\웨이퍼 1.png</path>
\t<source>
\t\t<database>Unknown</database>
\t</source>
\t<size>
\t\t<width>900</width>
\t\t<height>900</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>error</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>1</truncated>
\t\t<difficult>1</difficult>
\t\t<bndbox>
\t\t\t<xmin>1</xmin>
\t\t\t<ymin>20</ymin>
\t\t\t<xmax>30</xmax>
\t\t\t<ymax>40</ymax>
\t\t</bndbox>
\t</object>
</annotation>
"""

fuzzed = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def xml(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "주석.xml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        read_voc(path)
    assert all(str(path) in problem for problem in caught.value.problems)
    return caught.value.problems


def test_reads_labelimg_as_written(xml):
    voc = read_voc(xml(VALID))
    assert (voc.filename, voc.width, voc.height, voc.depth) == ("웨이퍼 1.png", 900, 900, 3)
    assert voc.image_path == "C:\\old\\웨이퍼 1.png"
    (item,) = voc.objects
    assert (item.name, item.xyxy, item.difficult, item.line) == ("error", (1, 20, 30, 40), True, 14)


def test_one_based_files_have_their_minima_lowered(xml):
    assert read_voc(xml(VALID), one_based=True).objects[0].xyxy == (0, 19, 30, 40)


def test_absent_optional_fields_are_zero_or_empty(xml):
    voc = read_voc(
        xml(
            "<annotation><object><name>a</name><bndbox><xmin>0</xmin><ymin>0</ymin>"
            "<xmax>2.5</xmax><ymax>3</ymax></bndbox></object></annotation>"
        )
    )
    assert (voc.filename, voc.image_path, voc.width, voc.depth) == ("", "", 0, 0)
    assert voc.objects[0].xyxy == (0, 0, 2.5, 3)
    assert not voc.objects[0].difficult


def test_parts_of_an_object_are_no_objects(xml):
    part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part></object>"
    voc = read_voc(xml(VALID.replace("</object>", part)))
    assert [item.name for item in voc.objects] == ["error"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<xmin>1</xmin>", "", "line 19: <xmin> is missing"),
        ("<xmin>1<", "<xmin>left<", "line 20: <xmin> is 'left'"),
        ("<xmin>1<", "<xmin>nan<", "<xmin> is 'nan'"),
        ("<ymax>40<", "<ymax>1e30<", "<ymax> is '1e30'"),
        ("<name>error</name>", "<name> </name>", "line 14: the object has no <name>"),
        ("<difficult>1<", "<difficult>maybe<", "<difficult> is 'maybe'"),
        ("<width>900<", "<width>-900<", "<width> is -900"),
        ("</annotation>", "", "not well-formed"),
        ("annotation>", "annotations>", "outermost element is <annotations>"),
    ],
)
def test_says_what_is_wrong_and_where(xml, old, new, says):
    assert says in problems_of(xml(VALID.replace(old, new)))[0]


def test_all_problems_of_a_file_come_at_once(xml):
    broken = VALID.replace("<xmin>1<", "<xmin>a<").replace("<ymax>40<", "<ymax><")
    assert len(problems_of(xml(broken))) == 2


def test_entities_are_never_expanded(xml, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    for content in (entity + VALID.replace("error", "&x;"), (entity + VALID).encode("utf-16")):
        (problem,) = problems_of(xml(content))
        assert "document type" in problem
        assert "secret" not in problem.replace(str(tmp_path), "")


def test_huge_files_are_refused_unparsed(xml):
    assert "larger than" in problems_of(xml(b" " * (MAX_BYTES + 1)))[0]


def test_missing_file_is_an_input_error(tmp_path):
    assert "cannot be read" in problems_of(tmp_path / "none.xml")[0]


def test_round_trip_keeps_boxes_names_and_flags(tmp_path):
    path = tmp_path / "하위" / "결함 1.xml"
    boxes = np.array([[0, 0, 640, 480], [1, 2, 3, 4], [639, 479, 640, 480]], np.float32)
    names = ("찍힘", "a  b & <c>", " error")
    write_voc(path, "x/결함 1.png", (640, 480, 3), boxes, names, [True, False, True], "x")
    voc = read_voc(path)
    assert np.array_equal(voc.xyxy, boxes)
    assert tuple(item.name for item in voc.objects) == names
    assert [item.difficult for item in voc.objects] == [True, False, True]
    assert (voc.filename, voc.width, voc.height) == ("결함 1.png", 640, 480)
    assert voc.image_path == ""


def test_a_normal_image_has_a_file_without_objects(tmp_path):
    write_voc(tmp_path / "a.xml", "a.png", (9, 9, 3), [], ())
    assert read_voc(tmp_path / "a.xml").objects == ()


def test_writes_what_labelimg_writes(tmp_path):
    voc_io = pytest.importorskip("libs.pascal_voc_io", reason="labelImg is not installed")
    writer = voc_io.PascalVocWriter("images", "a.png", (480, 640, 3), local_img_path="/x/a.png")
    writer.add_bnd_box(1, 30, 60, 70, "error", 0)
    writer.add_bnd_box(20, 30, 60, 70, "찍힘", 1)
    writer.save(str(tmp_path / "theirs.xml"))
    write_voc(
        tmp_path / "ours.xml",
        "a.png",
        (640, 480, 3),
        [[1, 30, 60, 70], [20, 30, 60, 70]],
        ("error", "찍힘"),
        [False, True],
        folder="images",
        image_path="/x/a.png",
    )
    ours, theirs = (
        [(item.tag, (item.text or "").strip()) for item in etree.parse(tmp_path / name).iter()]
        for name in ("ours.xml", "theirs.xml")
    )
    assert ours == theirs
    assert len(voc_io.PascalVocReader(str(tmp_path / "ours.xml")).get_shapes()) == 2


def test_names_that_xml_cannot_hold_are_refused(tmp_path):
    with pytest.raises(InputError, match="control characters"):
        write_voc(tmp_path / "a.xml", "a.png", (9, 9, 3), [[0, 0, 1, 1]], ("a\0b",))
    assert not list(tmp_path.iterdir())


@given(
    st.lists(st.tuples(*[st.floats(0, 50, width=32)] * 4), max_size=6),
    st.integers(50, 60),
)
def test_whole_boxes_stay_within_the_image_and_near(corners, side):
    boxes = np.array([[*np.minimum(c[:2], c[2:]), *np.maximum(c[:2], c[2:])] for c in corners])
    whole = whole_boxes(boxes, side, side)
    assert (whole >= 0).all()
    assert (whole <= side).all()
    if len(boxes):
        assert (whole[:, 2:] - whole[:, :2] >= 1).all()
        assert np.abs(whole - boxes).max() <= 1


@fuzzed
@given(st.binary(max_size=300))
def test_random_bytes_are_input_errors(xml, content):
    with pytest.raises(InputError):
        read_voc(xml(content))


@fuzzed
@given(st.data())
def test_damaged_files_are_read_or_input_errors(xml, data):
    content = bytearray(VALID.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 12))
        content[start : start + length] = data.draw(st.binary(max_size=6))
    try:
        voc = read_voc(xml(bytes(content)))
    except InputError:
        return
    assert np.isfinite(voc.xyxy).all()


@pytest.mark.parametrize(("name", "boxes"), [("neu_det", 3339), ("deeppcb", 6873)])
def test_reads_published_files(name, boxes):
    folder = DATA / name / "annotations"
    if not folder.is_dir():
        pytest.skip(f"{name} is not there; set INSPECTION_DATA")
    assert sum(len(read_voc(path).objects) for path in folder.glob("*.xml")) == boxes
