"""Who writes into a folder of predictions: one model, one process, and again where it was cut off.

The three rooms share the default `predictions/`. What another model wrote there is refused, what
the same one did is gone on with.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from inspection.errors import InputError
from inspection.files.locks import locked
from inspection.files.records import PathBelow
from inspection.files.writing import file_hash, write_text_atomic

RECORD, JOURNAL, LOCK = "prediction.json", "predictions.jsonl", "prediction.lock"
TABLE, HEAT_MAPS = "predictions.csv", "heat_maps"
RESULTS = (TABLE, JOURNAL, HEAT_MAPS, "detections.csv", "detections.jsonl")
"""What predictions of any room leave, by which a folder without a record shows to be taken."""

NOT_DECIDED = "not decided"
"""In tables: the image could not be read, or the model gave no finite numbers for it."""

_SHOWN_HASH = 12
_MOST_BYTES = 1 << 16


class Owner(BaseModel):
    """Whose predictions a folder holds.

    Args:
        room: `detection`, `classification` or `anomaly`.
        model_hash: SHA-256 of the model's file; empty where it is not known, and then the folder
            is nobody's to go on with.
        run: Name of the run, for people.
    """

    model_config = ConfigDict(extra="ignore")

    room: str
    model_hash: str = ""
    run: str = ""

    def __str__(self) -> str:
        run = f" run {self.run}," if self.run else ""
        return f"{self.room} ({f'{run} model {self.model_hash[:_SHOWN_HASH]}'.strip()})"

    def is_same(self, other: Owner) -> bool:
        """Whether the other one's results are what this one would write."""
        return bool(self.model_hash) and (self.room, self.model_hash) == (
            other.room,
            other.model_hash,
        )


class Line(BaseModel):
    """One image in the journal.

    Args:
        file: Its absolute path.
        name: What the table calls it.
        state: The file's size in bytes and time of its last change in ns before it was read.
        row: Its row of the table, without the name.
        picture: What was drawn of it, from the folder; empty for nothing.
        done: False where it could not be decided and is asked again.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    file: str
    name: str
    state: list[int]
    row: list[str]
    picture: PathBelow | Literal[""] = ""
    done: bool = True


class Results:
    """What a folder held by this process has of every image; see `claimed`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines = _read_journal(folder / JOURNAL)
        self._states: dict[str, list[int]] = {}
        self._file: TextIO | None = None

    def known(self, path: Path, drawn: bool = False) -> Line | None:
        """What an earlier call found of an image that has not changed since; asked before reading.

        Args:
            path: The image.
            drawn: Only where what was drawn of it is still there.
        """
        key = _key(path)
        state = self._states[key] = _state(path)
        line = self._lines.get(key)
        if line is None or not line.done or line.state != state:
            return None
        if drawn and not (line.picture and (self.folder / line.picture).is_file()):
            return None
        return line

    def picture(self, path: Path) -> str:
        """Where an earlier call drew an image, from the folder; empty where it did not."""
        line = self._lines.get(_key(path))
        return line.picture if line else ""

    @property
    def pictures(self) -> set[str]:
        """Everything that was drawn, from the folder."""
        return {line.picture for line in self._lines.values() if line.picture}

    @property
    def rows(self) -> list[list[str]]:
        """Name and row of every image of this call and those before."""
        return [[line.name, *line.row] for line in self._lines.values()]

    def add(self, path: Path, row: Sequence[str], picture: str = "", done: bool = True) -> None:
        """Notes what came of an image; a kill right after this loses nothing of it."""
        key = _key(path)
        state = self._states.get(key) or _state(path)
        line = Line(
            file=key, name=str(path), state=state, row=list(row), picture=picture, done=done
        )
        if self._file is None:
            # A torn last line would spoil the next one.
            write_text_atomic(self.folder / JOURNAL, "".join(map(_text, self._lines.values())))
            self._file = (self.folder / JOURNAL).open("a", encoding="utf-8", newline="\n")
        self._file.write(_text(line))
        self._file.flush()
        self._lines[key] = line

    def clear(self) -> None:
        """Removes what the journal and the table name; the journal last."""
        for picture in self.pictures:
            (self.folder / picture).unlink(missing_ok=True)
        for name in (TABLE, JOURNAL):
            (self.folder / name).unlink(missing_ok=True)
        self._lines = {}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def claimed(
    folder: str | Path,
    owner: Owner,
    restart: bool = False,
    *,
    own: Sequence[str] = (),
    check: Callable[[], None] | None = None,
) -> Iterator[Results]:
    """Holds a folder for one prediction and says in it whose it is.

    Args:
        folder: The output folder, made where missing.
        owner: Who is about to write.
        restart: Take over what another model of the same room wrote, and do everything again.
        own: Names of `RESULTS` that `check` judges.
        check: Judges what the same room wrote, raising where it is to be refused. Where left out
            the model's hash decides, and a restart clears what was there.

    Yields:
        What is done already, and where more is noted.

    Raises:
        InputError: The folder holds what another model wrote, or another process writes there.
    """
    folder = Path(folder)
    with locked(folder / LOCK, "wait for it, or give another --output"):
        refuse_others(folder, owner, restart, own=own, judged=check is not None)
        if check is not None:
            check()
        results = Results(folder)
        if check is None and restart:
            results.clear()
        write_text_atomic(folder / RECORD, owner.model_dump_json(indent=2) + "\n")
        try:
            yield results
        finally:
            results.close()


