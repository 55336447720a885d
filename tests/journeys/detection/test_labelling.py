"""Labelling: clear refusals, and labelImg driven by a real mouse and keyboard under Xvfb."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageGrab

from detection.labelling import launch as labelling_module
from detection.labelling.launch import label
from inspection.data.images import write_image
from inspection.data.voc import PROPOSAL, is_sealed, read_voc, seal, write_voc
from inspection.errors import InputError
from tests.journeys.detection.desktop import Box, Desktop, skip_without_qt, wait_for

GREY, GREEN = (90, 90, 90), (0, 255, 0)

# Whoever starts labelImg from a test starts it as a user does: from a process of its own.
LABEL = """
import sys
from detection.labelling.launch import label
sys.exit(label(*sys.argv[1:3], proposals=(sys.argv[3:] or [None])[0]))
"""
WRITE_SETTINGS = """
import pickle, sys
from PyQt5.QtGui import QColor
from libs.labelFile import LabelFileFormat
settings = {
    "labelFileFormat": LabelFileFormat.YOLO,
    "lastOpenDir": sys.argv[2],
    "savedir": sys.argv[2],
    "autosave": False,
    "paintlabel": True,
    "singleclass": False,
    "line/color": QColor(1, 2, 3, 128),
}
pickle.dump(settings, open(sys.argv[1], "wb"))
"""
READ_SETTINGS = """
import pickle, sys
settings = pickle.load(open(sys.argv[1], "rb"))
print(settings["labelFileFormat"].name, settings["lastOpenDir"], settings["autosave"],
      settings["paintlabel"], settings["line/color"].getRgb(), sep="|")
"""


def run_python(code: str, desktop: Desktop, *arguments: object) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=desktop.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@contextlib.contextmanager
def labelling(desktop: Desktop, folder: Path, *proposals: str) -> Iterator[subprocess.Popen[str]]:
    log = folder / "labelling.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", LABEL, "영상 900", "주석", *proposals],
            cwd=folder,
            env=desktop.environment,
            stdout=stream,
            stderr=stream,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        print(log.read_text(errors="replace"))
        ImageGrab.grab(xdisplay=desktop.display).save(folder / "failed.png")
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def write_marked(path: Path, size: tuple[int, int], box: Box) -> None:
    """A grey image with one green "defect", which can be found again on a screenshot."""
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = GREEN
    write_image(path, image)


def see_defect(desktop: Desktop, size: tuple[int, int]) -> Box:
    """The defect's edges on the screen, once it is drawn with sides of this ratio."""

    def look() -> Box | None:
        box = desktop.pixels(GREEN)
        if box is None:
            return None
        ratio = (box[2] - box[0]) / (box[3] - box[1])
        return box if abs(ratio / (size[0] / size[1]) - 1) < 0.05 else None

    return wait_for("the defect on the screen", look)


def see_change(desktop: Desktop, before: Box, cause: str) -> Box:
    """The defect's edges once they differ from `before` and keep still."""
    latest = before

    def look() -> bool:
        nonlocal latest
        previous, latest = latest, desktop.pixels(GREEN) or before
        return latest == previous != before

    wait_for(cause, look)
    return latest


def draw_around(desktop: Desktop, window: str, box: Box) -> str:
    """Draws a box on the screen and returns the dialog that asks for its class."""
    before = set(desktop.windows(".*"))
    desktop.press(window, "w")
    desktop.drag(box[:2], box[2:])
    return wait_for(
        "the label dialog", lambda: next(iter(set(desktop.windows(".*")) - before), None)
    )


def assert_drawn(path: Path, name: str, size: tuple[int, int], box: Box) -> None:
    content = read_voc(path)
    assert (content.width, content.height, content.depth) == (*size, 3)
    assert [item.name for item in content.objects] == [name]
    np.testing.assert_allclose(content.objects[0].xyxy, box, atol=2.5)


