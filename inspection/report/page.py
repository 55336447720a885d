"""Self-contained HTML pages and their images: no network, one file, phone to wide screen."""

from __future__ import annotations

import base64
import io
import math
import platform
import re
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.decisions.rates import Rate, percent
from inspection.files.writing import atomic_path
from inspection.report.palette import DECISIONS, FAINT, HIT, LABELLED, TRUTH, WRONG, css
from inspection.report.typeface import families, warn_of_boxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from inspection.decisions.operating_point import OperatingPoint

_LACKING = re.compile(r"^Glyph (\d+) ", re.MULTILINE)
_PALETTE = DECISIONS | {
    "truth": css(TRUTH),
    "hit": css(HIT),
    "wrong": css(WRONG),
    "labelled": css(LABELLED),
}


def image_uri(rgb: np.ndarray) -> str:
    """An image as a JPEG data URI.

    Args:
        rgb: (H, W, 3) or (H, W) uint8.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).convert("RGB").save(
        buffer, "JPEG", quality=82, optimize=True
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
        "axes.edgecolor": FAINT,
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
    environment.globals["palette"] = _PALETTE
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


def number_text(value: float, decimals: int = 3, missing: str = "–") -> str:
    """A figure, or `missing` for NaN."""
    return missing if math.isnan(value) else f"{value:.{decimals}f}"


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
