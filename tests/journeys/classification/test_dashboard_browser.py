"""The CAM dashboard in a real browser, at a phone's and a wide screen's width."""

from __future__ import annotations

import sys

import pytest

from tests.journeys.browser import chromium, free_port, served, until
from tests.places import ROOT


@pytest.mark.browser
def test_in_a_browser_a_phone_and_a_wide_screen_show_it_whole(run, tmp_path):
    from selenium.webdriver.common.by import By

    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run"]
    command += [str(ROOT / "classification" / "cam_dashboard.py"), "--server.port", str(port)]
    command += ["--server.headless", "true"]
    with served(command, port, run.parent.parent, tmp_path) as address, chromium() as browser:
        for width, height, mobile in ((1920, 1080, False), (412, 915, True)):
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
            )
            browser.get(address)

            def pictures() -> list:
                return browser.find_elements(By.CSS_SELECTOR, "[data-testid=stImage] img")

            until(lambda: len(pictures()) == 3 and "True:" in browser.page_source)
            wide = browser.execute_script(
                "return [document.documentElement.scrollWidth, window.innerWidth]"
            )
            assert wide[0] <= wide[1]
            sizes = [one.size["width"] for one in pictures()]
            assert min(sizes) > (300 if mobile else 350)
            assert "stAppDeployButton" not in browser.page_source
        # On the phone the images come before what steers them, the first one without scrolling.
        tops = {
            name: browser.find_element(By.CSS_SELECTOR, f".st-key-{name}").rect["y"]
            for name in ("picker", "shown", "filters", "steering")
        }
        assert sorted(tops, key=tops.get)[:2] == ["picker", "shown"]
        assert pictures()[0].rect["y"] < height / 2
    assert "127.0.0.1" in (tmp_path / "log").read_text(encoding="utf-8")
    assert "External URL" not in (tmp_path / "log").read_text(encoding="utf-8")