@pytest.mark.display
def test_boxes_drawn_with_a_mouse_become_voc(desktop: Desktop, tmp_path: Path) -> None:
    images, annotations, elsewhere = (tmp_path / n for n in ("영상 900", "주석", "elsewhere"))
    first, second = (300, 420), (360, 360)
    write_marked(images / "웨이퍼 01.png", first, (60, 130, 160, 180))
    write_marked(images / "칩 02.bmp", second, (200, 150, 230, 270))
    write_marked(elsewhere / "decoy.png", (300, 300), (10, 10, 290, 290))
    write_voc(
        annotations / "old.xml", "old.png", (9, 9, 3), [(1, 1, 5, 5)] * 2, ["1번 긁힘", "particle"]
    )
    # A folder of the user's with the name of one of labelImg's packages.
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "__init__.py").touch()
    settings = Path(desktop.environment["HOME"]) / ".labelImgSettings.pkl"
    run_python(WRITE_SETTINGS, desktop, settings, elsewhere)

    with labelling(desktop, tmp_path) as process:
        window = wait_for("labelImg's window", lambda: desktop.windows("01.png"))[0]
        box = see_defect(desktop, (100, 50))

        # With ctrl the wheel zooms, without it scrolls, and a drag over the background pans.
        desktop.do("mousemove", "--sync", box[0] + 5, box[1] + 5)
        desktop.do("keydown", "ctrl", "click", "--repeat", 6, 4, "keyup", "ctrl")
        box = see_change(desktop, box, "the zoom")
        assert box[2] - box[0] > 200
        desktop.do("click", "--repeat", 5, 5)
        scrolled = see_change(desktop, box, "the scroll")
        assert box[1] - scrolled[1] == 100
        below = scrolled[0] + 9, scrolled[3] + 99
        desktop.drag(below, (below[0], below[1] + 60))
        panned = see_change(desktop, scrolled, "the pan")
        assert 0 < panned[1] - scrolled[1] <= 60
        desktop.press(window, "ctrl+f")
        box = see_defect(desktop, (100, 50))

        # A typed beginning is completed from the classes that the annotations hold.
        dialog = draw_around(desktop, window, box)
        desktop.do("windowfocus", "--sync", dialog, "type", "--delay", 30, "part")
        desktop.press(dialog, "Down", "Return", "Return")
        wait_for("the dialog to close", lambda: dialog not in desktop.windows(".*"))

        # Going on saves by itself.
        desktop.press(window, "d")
        wait_for("the second image", lambda: desktop.windows("02.bmp"))
        assert_drawn(annotations / "웨이퍼 01.xml", "particle", first, (60, 130, 160, 180))

        dialog = draw_around(desktop, window, see_defect(desktop, (30, 120)))
        width, height = desktop.size_of(dialog)
        # The list of classes is the dialog's lower part, 192 pixels above a margin of 11.
        desktop.do("mousemove", "--window", dialog, width // 2, height - 195)
        desktop.do("click", "--repeat", 2, "--delay", 60, 1)
        wait_for("the dialog to close", lambda: dialog not in desktop.windows(".*"))
        desktop.press(window, "ctrl+s")
        xml = annotations / "칩 02.xml"
        wait_for("the second annotation", xml.exists)
        desktop.press(window, "ctrl+q")
        assert process.wait(20) == 0
        assert "Traceback" not in (tmp_path / "labelling.log").read_text()

    assert_drawn(xml, "1번 긁힘", second, (200, 150, 230, 270))
    assert sorted(path.name for path in annotations.iterdir()) == sorted(
        ["old.xml", "웨이퍼 01.xml", "칩 02.xml"]
    )
    assert run_python(READ_SETTINGS, desktop, settings) == (
        f"YOLO|{elsewhere}|False|True|(1, 2, 3, 128)"
    )


@pytest.mark.display
def test_a_proposal_becomes_an_annotation_only_when_it_is_saved(
    desktop: Desktop, tmp_path: Path
) -> None:
    images, guesses = tmp_path / "영상 900", tmp_path / "제안"
    size, box = (300, 300), (100, 100, 200, 200)
    for stem in ("a", "b", "c"):
        write_marked(images / f"{stem}.png", size, box)
        sign = seal(PROPOSAL, np.array([[90, 90, 210, 205]]), ["긁힘"], [False])
        write_voc(
            guesses / f"{stem}.xml",
            f"{stem}.png",
            (*size, 3),
            [(90, 90, 210, 205)],
            ["긁힘"],
            database=sign,
        )
    before = {path.name: path.read_bytes() for path in guesses.iterdir()}
    write_voc(tmp_path / "주석" / "c.xml", "c.png", (*size, 3), [(1, 2, 30, 40)], ["dot"])
    with labelling(desktop, tmp_path, "제안") as process:
        window = wait_for("labelImg's window", lambda: desktop.windows("a.png"))[0]
        see_defect(desktop, (1, 1))
        desktop.press(window, "ctrl+s")
        wait_for("the annotation", (tmp_path / "주석" / "a.xml").exists)
        # Only looked at: nothing is kept, although going on saves what was changed.
        desktop.press(window, "d")
        wait_for("the second image", lambda: desktop.windows("b.png"))
        desktop.press(window, "d")
        wait_for("the third image", lambda: desktop.windows("c.png"))
        desktop.press(window, "ctrl+q")
        assert process.wait(20) == 0
        assert "Traceback" not in (tmp_path / "labelling.log").read_text()
    assert_drawn(tmp_path / "주석" / "a.xml", "긁힘", size, (90, 90, 210, 205))
    assert not is_sealed(tmp_path / "주석" / "a.xml", PROPOSAL)
    assert sorted(path.name for path in (tmp_path / "주석").iterdir()) == ["a.xml", "c.xml"]
    assert read_voc(tmp_path / "주석" / "c.xml").objects[0].name == "dot"
    assert {path.name: path.read_bytes() for path in guesses.iterdir()} == before


@pytest.mark.display
def test_a_crash_is_reported_and_takes_nothing_with_it(desktop: Desktop, tmp_path: Path) -> None:
    images, annotations = tmp_path / "영상 900", tmp_path / "주석"
    size, box = (300, 300), (100, 100, 200, 200)
    for name in ("a.png", "c.png"):
        write_marked(images / name, size, box)
    (images / "b.png").write_bytes((images / "a.png").read_bytes()[:60])
    # Without classes.txt beside it labelImg cannot read this as YOLO.
    annotations.mkdir()
    (annotations / "a.txt").write_text("measured by Kim\n", encoding="utf-8")

    with labelling(desktop, tmp_path) as process:
        window = wait_for("labelImg's window", lambda: desktop.windows("a.png"))[0]
        dialog = draw_around(desktop, window, see_defect(desktop, (1, 1)))
        desktop.do("windowfocus", "--sync", dialog, "type", "--delay", 30, "scratch")
        desktop.press(dialog, "Return", "Return")
        wait_for("the dialog to close", lambda: dialog not in desktop.windows(".*"))
        desktop.press(window, "d")
        dialog = wait_for("the complaint about b.png", lambda: desktop.windows("Error opening"))[0]
        desktop.press(dialog, "Return")
        wait_for("the dialog to close", lambda: not desktop.windows("Error opening"))
        desktop.press(window, "d")
        wait_for("the image after the broken one", lambda: desktop.windows("c.png"))
        assert_drawn(annotations / "a.xml", "scratch", size, box)

        os.kill(int(desktop.do("getwindowpid", window)), signal.SIGSEGV)
        assert process.wait(20) == 128 + signal.SIGSEGV
        log = (tmp_path / "labelling.log").read_text(encoding="utf-8")
        assert f"ended by signal 11; the boxes saved until then are in {annotations}" in log
    assert_drawn(annotations / "a.xml", "scratch", size, box)


@pytest.mark.display
def test_stopped_from_the_terminal_saves_what_is_drawn(desktop: Desktop, tmp_path: Path) -> None:
    size, box = (300, 300), (100, 100, 200, 200)
    write_marked(tmp_path / "영상 900" / "a.png", size, box)
    with labelling(desktop, tmp_path) as process:
        window = wait_for("labelImg's window", lambda: desktop.windows("a.png"))[0]
        where = see_defect(desktop, (1, 1))
        dialog = draw_around(desktop, window, where)
        desktop.do("windowfocus", "--sync", dialog, "type", "--delay", 30, "scratch")
        desktop.press(dialog, "Return", "Return")
        wait_for("the dialog to close", lambda: dialog not in desktop.windows(".*"))
        draw_around(desktop, window, (where[0], where[1], where[0] + 40, where[1] + 40))
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does; the second box has no name yet
        assert process.wait(20) != 0
    assert_drawn(tmp_path / "주석" / "a.xml", "scratch", size, box)


def test_an_unreachable_display_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    skip_without_qt()
    write_marked(tmp_path / "images" / "a.png", (30, 30), (1, 1, 9, 9))
    monkeypatch.setenv("DISPLAY", ":9753")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    capfd.readouterr()
    with pytest.raises(InputError) as caught:
        label(tmp_path / "images", tmp_path / "annotations")
    (problem,) = caught.value.problems
    # Without a library that Qt's plugin links to, no display could be used: that comes first.
    library = labelling_module._missing_library(labelling_module._load_xcb())
    if library:
        assert problem.startswith(f"labelImg cannot open a window: the system library {library}")
    else:
        assert problem.startswith("labelImg needs a display and cannot use ':9753'")
    assert "packages-debian.txt" in problem
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("loader", "expected"),
    [
        ("", "labelImg needs a display and cannot use ':9753'"),
        (
            "OSError: libxcb-icccm.so.4: cannot open shared object file: No such file",
            "labelImg cannot open a window: the system library libxcb-icccm.so.4 is missing",
        ),
    ],
)
def test_a_missing_library_is_named_before_the_display(tmp_path, monkeypatch, loader, expected):
    """Qt says the same in both cases; only loading its plugin tells them apart."""
    log = tmp_path / "log.txt"
    log.write_text('qt.qpa.plugin: Could not load the Qt platform plugin "xcb"\n')
    monkeypatch.setenv("DISPLAY", ":9753")
    monkeypatch.setattr(labelling_module, "_load_xcb", lambda: loader)
    assert labelling_module._why_not_started(log, 134).startswith(expected)


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_display")
class TestRefusals:
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can lack one")
    def test_no_display(self, tmp_path: Path) -> None:
        write_marked(tmp_path / "a.png", (30, 30), (1, 1, 9, 9))
        with pytest.raises(InputError, match="labelImg needs a display: run this on a desktop"):
            label(tmp_path, tmp_path / "annotations")
        assert not (tmp_path / "annotations").exists()

    def test_missing_and_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"없음: there is no such folder.*resize SRC"):
            label(tmp_path / "없음", tmp_path)
        with pytest.raises(InputError, match="holds no images"):
            label(tmp_path, tmp_path)

    def test_nowhere_to_save(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPLAY", ":9753")
        write_marked(tmp_path / "a.png", (30, 30), (1, 1, 9, 9))
        (tmp_path / "annotations").write_text("a file, not a folder")
        with pytest.raises(InputError, match="annotations: nothing can be saved there"):
            label(tmp_path, tmp_path / "annotations")

    def test_all_problems_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("a.png", "sub/a.bmp", "b.png"):
            write_marked(tmp_path / "images" / name, (30, 30), (1, 1, 9, 9))
        annotations = tmp_path / "annotations"
        annotations.mkdir()
        (annotations / "b.xml").write_text("<annotation><object></annotation>")
        (annotations / "foreign.xml").write_text("<other>")
        find_spec = "detection.labelling.launch.importlib.util.find_spec"
        monkeypatch.setattr(find_spec, lambda name: None if name == "labelImg" else True)
        with pytest.raises(InputError) as caught:
            label(tmp_path / "images", annotations, classes=["scratch", "two\nlines"])
        text = str(caught.value)
        assert "a.png and sub/a.bmp would share the annotation a.xml" in text
        assert "b.xml, line 1" in text
        assert "b.xml: labelImg cannot read this file and would overwrite it" in text
        assert "foreign.xml" not in text
        assert "'two\\nlines' is no class name" in text
        assert "labelImg, which is not installed" in text
