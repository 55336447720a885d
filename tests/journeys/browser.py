"""A Streamlit page in a real browser, for the tests of both rooms' pages."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def until(condition: Callable[[], object], seconds: float = 90):
    """Waits for something true; a slow machine costs time, not the test."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (WebDriverException, OSError):
            pass
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def served(command: Sequence[str], port: int, folder: Path, home: Path) -> Iterator[str]:
    """The address of a page that a command serves, while entered."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env=environment | {"HOME": str(home)},
            start_new_session=True,
        )
    place = f"http://127.0.0.1:{port}"
    try:
        until(lambda: urllib.request.urlopen(f"{place}/_stcore/health", timeout=1).status == 200)
        yield place
    finally:
        os.killpg(server.pid, 15)
        server.wait(90)  # a busy machine takes its time


@contextlib.contextmanager
def chromium(width: int = 1500, height: int = 1400) -> Iterator:
    """A headless browser, while entered."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={width},{height}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
