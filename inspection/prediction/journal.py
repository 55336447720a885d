"""Who writes into a folder of predictions: one model, one process, and again where it was cut off.

The three rooms share the default `predictions/`. What another model wrote there is refused, what
the same one did is gone on with: an image is done when its line stands in `predictions.jsonl`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Self, TextIO, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from inspection.errors import InputError, few
from inspection.files.locks import locked
from inspection.files.records import Finite, PathBelow
from inspection.files.writing import file_hash, sweep_temporary, write_text_atomic

RECORD, JOURNAL, LOCK = "prediction.json", "predictions.jsonl", "prediction.lock"
TABLE, PROBLEMS = "predictions.csv", "problems.txt"
DRAWN = ("heat_maps", "overlays")
"""Folders of images that predictions of any room draw."""

RESULTS = (
    *(TABLE, JOURNAL, PROBLEMS, *DRAWN, "xml"),
    *("detections.csv", "detections.jsonl"),
)
"""What predictions of any room leave, by which a folder without a record shows to be taken."""

NOT_DECIDED = "not decided"
"""In tables: the image could not be read, or the model gave no finite numbers for it."""

VERSION = 2
"""Of what stands in a folder; before, each room had a journal of its own."""

_SHOWN_HASH = 12
_MOST_BYTES = 1 << 16


class Owner(BaseModel):
    """Whose predictions a folder holds.

    Args:
        room: `detection`, `classification` or `anomaly`.
        model_hash: SHA-256 of the model's files; empty where it is not known; the folder cannot be
            continued then.
        run: Name of the run, for people.
        settings: What decides besides the model, such as a threshold that was typed.
        version: `VERSION` of the program that began the folder.
    """

    model_config = ConfigDict(extra="ignore")

    room: str
    model_hash: str = ""
    run: str = ""
    settings: dict[str, Any] = {}
    version: int = VERSION

    def __str__(self) -> str:
        model = f"model {self.model_hash[:_SHOWN_HASH]}" if self.model_hash else "an unknown model"
        return f"{self.room} ({f'run {self.run}, ' if self.run else ''}{model})"

    @classmethod
    def of(cls, room: str, run: str, model: Path) -> Owner:
        """The owner of what a model's file decides."""
        return cls(room=room, run=run, model_hash=_model_hash(model))

    def changes(self, now: Owner) -> list[str]:
        """What keeps another one's results from standing beside this one's, in words."""
        found = []
        if not self.model_hash or self.model_hash != now.model_hash:
            found.append(f"this is {now}")
        # What is not known before the model is loaded is compared afterwards.
        for key in sorted(self.settings.keys() & now.settings.keys()):
            old, new = (_words(one.settings[key]) for one in (self, now))
            if old != new:
                found.append(f"{key.replace('_', ' ')} was {old}, now {new}")
        return found


