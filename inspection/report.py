"""Pictures and self-contained HTML pages: no network, one file, phone to wide screen."""

from __future__ import annotations

import base64
import io
import math
import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.runs import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.ImageFont import FreeTypeFont, ImageFont

Colour = tuple[int, int, int]
GREEN, ORANGE, RED = (46, 204, 113), (255, 152, 0), (244, 67, 54)
_LATIN = "DejaVu Sans"  # ships with matplotlib
_KOREAN = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
)


@dataclass(frozen=True)
class DrawnBox:
    """A box to draw.

    Args:
        xyxy: Four edges in pixels of the picture.
        colour: RGB, 0 to 255.
        text: Stands above the box, or inside where there is no room.
        width: Line width in pixels of the view.
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
    font = _picture_font(font_size)
    placed = []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        if x2 <= left or y2 <= top or x1 >= right or y1 >= bottom:
            continue
        edges = [(x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale]
        draw.rectangle([round(edge) for edge in edges], outline=box.colour, width=box.width)
        if box.text:
            placed.append((edges, box))
    for edges, box in placed:  # after all lines, so that no line runs through a text
        _draw_text(draw, edges, box, font, picture.size)
    return np.asarray(picture)


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
    """A matplotlib figure as PNG; needs no display, and shows Korean where a font has it.

    Args:
        draw: Draws into the empty figure it is given.
        width: Inches.
        height: Inches.
        dpi: Pixels per inch.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "font.family": [_LATIN, *_korean_families()],
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.edgecolor": "#8a97a3",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "legend.frameon": False,
    }
    buffer = io.BytesIO()
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A letter that no installed font has is drawn as a box; nobody can mend it here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        draw(figure)
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def png_uri(png: bytes) -> str:
    """PNG bytes as a data URI."""
    return _data_uri("image/png", png)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def render_page(template: str | Path, **values: Any) -> str:
    """Fills a template with everything escaped; `report.html.jinja` is there to extend.

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


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _draw_text(
    draw: Any, edges: Sequence[float], box: DrawnBox, font: Any, size: tuple[int, int]
) -> None:
    x1, y1, x2, y2 = draw.textbbox((0, 0), box.text, font=font)
    width, height = math.ceil(x2 - x1) + 6, math.ceil(y2 - y1) + 4
    left = min(max(0, round(edges[0])), max(0, size[0] - width))
    above, below = round(edges[1]) - height, round(edges[3])
    # Above the box, else below it, else inside at its visible top.
    top = above if above >= 0 else below if below + height <= size[1] else max(0, round(edges[1]))
    draw.rectangle([left, top, left + width, top + height], fill=box.colour)
    bright = 0.299 * box.colour[0] + 0.587 * box.colour[1] + 0.114 * box.colour[2]
    draw.text(
        (left + 3 - x1, top + 2 - y1),
        box.text,
        font=font,
        fill="black" if bright > 120 else "white",
    )


@lru_cache(maxsize=1)
def _korean_families() -> list[str]:
    from matplotlib import font_manager

    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return [name for name in _KOREAN if name in installed]


@lru_cache(maxsize=4)
def _picture_font(size: int) -> FreeTypeFont | ImageFont:
    from matplotlib import font_manager
    from PIL import ImageFont

    # One font draws a whole text here, so one that has Korean goes first.
    family = [*_korean_families(), _LATIN][:1]
    path = font_manager.findfont(font_manager.FontProperties(family=family))
    try:
        return ImageFont.truetype(path, size)
    except OSError:
        return ImageFont.load_default(size)
