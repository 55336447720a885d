"""CSV tables: rows with their line numbers, columns by name, and the text of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from inspection.errors import InputError, shortened

DELIMITERS = ",;\t"  # the second is what a spreadsheet of a country with decimal commas writes
_LONGEST_NAME = 255  # bytes, on every usual file system


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Args:
        path: Its file.
        columns: Their names in lower case; none where the file is empty.
        rows: The other lines that are not empty: number and cells.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]

    @classmethod
    def read(cls, path: Path) -> Table:
        """Reads a file; commas, semicolons or tabs may stand between the cells.

        Raises:
            InputError: As `read_rows`; or a column is named twice.
        """
        rows = read_rows(path, DELIMITERS)
        names = tuple(cell.strip().lower() for cell in rows[0][1]) if rows else ()
        if len(set(names)) < len(names):
            raise InputError(f"{path}, line {rows[0][0]}: names a column twice; remove one")
        return cls(path, names, tuple(rows[1:]))

    def records(
        self, filled: Collection[str], problems: list[str]
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """File and line for a message, and the cells by column without spaces around them.

        Args:
            filled: Columns whose cells must not be empty.
            problems: Takes a sentence for each line that is left out.
        """
        for line, cells in self.rows:
            where = f"{self.path}, line {line}"
            row = {name: cell.strip() for name, cell in zip(self.columns, cells, strict=False)}
            if len(cells) == len(self.columns) and all(row[name] for name in filled):
                yield where, row
            else:
                wanted = shortened(", ".join(self.columns))
                problems.append(f"{where}: must hold {wanted}; complete the line")


def read_rows(path: Path, delimiters: str = ",") -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, with their line numbers.

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        delimiters: What may stand between cells: the first of them that the first line holds.

    Raises:
        InputError: The file cannot be read, is not UTF-8 or no CSV.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        first = text.lstrip().partition("\n")[0]
        delimiter = next((one for one in delimiters if one in first), delimiters[0])
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: is not UTF-8; save the file as CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: is not CSV ({error}); correct the line"
        ) from error


def table_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, as they are; see `inspection.files.sheets` for what people open.

    Args:
        rows: The header and the lines.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def path_problem(name: str) -> str:
    """Why a table's name of a file cannot be one below the table's folder; "" where it can."""
    parts = PurePosixPath(name).parts
    if not name.isprintable():
        return f"{name!r} is no file name; write the file's name"
    if name.startswith("/") or PureWindowsPath(name).drive or ".." in parts:
        return f"{name!r} leads out of the folder; write the path from the folder on"
    if longest := next((part for part in parts if len(part.encode()) > _LONGEST_NAME), ""):
        return f"{longest!r} is longer than a file's name can be; write the file's name"
    return ""
