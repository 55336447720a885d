"""Pictures, figures and pages that stand alone."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from inspection.report import (
    GREEN,
    DrawnBox,
    draw_view,
    figure_png,
    image_uri,
    png_uri,
    render_page,
    versions,
)


def grey(height=80, width=120):
    return np.full((height, width, 3), 90, np.uint8)


def test_view_has_the_asked_size_and_leaves_the_picture_alone():
    rgb = grey()
    view = draw_view(rgb, [DrawnBox((10, 10, 40, 40), GREEN, "긁힘 0.93")], longest=240)
    assert view.shape == (160, 240, 3)
    assert (rgb == 90).all()


def test_box_is_drawn_where_it_is():
    view = draw_view(grey(), [DrawnBox((30, 20, 60, 50), GREEN, width=1)], longest=240)
    assert tuple(view[40, 80]) == GREEN  # its upper edge, at twice the size
    assert tuple(view[70, 80]) == (90, 90, 90)


def test_region_shifts_boxes_and_drops_those_outside():
    inside, outside = DrawnBox((30, 20, 60, 50), GREEN), DrawnBox((100, 60, 110, 70), GREEN)
    view = draw_view(grey(), [inside, outside], (20, 10, 70, 60), longest=100)
    assert view.shape == (100, 100, 3)
    assert tuple(view[20, 50]) == GREEN
    assert (draw_view(grey(), [outside], (20, 10, 70, 60), longest=100) == 90).all()


@pytest.mark.parametrize("region", [(-50, -50, 500, 500), (119, 79, 119, 79), (200, 200, 210, 210)])
def test_region_over_the_edge_is_clipped(region):
    assert draw_view(grey(), (), region, longest=64).size > 0


def test_image_uri_is_a_jpeg_of_the_picture():
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


def test_page_extends_the_base_and_escapes(tmp_path):
    template = tmp_path / "room.html.jinja"
    template.write_text(
        '{% extends "report.html.jinja" %}{% block content %}<b>{{ name }}</b>{% endblock %}',
        encoding="utf-8",
    )
    page = render_page(template, title="Title <1>", subtitle="s", name="<script>x</script>")
    assert "<b>&lt;script&gt;x&lt;/script&gt;</b>" in page
    assert "Title &lt;1&gt;" in page
    assert 'name="viewport"' in page
    with pytest.raises(UndefinedError):
        render_page(template, title="t", subtitle="s")


def test_versions_name_what_is_installed():
    found = versions("numpy", "no-such-package-here")
    assert found["numpy"] == np.__version__
    assert set(found) == {"python", "numpy"}
