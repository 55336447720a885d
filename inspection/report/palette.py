"""Colours that mean the same on every page, in every figure and over every image."""

from __future__ import annotations

from typing import Any

Colour = tuple[int, int, int]

# Over images, as RGB.
TRUTH, HIT, WRONG = (46, 204, 113), (255, 152, 0), (244, 67, 54)
LABELLED, IGNORED = (41, 121, 255), (158, 158, 158)
# Bright ones that the colour-blind tell apart too (Okabe and Ito 2008), and lighter kin of them.
_CLASSES: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 178, 130), (240, 228, 66)),
    *((204, 121, 167), (235, 110, 30), (110, 150, 240), (200, 200, 200)),
)

# In figures and on pages.
INK, FAINT, GRID = "#17202a", "#8a97a3", "#e6eaee"
MAIN, ALARM = "#1f5f99", "#c0392b"
NORMAL, DEFECT, REVIEW = "#2e86c1", "#e67e22", "#f1c40f"
DECISIONS = {"OK": "#1e8449", "review": "#b9770e", "NG": "#b03a2e"}
_SERIES = (MAIN, "#d35400", "#1e8449", "#8e44ad", ALARM, "#16a085", "#7f6000", "#34495e")
_DASHES = ("-", "--", ":", "-.")


def class_colour(index: int) -> Colour:
    """The colour of a class by its place in the model's classes."""
    return _CLASSES[index % len(_CLASSES)]


def line_look(index: int) -> dict[str, Any]:
    """Colour and dash of a figure's curve by its number, as matplotlib names them."""
    dash = _DASHES[index // len(_SERIES) % len(_DASHES)]
    return {"color": _SERIES[index % len(_SERIES)], "linestyle": dash}


def css(colour: Colour) -> str:
    """A colour as pages name it, for instance `#2ecc71`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
