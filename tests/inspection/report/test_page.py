"""Images, figures and pages that stand alone."""

from __future__ import annotations

import base64
import io
import unicodedata

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from inspection.report.drawing import DrawnBox, draw_view
from inspection.report.page import figure_png, image_uri, png_uri, render_page, versions
from inspection.report.palette import TRUTH
from inspection.report.tags import leader
from tests.journeys.browser import chromium


def grey(height=80, width=120):
    return np.full((height, width, 3), 90, np.uint8)


def test_view_has_the_asked_size_and_leaves_the_image_alone():
    rgb = grey()
    view = draw_view(rgb, [DrawnBox((10, 10, 40, 40), TRUTH, "긁힘 0.93")], longest=240)
    assert view.shape == (160, 240, 3)
    assert (rgb == 90).all()


def test_box_is_drawn_where_it_is():
    view = draw_view(grey(), [DrawnBox((30, 20, 60, 50), TRUTH, width=1)], longest=240)
    assert tuple(view[40, 80]) == TRUTH  # its upper edge, at twice the size
    assert tuple(view[70, 80]) == (90, 90, 90)


def test_region_shifts_boxes_and_drops_those_outside():
    inside, outside = DrawnBox((30, 20, 60, 50), TRUTH), DrawnBox((100, 60, 110, 70), TRUTH)
    view = draw_view(grey(), [inside, outside], (20, 10, 70, 60), longest=100)
    assert view.shape == (100, 100, 3)
    assert tuple(view[20, 50]) == TRUTH
    assert (draw_view(grey(), [outside], (20, 10, 70, 60), longest=100) == 90).all()


@pytest.mark.parametrize("region", [(-50, -50, 500, 500), (119, 79, 119, 79), (200, 200, 210, 210)])
def test_region_over_the_edge_is_clipped(region):
    assert draw_view(grey(), (), region, longest=64).size > 0


def test_image_uri_is_a_jpeg_of_the_image():
    uri = image_uri(grey())
    head, content = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (120, 80)
    assert image_uri(grey()[:, :, 0]).startswith(head)


def test_figure_with_korean_text_raises_no_warning():
    def draw(figure):
        figure.add_subplot().set_title("긁힘 정밀도")

    png = figure_png(draw, 3, 2)
    assert png.startswith(b"\x89PNG")
    assert png_uri(png).startswith("data:image/png;base64,")


def drawn(text: str) -> np.ndarray:
    return draw_view(grey(), [DrawnBox((60, 40, 100, 70), TRUTH, text)], longest=240)


def test_korean_is_drawn_without_an_installed_font(capsys):
    # Boxes instead of letters would look alike.
    assert (drawn("긁힘") != drawn("균열")).any()
    assert (drawn("균열") == drawn(unicodedata.normalize("NFD", "균열"))).all()

    def titled(text):
        return figure_png(lambda figure: figure.add_subplot().set_title(text), 3, 2)

    assert titled("긁힘") != titled("균열")
    assert capsys.readouterr().out == ""


def test_letters_that_no_font_has_are_said_once(capsys):
    for _ in range(2):
        drawn("\ue123 dot")
    assert capsys.readouterr().out.count("No installed font has") == 1


def test_a_tag_covers_no_small_box_and_keeps_a_line_to_its_own():
    small = [(x, y, x + 6, y + 6) for x, y in ((60, 40), (66, 34), (54, 34), (60, 49), (70, 41))]
    boxes = [DrawnBox(box, TRUTH, "긁힘 0.93", 1) for box in small]
    plain = draw_view(grey(), [DrawnBox(box, TRUTH, "", 1) for box in small], longest=480)
    tagged = draw_view(grey(), boxes, longest=480)
    for x1, y1, x2, y2 in small:
        inside = np.s_[4 * y1 + 2 : 4 * y2 - 2, 4 * x1 + 2 : 4 * x2 - 2]
        assert (tagged[inside] == plain[inside]).all()
    assert leader((0, 0, 10, 5), (30, 20, 40, 30)) == (10, 5, 30, 20)
    assert leader((0, 0, 10, 5), (0, 6, 10, 30)) is None


def test_a_thick_line_leaves_the_defect_to_be_seen():
    view = draw_view(grey(), [DrawnBox((30, 20, 34, 24), TRUTH, width=6)], longest=120)
    assert (view[21:24, 31:34] == 90).all()
    assert tuple(view[18, 32]) == TRUTH
    at_the_border = draw_view(grey(), [DrawnBox((0, 0, 40, 40), TRUTH, width=2)], longest=120)
    assert tuple(at_the_border[0, 20]) == TRUTH


def test_page_extends_the_base_and_escapes(tmp_path):
    template = tmp_path / "room.html.jinja"
    template.write_text(
        '{% extends "layout.html.jinja" %}{% block content %}<b>{{ name }}</b>{% endblock %}',
        encoding="utf-8",
    )
    page = render_page(template, title="Title <1>", subtitle="s", name="<script>x</script>")
    assert "<b>&lt;script&gt;x&lt;/script&gt;</b>" in page
    assert "Title &lt;1&gt;" in page
    assert 'name="viewport"' in page
    with pytest.raises(UndefinedError):
        render_page(template, title="t", subtitle="s")


@pytest.mark.browser
def test_images_keep_their_shape_and_fit_the_screen(tmp_path):
    from selenium.webdriver.common.by import By

    template = tmp_path / "room.html.jinja"
    template.write_text(
        '{% extends "layout.html.jinja" %}{% block content %}'
        '<div class="panel figures"><img src="{{ tall }}"></div><div class="cards">'
        '{% for image in (tall, usual) %}<article class="card"><div class="images">'
        '<img src="{{ image }}"><img src="{{ image }}"></div></article>{% endfor %}'
        "</div>{% endblock %}",
        encoding="utf-8",
    )
    tall, usual = image_uri(grey(3000, 500)), image_uri(grey(300, 420))
    page = tmp_path / "page.html"
    page.write_text(render_page(template, title="t", subtitle="s", tall=tall, usual=usual), "utf-8")
    with chromium() as browser:
        for width in (1920, 412):
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
            )
            browser.get(page.as_uri())
            shapes = [one.size for one in browser.find_elements(By.TAG_NAME, "img")]
            assert len(shapes) == 5
            assert max(one["height"] for one in shapes) <= 0.7 * 900 + 1
            usual = shapes[-1]["width"] / shapes[-1]["height"]
            assert usual == pytest.approx(420 / 300, rel=0.03), "no bars beside it"
            across = browser.execute_script("return document.documentElement.scrollWidth")
            assert across <= width


def test_versions_name_what_is_installed():
    found = versions("numpy", "no-such-package-here")
    assert found["numpy"] == np.__version__
    assert set(found) == {"python", "numpy"}
