"""The lines of a label table: cells, rows, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspection.errors import MOST_ECHOED

HEADER = ("image", "xmin", "ymin", "xmax", "ymax", "label", "difficult", "source")
RETINANET_COLUMNS = HEADER[:6]
"""What keras-retinanet's tables hold, which have no header."""

_EDGES = HEADER[1:5]


@dataclass(frozen=True)
class TableRow:
    """One line of a table; `box` is None for the row of a normal image."""

    line: int
    image: str
    box: tuple[float, float, float, float] | None
    label: str
    difficult: bool
    source: str


def parse_row(
    where: str,
    line: int,
    cells: Sequence[str],
    columns: Sequence[str],
    known: Sequence[str] | None,
    problems: list[str],
) -> TableRow | None:
    """One line as a row; None and a problem where it does not read as one."""
    if len(cells) != len(columns):
        problems.append(
            f"{where}: has {len(cells)} fields instead of {len(columns)}; a row is "
            "'image,xmin,ymin,xmax,ymax,label', or 'image,,,,,' for a normal image"
        )
        return None
    fields = dict(zip(columns, cells, strict=True))
    image = fields["image"].strip().replace("\\", "/")
    if not image or not image.isprintable():
        problems.append(f"{where}: the image {image!r} is no file name; name the image")
        return None
    name, source = fields["label"], fields.get("source", "")
    texts = [fields[edge].strip() for edge in _EDGES]
    if not any([*texts, name.strip()]):
        return TableRow(line, image, None, "", False, source)
    edges = [_number(text) for text in texts]
    wrong = [edge for edge, value in zip(_EDGES, edges, strict=True) if value is None]
    if wrong:
        problems.append(
            f"{where}: {' and '.join(wrong)} must be a number of pixels; all four edges and the "
            "class are given, or none for a normal image"
        )
    flag = fields.get("difficult", "").strip() or "0"
    if flag not in ("0", "1"):
        problems.append(f"{where}: difficult is {flag[:40]!r}; it must be 0 or 1")
    if not name.strip():
        problems.append(f"{where}: the box has no class; name it")
    elif len(name) > MOST_ECHOED:
        problems.append(
            f"{where}: the class name has {len(name)} characters; give it one of at most "
            f"{MOST_ECHOED}"
        )
        return None
    elif known is not None and name not in known:
        problems.append(
            f"{where}: the class {name!r} is not in the class list; correct it or add it there"
        )
    if wrong or flag not in ("0", "1") or not name.strip():
        return None
    x1, y1, x2, y2 = (value for value in edges if value is not None)
    return TableRow(line, image, (x1, y1, x2, y2), name, flag == "1", source)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None


def number_text(value: np.floating) -> str:
    """A float32 in the fewest digits that read back as the same float32."""
    return str(int(value)) if value == int(value) else str(np.float32(value))
