"""The simulator in a real browser: the threshold is dragged, the figures follow."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.journeys.browser import chromium, free_port, served, until
from tests.places import ROOT

pytestmark = pytest.mark.browser


@pytest.fixture
def address(runs, tmp_path):
    run = shutil.copytree(runs / "patchcore", tmp_path / "런")
    port = free_port()
    command = [sys.executable, "-m", "anomaly", "simulate", str(run), "--no-browser"]
    with served([*command, "--port", str(port)], port, ROOT, tmp_path) as place:
        yield place


@pytest.fixture
def browser():
    with chromium() as driver:
        yield driver


def test_figures_follow_a_dragged_threshold_and_a_bar_shows_its_images(
    address, browser, tmp_path: Path
):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    def all_of(selector: str) -> list:
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def figures() -> list[str]:
        return [one.text for one in all_of("[data-testid=stMetricValue]")]

    browser.get(address)
    until(lambda: len(figures()) == 3 and all_of(".barlayer .point path"))
    before = figures()
    value = all_of(".st-key-threshold [data-testid=stSliderThumbValue]")[0]
    handle = value.find_element(By.XPATH, "..")

    def centre(element) -> float:
        return element.rect["x"] + element.rect["width"] / 2

    def apart() -> float:
        return abs(centre(handle) - centre(all_of(".shapelayer path")[-1]))

    until(lambda: apart() < 3)
    ActionChains(browser).click_and_hold(handle).move_by_offset(250, 0).release().perform()
    until(lambda: figures() != before and len(figures()) == 3)
    assert figures()[0] not in ("", before[0]), "fewer defects are found at a higher threshold"

    until(lambda: apart() < 3)

    ActionChains(browser).move_to_element(all_of(".barlayer .point path")[0]).click().perform()
    tab = next(one for one in all_of("[role=tab]") if "bar" in one.text)
    tab.click()
    until(lambda: len(all_of("[data-testid=stImage] img")) >= 2)


def test_the_image_and_its_map_are_on_the_screen_while_it_plays(address, browser):
    from selenium.webdriver.common.by import By

    def pictures() -> list:
        return browser.find_elements(By.CSS_SELECTOR, "[data-testid=stImage] img")

    for width, height in ((1920, 1080), (412, 915)):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(address)
        start = "[class*=st-key-start] button:not([disabled])"
        until(lambda s=start: browser.find_elements(By.CSS_SELECTOR, s))[0].click()

        def on_the_screen(height=height) -> bool:
            edges = [(one.rect["y"], one.rect["y"] + one.rect["height"]) for one in pictures()[:2]]
            return len(edges) == 2 and all(0 < top < end <= height for top, end in edges)

        until(on_the_screen)
    assert "stAppDeployButton" not in browser.page_source
