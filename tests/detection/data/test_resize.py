import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detection.data.check import check
from detection.data.resize import resize
from inspection.data.images import image_size, read_image, write_image
from inspection.data.voc import PREDICTION, read_voc, seal, write_voc
from inspection.errors import InputError

RNG = np.random.default_rng(0)


class Folder:
    """Sources of 80 x 40 pixels, and where results go."""

    def __init__(self, root: Path) -> None:
        self.src, self.images, self.annotations = root / "원본", root / "images", root / "xml"
        self.src.mkdir()

    def image(self, name: str, width: int = 80, height: int = 40) -> Path:
        path = self.src / name
        write_image(path, RNG.integers(0, 256, (height, width, 3), np.uint8))
        return path

    def xml(self, name: str, *boxes: tuple[float, ...], size: tuple[int, int] = (80, 40)) -> Path:
        path = self.src / f"{name}.xml"
        write_voc(path, f"{name}.png", (*size, 3), boxes, ["error"] * len(boxes))
        return path

    def resize(self, **options):
        return resize(self.src, self.images, self.annotations, **{"size": 160, **options})

    def boxes(self, name: str) -> list[list[float]]:
        return read_voc(self.annotations / f"{name}.xml").xyxy.tolist()


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def age(path: Path, seconds: float) -> None:
    stamp = path.stat().st_mtime + seconds
    os.utime(path, (stamp, stamp))


def test_letterbox_carries_boxes_along(folder):
    folder.image("웨이퍼 1.png")
    folder.xml("웨이퍼 1", (0, 0, 80, 40), (10, 5, 20, 15))
    result = folder.resize()
    assert (result.written, result.annotations, result.problems) == (1, 1, ())
    assert image_size(folder.images / "웨이퍼 1.png") == (160, 160)
    assert folder.boxes("웨이퍼 1") == [[0, 40, 160, 120], [20, 50, 40, 70]]
    voc = read_voc(folder.annotations / "웨이퍼 1.xml")
    assert (voc.filename, voc.width, voc.height) == ("웨이퍼 1.png", 160, 160)
    assert check(folder.annotations, folder.images) == []


def test_stretch_fills_the_square(folder):
    folder.image("a.png")
    folder.xml("a", (10, 5, 20, 15))
    folder.resize(mode="stretch")
    assert folder.boxes("a") == [[20, 20, 40, 60]]


def test_the_image_under_a_box_stays(folder):
    image = np.zeros((40, 80, 3), np.uint8)
    image[5:15, 10:20] = 255
    write_image(folder.src / "a.png", image)
    folder.xml("a", (10, 5, 20, 15))
    folder.resize()
    x1, y1, x2, y2 = (int(edge) for edge in folder.boxes("a")[0])
    assert read_image(folder.images / "a.png")[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 200


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".BMP", ".tif"])
def test_the_right_size_passes_pixel_for_pixel(folder, suffix):
    path = folder.image(f"a{suffix}", 160, 160)
    folder.resize()
    assert np.array_equal(read_image(folder.images / "a.png"), read_image(path))