def refuse_replaced(model: Path, owner: Owner) -> None:
    """Refuses a model whose file a training has replaced since its hash was taken.

    Args:
        model: The file that has been loaded.
        owner: With the hash from before.

    Raises:
        InputError: What decides is not what the results would be recorded as.
    """
    if file_hash(model) != owner.model_hash:
        raise InputError(
            f"{model}: was replaced while it was being read, as a training does; give the command "
            "again."
        )


def refuse_others(
    folder: Path,
    owner: Owner,
    restart: bool = False,
    *,
    own: Sequence[str] = (),
    judged: bool = False,
) -> None:
    """Refuses a folder that holds what another model wrote; as `claimed`, without holding it.

    Args:
        folder: As for `claimed`.
        owner: As for `claimed`.
        restart: As for `claimed`.
        own: As for `claimed`.
        judged: Whether the room judges what it wrote itself.

    Raises:
        InputError: Another model wrote there, or nobody can tell who did.
    """
    before = _record(folder)
    there = [name for name in RESULTS if name not in own and (folder / name).exists()]
    if before is None:
        if there:
            raise InputError(
                f"{folder}: holds {' and '.join(there)}, and no {RECORD} says whose; give another "
                "--output, or move them away"
            )
        return
    if before.room != owner.room:
        raise InputError(f"{folder}: holds results of {before}; give another --output")
    if not (judged or restart or before.is_same(owner)):
        raise InputError(
            f"{folder}: holds results of {before}, this is {owner}; give another --output, or do "
            "everything in it again with --restart"
        )


def _record(folder: Path) -> Owner | None:
    path = folder / RECORD
    try:
        with path.open("rb") as file:
            return Owner.model_validate_json(file.read(_MOST_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InputError(
            f"{path}: is damaged, so nobody can tell whose results these are; give another "
            "--output, or move them away"
        ) from error


def _read_journal(path: Path) -> dict[str, Line]:
    """Lines by file; a torn one, or one that no prediction wrote, is left out and done again."""
    lines: dict[str, Line] = {}
    if path.is_file():
        for text in path.read_bytes().splitlines():
            with contextlib.suppress(ValidationError):
                line = Line.model_validate_json(text)
                lines[line.file] = line
    return lines


def _text(line: Line) -> str:
    return json.dumps(line.model_dump(mode="json"), ensure_ascii=False) + "\n"


def _key(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  resolve() would follow links


def _state(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
