"""The simulator in a real browser: the threshold is dragged, the figures follow."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)


def until(condition: Callable[[], object], seconds: float = 60):
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


@pytest.fixture
def address(runs, tmp_path):
    run = shutil.copytree(runs / "patchcore", tmp_path / "런")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "anomaly", "simulate", str(run), "--no-browser"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=log,
            stderr=log,
            env=os.environ | {"HOME": str(tmp_path)},
            start_new_session=True,
        )
    place = f"http://127.0.0.1:{port}"
    try:
        until(lambda: urllib.request.urlopen(f"{place}/_stcore/health", timeout=1).status == 200)
        yield place
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


@pytest.fixture
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument("--window-size=1500,1400")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_figures_follow_a_dragged_threshold_and_a_bar_shows_its_pictures(
    address, browser, tmp_path: Path
):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    def all_of(selector: str) -> list:
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def figures() -> list[str]:
        return [one.text for one in all_of("[data-testid=stMetricValue]")]

    browser.get(address)
    until(lambda: len(figures()) == 4 and all_of(".barlayer .point path"))
    before = figures()
    handle = all_of("[data-testid=stSliderThumbValue]")[0].find_element(By.XPATH, "..")
    ActionChains(browser).click_and_hold(handle).move_by_offset(600, 0).release().perform()
    until(lambda: figures() != before and len(figures()) == 4)
    assert figures()[0] not in ("", before[0]), "fewer defects are found at a higher threshold"

    ActionChains(browser).move_to_element(all_of(".barlayer .point path")[0]).click().perform()
    tab = next(one for one in all_of("[role=tab]") if "bar" in one.text)
    tab.click()
    until(lambda: len(all_of("[data-testid=stImage] img")) >= 2)
