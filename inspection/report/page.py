"""Pictures and self-contained HTML pages: no network, one file, phone to wide screen."""

from __future__ import annotations

import base64
import io
import math
import platform
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.decisions.rates import Rate, percent
from inspection.files.writing import atomic_path
from inspection.report.tags import leader, tag_places
from inspection.report.typeface import composed, families, font_of, warn_of_boxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from inspection.decisions.operating_point import OperatingPoint

Colour = tuple[int, int, int]
GREEN, ORANGE, RED = (46, 204, 113), (255, 152, 0), (244, 67, 54)
_LACKING = re.compile(r"^Glyph (\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class DrawnBox:
    """A box to draw.

    Args:
        xyxy: Four edges in pixels of the picture.
        colour: RGB, 0 to 255.
        text: Stands beside the box, with a line to it where there is no room.
        width: Line width in pixels of the view; the line lies around the box, not in it.
    """

    xyxy: Sequence[float]
    colour: Colour
    text: str = ""
    width: int = 2


def draw_view(
    rgb: np.ndarray,
    boxes: Sequence[DrawnBox] = (),
    region: Sequence[float] | None = None,
    longest: int = 480,
    font_size: int = 14,
) -> np.ndarray:
    """A picture or a region of it at a given size, with boxes drawn at that size.

    Lines and letters keep their size whatever the picture's, so small defects stay readable.

    Args:
        rgb: (H, W, 3) uint8.
        boxes: In pixels of `rgb`; what lies outside the region is cut.
        region: xyxy in pixels, clipped to the picture; the whole picture where left out.
        longest: Longer side of the view in pixels.
        font_size: In pixels of the view.

    Returns:
        (h, w, 3) uint8.
    """
    import cv2
    from PIL import Image, ImageDraw

    height, width = rgb.shape[:2]
    x1, y1, x2, y2 = (0, 0, width, height) if region is None else region
    left, top = (min(max(0, math.floor(v)), n - 1) for v, n in ((x1, width), (y1, height)))
    right = max(left + 1, min(width, math.ceil(x2)))
    bottom = max(top + 1, min(height, math.ceil(y2)))
    part = np.ascontiguousarray(rgb[top:bottom, left:right])
    scale = longest / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    view = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    picture = Image.fromarray(view)
    draw = ImageDraw.Draw(picture)
    placed, tagged = [], []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        if x2 <= left or y2 <= top or x1 >= right or y1 >= bottom:
            continue
        edges = [(x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale]
        draw.rectangle(_around(edges, box.width, size), outline=box.colour, width=box.width)
        placed.append(tuple(edges))
        if box.text:
            tagged.append((len(placed) - 1, _Tag(box, font_size, draw)))
    places = tag_places(placed, [(index, tag.size) for index, tag in tagged], size)
    # After all boxes, so that no line runs through a text.
    for (index, tag), place in zip(tagged, places, strict=True):
        if line := leader(place, placed[index]):
            draw.line(line, fill=tag.box.colour, width=2)
    for (_, tag), place in zip(tagged, places, strict=True):
        tag.draw(draw, place)
    return np.asarray(picture)


def lies_wide(rgb: np.ndarray) -> bool:
    """Whether two of an image are better seen one above the other than side by side."""
    height, width = rgb.shape[:2]
    return width > 1.6 * height


def image_uri(rgb: np.ndarray, quality: int = 82) -> str:
    """A picture as a JPEG data URI.

    Args:
        rgb: (H, W, 3) or (H, W) uint8.
        quality: JPEG quality.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).convert("RGB").save(
        buffer, "JPEG", quality=quality, optimize=True
    )
    return _data_uri("image/jpeg", buffer.getvalue())


def figure_png(
    draw: Callable[[Figure], None], width: float, height: float, dpi: int = 120
) -> bytes:
    """A matplotlib figure as PNG; needs no display and no installed font for Latin and Korean.

    Args:
        draw: Draws into the empty figure it is given.
        width: Inches.
        height: Inches.
        dpi: Pixels per inch.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": families(),
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.edgecolor": "#8a97a3",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "legend.frameon": False,
    }
    buffer = io.BytesIO()
    with matplotlib.rc_context(style), warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        draw(figure)
        figure.savefig(buffer, format="png", dpi=dpi)
    lacking = dict.fromkeys(_LACKING.findall("\n".join(str(one.message) for one in caught)))
    if lacking:
        warn_of_boxes("".join(chr(int(code)) for code in lacking))
    return buffer.getvalue()


def png_uri(png: bytes) -> str:
    """PNG bytes as a data URI."""
    return _data_uri("image/png", png)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def render_page(template: str | Path, **values: Any) -> str:
    """Fills a template with everything escaped; `layout.html.jinja` is there to extend.

    Args:
        template: Path of the room's template.
        **values: What the template names; a name it lacks is an error.

    Returns:
        HTML.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    template = Path(template)
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of installed packages; others are left out."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def rate_tile(rate: Rate) -> dict[str, str]:
    """A rate as a tile's large `value` and the small print under it, `hint`."""
    if not rate.total:
        return {"value": "not measurable", "hint": f"0 {rate.of}"}
    counted = f"{rate.count} of {rate.total} {rate.of}"
    if not rate.count:
        return {"value": f"≤ {percent(rate.upper)}", "hint": f"{counted}; one-sided 95 %"}
    low, high = rate.interval
    return {
        "value": percent(rate.value),
        "hint": f"{counted}; 95 %: {percent(low)} to {percent(high)}",
    }


def point_facts(point: OperatingPoint) -> dict[str, str]:
    """An operating point with its evidence, by name."""
    facts = {"threshold": f"{point.threshold!r}: NG at this score or over it"}
    if point.review_threshold is not None:
        facts["review from"] = repr(point.review_threshold)
    return facts | {
        "rule": point.rule,
        "target": "–" if math.isnan(point.target) else percent(point.target),
        "miss on calibration": str(point.miss),
        "overkill on calibration": str(point.overkill),
        "calibration data": point.data_hash or "–",
    }


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _around(edges: Sequence[float], width: int, size: tuple[int, int]) -> list[int]:
    """Where a line goes that leaves all of a box to be seen; the view's border holds it back."""
    grown = []
    for edge, step, limit in zip(edges, (-1, -1, 1, 1), (*size, *size), strict=True):
        moved = round(edge) + step * (width - 1)
        inside = 0 <= round(edge) <= limit
        grown.append(min(max(0, moved), limit - 1) if inside else moved)
    return grown


class _Tag:
    """A box's text, and the room it takes."""

    def __init__(self, box: DrawnBox, font_size: int, draw: Any) -> None:
        self.box, self._text = box, composed(box.text)
        self._font = font_of(self._text, font_size)
        self._x, self._y, right, bottom = draw.textbbox((0, 0), self._text, font=self._font)
        self.size = (math.ceil(right - self._x) + 6, math.ceil(bottom - self._y) + 4)

    def draw(self, draw: Any, place: Sequence[float]) -> None:
        left, top = place[:2]
        colour = self.box.colour
        draw.rectangle([*place[:2], place[2] - 1, place[3] - 1], fill=colour)
        bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        draw.text(
            (left + 3 - self._x, top + 2 - self._y),
            self._text,
            font=self._font,
            fill="black" if bright > 120 else "white",
        )
