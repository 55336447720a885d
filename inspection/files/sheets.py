"""CSV tables that people open in a spreadsheet: no cell of theirs is run as a formula.

Tables that programs read as they stand, `annotations.csv`, `split.csv`, `log.csv` and answer
files, are written raw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from inspection.files.tables import table_text

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def sheet_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, with an apostrophe before each text that a spreadsheet would run.

    Args:
        rows: The header and the lines; a text that reads as a number is one.
    """
    return table_text([_escaped(cell) for cell in row] for row in rows)


def sheet_cell(cell: str) -> str:
    """A cell that `sheet_text` wrote, as it was before."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _escaped(cell: object) -> object:
    if not isinstance(cell, str) or not _FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
