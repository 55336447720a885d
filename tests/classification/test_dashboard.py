"""The dashboard: by AppTest, and in a real browser at a phone's and a wide screen's width."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from inspection.voc import PROPOSAL, is_sealed
from tests.browser import chromium, free_port, needs_browser, served, until

ROOT = Path(__file__).resolve().parents[2]


def script(runs: str) -> None:
    from pathlib import Path

    from classification.dashboard import page

    page(Path(runs))


def page_of(runs: Path) -> AppTest:
    test = AppTest.from_function(script, kwargs={"runs": str(runs)}, default_timeout=120).run()
    assert not test.exception, test.exception
    return test


def captions(test: AppTest) -> str:
    return "\n".join(one.value for one in (*test.caption, *test.markdown))


def moved(test: AppTest, key: str, value, kind: str = "selectbox") -> str:
    """What the page says after a choice."""
    getattr(test, kind)(key=key).set_value(value).run()
    assert not test.exception, test.exception
    assert not test.error, [one.value for one in test.error]
    return captions(test)


@pytest.fixture
def page(run, monkeypatch) -> AppTest:
    monkeypatch.chdir(run.parent.parent)
    return page_of(run.parent)


def test_every_selector_changes_what_is_shown(page):
    text = captions(page)
    assert "Predicted:" in text
    assert "True:" in text
    assert "strongest place" in text
    seen = {text}
    for key, value in (
        ("layer", "conv3_block2_out"),
        ("method", "layer-cam"),
        ("smooth", "augment"),
        ("recipe", "flip"),
    ):
        seen.add(moved(page, key, value))
    page.selectbox(key="recipe").set_value("none")
    seen.add(moved(page, "flatten", True, "checkbox"))
    assert "Other than in training" in captions(page)
    seen.add(moved(page, "clahe", 4.0, "slider"))
    seen.add(moved(page, "background", True, "checkbox"))
    assert len(seen) == 8


def test_the_browser_goes_through_pictures_worst_first(page):
    moved(page, "part", "train", "radio")
    first = page.selectbox(key="number").value
    page.button(key="forward").click().run()
    assert page.selectbox(key="number").value != first
    page.button(key="back").click().run()
    assert page.selectbox(key="number").value == first
    moved(page, "true", "dot")
    options = page.selectbox(key="number").options
    assert options
    assert all("is dot" in one for one in options)
    text = moved(page, "wrong", "right only")
    assert all(one.startswith("✓") for one in page.selectbox(key="number").options)
    assert "shown" in text


def test_masks_give_figures_and_the_threshold_moves_the_boxes(page):
    moved(page, "true", "dot")
    moved(page, "layer", "conv3_block2_out")
    low = moved(page, "level_share", 0.1, "slider")
    assert "IoU" in low
    assert "energy inside" in low
    assert moved(page, "level_share", 0.9, "slider") != low
    assert "IoU" in moved(page, "kind", "otsu")


@pytest.mark.parametrize("over", ["epochs", "layers", "methods"])
def test_the_grid_compares(page, over):
    moved(page, "what", "Compare", "radio")
    text = moved(page, "over", over)
    wanted = {"epochs": "epoch_00", "layers": "_out", "methods": "hires-cam"}
    assert text.count("**") >= 4
    assert wanted[over] in text


def test_boxes_and_figures_are_exported(page, tmp_path):
    moved(page, "what", "Export", "radio")
    page.text_input(key="proposals").set_value(str(tmp_path / "제안")).run()
    page.text_input(key="cams").set_value(str(tmp_path / "cams")).run()
    page.button(key="write_boxes").click().run()
    assert not page.exception
    assert "labelImg XML" in page.success[0].value
    assert (tmp_path / "제안" / "proposals.csv").is_file()
    assert all(is_sealed(path, PROPOSAL) for path in (tmp_path / "제안").glob("*.xml"))
    page.button(key="write_figures").click().run()
    assert (tmp_path / "cams" / "summary.json").is_file()


def test_what_is_wrong_is_said_on_the_page(page, tmp_path):
    page.text_input(key="roi").set_value("1,2,3").run()
    assert "give four whole numbers" in page.error[0].value
    page.text_input(key="roi").set_value("0,0,4000,10").run()
    assert "correct --roi" in page.error[0].value
    assert "holds no run of a classifier" in page_of(tmp_path / "none").error[0].value


@needs_browser
def test_in_a_browser_a_phone_and_a_wide_screen_show_it_whole(run, tmp_path):
    from selenium.webdriver.common.by import By

    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run"]
    command += [str(ROOT / "classification" / "cam_dashboard.py"), "--server.port", str(port)]
    command += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
    with served(command, port, run.parent.parent, tmp_path) as address, chromium() as browser:
        for width, height, mobile in ((1920, 1080, False), (400, 850, True)):
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
