"""The simulator in a real browser: the threshold is dragged, the figures follow."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.browser import chromium, free_port, needs_browser, served, until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = needs_browser


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