def test_deep_and_turned_files(folder):
    deep = np.full((40, 80), 2048, np.uint16)
    (folder.src / "deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40), (9, 9, 9)).save(folder.src / "turned.png", exif=exif)
    folder.xml("turned", (0, 0, 40, 80), size=(40, 80))
    assert folder.resize(bits=12).problems == ()
    assert read_image(folder.images / "deep.png")[80, 80, 0] == 128
    assert folder.boxes("turned") == [[40, 0, 120, 160]]


def test_a_second_run_has_nothing_to_do(folder):
    folder.image("a.png")
    folder.xml("a", (10, 5, 20, 15))
    folder.resize()
    before = {p: p.stat().st_mtime_ns for p in folder.images.parent.rglob("*") if p.is_file()}
    result = folder.resize()
    assert (result.written, result.unchanged, result.annotations) == (0, 1, 0)
    after = {p: p.stat().st_mtime_ns for p in folder.images.parent.rglob("*") if p.is_file()}
    assert before == after


def test_what_changed_is_done_again(folder):
    path = folder.image("a.png")
    folder.image("b.png")
    folder.xml("a", (10, 5, 20, 15))
    folder.resize()
    folder.image("a.png")
    age(path, 5)
    folder.xml("a", (0, 0, 20, 20))
    result = folder.resize()
    assert (result.written, result.unchanged, result.annotations) == (1, 1, 1)
    assert folder.boxes("a") == [[0, 40, 40, 80]]
    result = folder.resize(mode="stretch")
    assert (result.written, result.annotations) == (2, 1)
    assert folder.boxes("a") == [[0, 0, 40, 80]]


def test_a_killed_run_goes_on(folder):
    folder.image("a.png")
    folder.image("b.png")
    folder.xml("a", (10, 5, 20, 15))
    folder.resize()
    (folder.images / "b.png").unlink()
    (folder.annotations / "a.xml").unlink()
    result = folder.resize()
    assert (result.written, result.unchanged, result.annotations) == (1, 1, 1)


def human_edit(folder: Folder) -> Path:
    """What labelImg leaves behind when a human saves a box."""
    path = folder.annotations / "a.xml"
    write_voc(path, "a.png", (160, 160, 3), [[1, 2, 3, 4]], ["dust"])
    return path


def test_labels_of_a_human_stay(folder):
    folder.image("a.png")
    folder.xml("a", (10, 5, 20, 15))
    folder.resize()
    human_edit(folder)
    result = folder.resize()
    assert (result.kept, result.annotations, result.problems) == (1, 0, ())
    assert folder.boxes("a") == [[1, 2, 3, 4]]
    assert folder.resize(force=True).annotations == 1
    assert folder.boxes("a") == [[20, 50, 40, 70]]


def test_an_edit_by_hand_makes_labels_a_humans(folder):
    folder.image("a.png")
    folder.xml("a", (10, 5, 20, 15))
    folder.resize()
    path = folder.annotations / "a.xml"
    path.write_text(path.read_text().replace("<xmin>20<", "<xmin>21<"))
    folder.xml("a", (0, 0, 20, 20))
    assert folder.resize().kept == 1
    assert folder.boxes("a") == [[21, 50, 40, 70]]


def test_a_image_does_not_change_under_a_humans_boxes(folder):
    folder.image("a.png")
    folder.resize()
    human_edit(folder)
    before = (folder.images / "a.png").read_bytes()
    result = folder.resize(mode="stretch")
    assert "would not fit" in result.problems[0]
    assert (folder.images / "a.png").read_bytes() == before


def test_another_image_of_the_same_name_does_not_come_under_a_humans_boxes(folder):
    folder.image("a.png")
    folder.resize()
    human_edit(folder)
    before = (folder.images / "a.png").read_bytes()
    folder.image("a.png")  # taken again: other pixels, the same size
    (problem,) = folder.resize().problems
    assert "would not fit" in problem
    assert (folder.images / "a.png").read_bytes() == before
    assert folder.resize(force=True).written == 1


def test_a_file_of_another_folder_does_not_take_a_name_that_is_taken(folder, tmp_path):
    folder.image("a.png")
    folder.resize()
    before = (folder.images / "a.png").read_bytes()
    other = tmp_path / "camera B"
    other.mkdir()
    write_image(other / "a.png", np.zeros((40, 80, 3), np.uint8))
    (problem,) = resize(other, folder.images, folder.annotations, size=160).problems
    assert "another file" in problem
    assert (folder.images / "a.png").read_bytes() == before


def test_a_moved_and_touched_source_is_up_to_date(folder, tmp_path):
    folder.image("a.png")
    folder.resize()
    human_edit(folder)
    moved = folder.src.rename(tmp_path / "elsewhere")
    age(moved / "a.png", 100)
    result = resize(moved, folder.images, folder.annotations, size=160)
    assert (result.unchanged, result.written, result.problems) == (1, 0, ())


def test_a_image_and_its_boxes_change_together_or_not_at_all(folder):
    folder.image("a.png")
    folder.xml("a", (10, 5, 20, 15))
    folder.resize()
    before = (folder.images / "a.png").read_bytes(), folder.boxes("a")
    folder.xml("a", (10, 5, 20, 15), size=(160, 120))
    (problem,) = folder.resize(mode="stretch").problems
    assert "correct <size>" in problem
    assert ((folder.images / "a.png").read_bytes(), folder.boxes("a")) == before


def test_a_image_of_other_origin_stays(folder):
    folder.image("a.png")
    write_image(folder.images / "a.png", np.zeros((160, 160, 3), np.uint8))
    result = folder.resize()
    assert "was not made by resize" in result.problems[0]
    assert result.written == 0
    assert read_image(folder.images / "a.png").max() == 0
    assert folder.resize(force=True).problems == ()
    assert read_image(folder.images / "a.png").max() > 0


def test_two_sources_of_one_name(folder):
    (folder.src / "sub").mkdir()
    folder.image("a.png")
    folder.image("sub/A.jpg")
    folder.image("b.png")
    result = folder.resize()
    (problem,) = result.problems
    assert "different names" in problem
    assert result.written == 1
    assert not (folder.images / "a.png").exists()


def test_goes_on_past_bad_files(folder):
    folder.image("a.png")
    (folder.src / "b.png").write_bytes(b"no image")
    content = folder.image("c.png").read_bytes()
    (folder.src / "c.png").write_bytes(content[: len(content) // 2])
    folder.image("d.png")
    folder.xml("d", (10, 5, 20, 15), size=(40, 80))
    seen = []
    result = folder.resize(on_progress=lambda done, total: seen.append((done, total)))
    assert result.written == 2
    assert [name in "".join(result.problems) for name in ("b.png", "c.png", "d.xml")] == [True] * 3
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert not (folder.annotations / "d.xml").exists()


def test_boxes_that_cannot_be_used_are_named(folder):
    folder.image("a.png")
    folder.xml("a", (100, 5, 120, 15))
    result = folder.resize()
    assert "a.xml, line" in result.problems[0]
    assert result.written == 1


def test_annotations_in_a_folder_of_their_own(folder, tmp_path):
    folder.image("하위/a.jpg")
    write_voc(tmp_path / "src xml/1.xml", "a.jpg", (80, 40, 3), [[10, 5, 20, 15]], ["error"])
    write_voc(tmp_path / "src xml/2.xml", "gone.jpg", (80, 40, 3), [], [])
    result = folder.resize(source_annotations=tmp_path / "src xml")
    assert folder.boxes("a") == [[20, 50, 40, 70]]
    assert "1 XML files belong to no single image" in result.problems[0]


def test_one_based_boxes(folder):
    folder.image("a.png")
    folder.xml("a", (1, 1, 80, 40))
    folder.resize(one_based=True)
    assert folder.boxes("a") == [[0, 40, 160, 120]]


def test_without_an_annotations_folder_none_are_written(folder):
    folder.image("a.png")
    folder.xml("a", (10, 5, 20, 15))
    assert resize(folder.src, folder.images, size=64).annotations == 0


def test_a_single_file(folder):
    path = folder.image("a.png")
    folder.image("b.png")
    folder.xml("a", (10, 5, 20, 15))
    result = resize(path, folder.images, folder.annotations, size=160)
    assert (result.written, result.annotations) == (1, 1)


def test_results_below_the_source_are_no_sources(folder):
    folder.image("a.png")
    for _ in range(2):
        result = resize(folder.src, folder.src / "images_900", size=64)
        assert result.problems == ()
    assert result.unchanged == 1


def test_sources_are_never_overwritten(folder):
    path = folder.image("a.png")
    folder.image("b.png", 64, 64)
    before = path.read_bytes()
    result = resize(folder.src, folder.src, size=64)
    assert "another folder" in result.problems[0]
    assert (len(result.problems), result.unchanged) == (1, 1)
    assert path.read_bytes() == before


def test_nothing_to_do_is_an_input_error(folder, tmp_path):
    for source, said in (
        (folder.src, "PNG, JPEG, BMP or TIFF"),
        (tmp_path / "none", "there is no such file or folder"),
    ):
        with pytest.raises(InputError, match=said):
            resize(source, folder.images)
    with pytest.raises(ValueError, match="letterbox or stretch"):
        folder.resize(mode="crop")


def test_a_box_outside_is_reported_and_not_clipped(folder):
    folder.image("a.png")
    folder.xml("a", (10, 5, 20, 15), (60, 5, 107, 15))
    result = folder.resize()
    (problem,) = result.problems
    assert "the box (60, 5, 107, 15) reaches outside the image of 80 x 40 pixels" in problem
    assert (result.written, result.annotations) == (1, 0)


def test_predictions_beside_the_sources_do_not_become_labels(folder):
    folder.image("a.png")
    path = folder.xml("a", (10, 5, 20, 15))
    sign = seal(PREDICTION, np.array([[10, 5, 20, 15]]), ["error"], [False])
    path.write_text(path.read_text(encoding="utf-8").replace("Unknown", sign), encoding="utf-8")
    result = folder.resize()
    assert "is a prediction that nobody has looked at" in result.problems[0]
    assert result.annotations == 0


def test_what_is_taken_is_said_before_anything_is_written(folder):
    for name in ("a", "b", "c"):
        folder.image(f"{name}.png")
        folder.xml(name, (10, 5, 20, 15))
    (folder.src / "docs").mkdir()
    Image.new("RGBA", (60, 30)).save(folder.src / "docs" / "chart.png")
    said = []

    def say(line):
        assert not folder.images.exists()
        said.append(line)

    assert folder.resize(say=say).written == 4
    assert said[0] == f"Taking 4 images from {folder.src}: 3 of 80 x 40, 1 of 60 x 30 in docs."
    assert "1 of them have no XML file, the others do (docs/chart.png)" in said[1]
    assert "palette or transparency" in said[2]
    assert len(said) == 3


def test_twelve_bits_in_sixteen_are_said(folder):
    deep = np.full((40, 80), 4000, np.uint16)
    (folder.src / "a.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    said = []
    folder.resize(say=said.append)
    assert "16 times too dark; give --bits 12" in said[-1]
    said.clear()
    folder.resize(say=said.append, bits=12)
    assert said == []
