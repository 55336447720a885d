"""A screen in memory with a mouse and a keyboard, for the tests of labelling."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import ImageGrab, features

from tests.places import ROOT

Box = tuple[int, int, int, int]
Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found], seconds: float = 30.0) -> Found:
    """Polls until `look` returns something true; a slow machine costs time, not the test."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {seconds:g} s in vain for {what}")


@dataclass(frozen=True)
class Desktop:
    """A screen without a window manager, seen by screenshots and driven by xdotool."""

    display: str
    environment: dict[str, str]

    def do(self, *command: object) -> str:
        run = subprocess.run(
            ["xdotool", *map(str, command)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=20,
        )
        return run.stdout

    def windows(self, name: str) -> list[str]:
        return self.do("search", "--onlyvisible", "--name", name).split()

    def size_of(self, window: str) -> tuple[int, int]:
        shell = dict(
            line.split("=") for line in self.do("getwindowgeometry", "--shell", window).split()
        )
        return int(shell["WIDTH"]), int(shell["HEIGHT"])

    def press(self, window: str, *keys: str) -> None:
        for key in keys:
            self.do("windowfocus", "--sync", window, "key", key)

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        self.do("mousemove", "--sync", *start, "mousedown", 1)
        for step in np.linspace(start, end, 8)[1:]:
            self.do("mousemove", "--sync", *np.rint(step).astype(int))
        self.do("mouseup", 1)

    def pixels(self, colour: tuple[int, int, int]) -> Box | None:
        """Edges of all that has this colour on the screen, or None."""
        screen = np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB"), int)
        rows, columns = np.nonzero((abs(screen - colour) <= 8).all(-1))
        if not len(rows):
            return None
        return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[Desktop]:
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (see packages-debian.txt)")
    if not features.check("xcb"):
        pytest.skip("this Pillow takes no screenshots")
    skip_without_qt()
    read_end, write_end = os.pipe()
    # Without -noreset the server starts anew whenever its last client leaves, which each call of
    # xdotool is until labelImg is there, and turns away whoever connects in that moment.
    screen = ["-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), *screen],
        pass_fds=[write_end],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        ready, _, _ = select.select([read_end], [], [], 30)
        number = os.read(read_end, 16).decode().strip() if ready else ""
        if not number:
            pytest.skip("Xvfb does not start here")
        home = tmp_path / "home"
        home.mkdir()
        display = f":{number}"
        environment = os.environ | {
            "HOME": str(home),
            "DISPLAY": display,
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(home),
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
            # As in containers; file names that are not ASCII must work all the same.
            "LC_ALL": "C",
            # What OpenCV with a GUI and what other tests leave behind.
            "QT_QPA_PLATFORM_PLUGIN_PATH": "/nowhere/cv2/qt/plugins",
            "QT_QPA_PLATFORM": "offscreen",
        }
        for name in ("WAYLAND_DISPLAY", "XAUTHORITY", "PYTHONUTF8"):
            environment.pop(name, None)
        yield Desktop(display, environment)
    finally:
        os.close(read_end)
        server.terminate()
        server.wait(10)


def skip_without_qt() -> None:
    probe = subprocess.run(
        [sys.executable, "-c", "import labelImg, PyQt5.QtWidgets"], capture_output=True, text=True
    )
    if probe.returncode:
        pytest.skip(f"labelImg cannot be imported: {probe.stderr.strip().splitlines()[-1]}")