class Line(BaseModel):
    """One image in the journal; a room adds fields of its own, with defaults.

    Args:
        image: What the tables call it.
        score: None where the model gave none, or no finite number.
        decision: `OK`, `review`, `NG` or `NOT_DECIDED`; a class where none is of good parts.
        file: Its absolute path.
        stem: Its place in the folders of what is drawn, without a suffix.
        state: The file's size in bytes and time of its last change in ns before it was read.
        done: False where it could not be decided and is asked again.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    image: str
    score: Finite | None = None
    decision: str
    file: str
    stem: PathBelow
    state: list[int]
    done: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.is_possible():
            raise ValueError(f"no image is {self.decision} with this score")
        return self

    def is_possible(self) -> bool:
        """Whether decision, score and `done` go together; OK without a score never does."""
        if self.decision == NOT_DECIDED:
            return not self.done
        if self.score is None:  # a good image without a finite answer
            return self.decision == "NG" and not self.done
        return self.decision in ("OK", "review", "NG")


AnyLine = TypeVar("AnyLine", bound=Line)


class Journal(Generic[AnyLine]):
    """What a folder held by this process has of every image; see `claimed`.

    Args:
        folder: The output folder.
        kind: The room's lines.

    Attributes:
        lines: By the image's absolute path, in the order in which they came.
    """

    def __init__(self, folder: Path, kind: type[AnyLine]) -> None:
        self._path = folder / JOURNAL
        self.lines: dict[str, AnyLine] = {}
        self._file: TextIO | None = None
        if self._path.is_file():
            for text in self._path.read_bytes().splitlines():
                # A torn line, or one that no prediction wrote: the image is done again.
                with contextlib.suppress(ValidationError):
                    line = kind.model_validate_json(text)
                    self.lines[line.file] = line
            images = Counter(line.image for line in self.lines.values())
            stems = Counter(line.stem for line in self.lines.values())
            # Nor does it give two images one name: neither line can be believed.
            self.lines = {
                file: line
                for file, line in self.lines.items()
                if images[line.image] == stems[line.stem] == 1
            }

    def known(self, path: Path) -> AnyLine | None:
        """What an earlier call found of an image that has not changed since."""
        line = self.lines.get(str(path))
        return line if line and line.done and line.state == file_state(path) else None

    def add(self, line: AnyLine) -> None:
        """Notes what came of an image; a kill right after this loses nothing of it."""
        if self._file is None:
            # A torn last line would spoil the next one.
            write_text_atomic(self._path, "".join(map(_text, self.lines.values())))
            self._file = self._path.open("a", encoding="utf-8", newline="\n")
        self._file.write(_text(line))
        self._file.flush()
        self.lines[line.file] = line

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def claimed(
    folder: Path,
    owner: Owner,
    kind: type[AnyLine],
    drawings: Mapping[str, str],
    tables: tuple[str, ...] = (),
    restart: bool = False,
) -> Iterator[Journal[AnyLine]]:
    """Holds a folder for one prediction and says in it whose it is.

    Args:
        folder: The output folder, made where missing.
        owner: Who is about to write.
        kind: The room's lines.
        drawings: Folders of what is drawn of each image, and the suffix in it.
        tables: The room's own tables.
        restart: Take over what another model of the same room wrote, and do everything again.

    Yields:
        What is done already, and where more is noted.

    Raises:
        InputError: The folder holds what another model wrote, or another process writes there.
    """
    with locked(folder / LOCK, "wait for it, or give another --output"):
        refuse_others(folder, owner, restart)
        tables = (TABLE, PROBLEMS, *tables)
        sweep_temporary(folder, (*tables, JOURNAL, RECORD))
        hidden = "" if restart else "."  # what a killed write left
        for place, suffix in drawings.items():
            for path in (folder / place).glob(f"**/{hidden}*{suffix}"):
                path.unlink(missing_ok=True)
        if restart:  # the journal last, as it says what is there
            for name in (*tables, JOURNAL):
                (folder / name).unlink(missing_ok=True)
        journal = Journal(folder, kind)
        write_text_atomic(folder / RECORD, owner.model_dump_json(indent=2) + "\n")
        try:
            yield journal
        finally:
            journal.close()


def refuse_others(folder: Path, owner: Owner, restart: bool = False) -> None:
    """Refuses a folder that holds what another model wrote; as `claimed`, without holding it.

    Args:
        folder: The output folder; it need not exist.
        owner: Who is about to write.
        restart: Whether everything in it is to be done again.

    Raises:
        InputError: Another model wrote there, or nobody can tell who did.
    """
    before = _record(folder)
    if before is None:
        if there := [name for name in RESULTS if (folder / name).exists()]:
            raise InputError(
                f"{folder}: holds {few(there)}, and no {RECORD} says whose; give another "
                "--output, or move them away"
            )
    elif before.room != owner.room:
        raise InputError(f"{folder}: holds results of {before}; give another --output")
    elif before.version != VERSION:
        raise InputError(
            f"{folder}: was begun by another version of this tool, which wrote its results in "
            "another form; give another --output"
        )
    elif not restart and (changes := before.changes(owner)):
        raise InputError(
            f"{folder}: holds results of {before}, {'; '.join(changes)}; give another --output, or "
            "do everything in it again with --restart"
        )


def refuse_replaced(model: Path, owner: Owner) -> None:
    """Refuses a model whose file a training has replaced since its hash was taken.

    Args:
        model: The file that has been loaded.
        owner: With the hash from before.

    Raises:
        InputError: What decides is not what the results would be recorded as.
    """
    if _model_hash(model) != owner.model_hash:
        raise InputError(
            f"{model}: was replaced while it was being read, as a training does; give the command "
            "again."
        )


def file_state(path: Path) -> list[int]:
    """Size in bytes and time of the last change in ns; empty where the file is gone."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _model_hash(model: Path) -> str:
    weights = model.with_suffix(".bin")  # OpenVINO keeps them beside its graph
    if model.suffix.lower() != ".xml" or not weights.is_file():
        return file_hash(model)
    return hashlib.sha256((file_hash(model) + file_hash(weights)).encode()).hexdigest()


def _record(folder: Path) -> Owner | None:
    path = folder / RECORD
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MOST_BYTES))
        return Owner.model_validate({"version": 1} | values)  # the first ones told none
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:  # ValidationError is a ValueError
        raise InputError(
            f"{path}: is damaged, so it is not known whose results these are; give another "
            "--output, or move them away"
        ) from error


def _text(line: Line) -> str:
    return json.dumps(line.model_dump(mode="json"), ensure_ascii=False) + "\n"


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
