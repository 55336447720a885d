"""The folder of a prediction: its journal, and the tables, XML and overlays made of it.

`detections.jsonl` is the journal: a picture is done when its line stands there. Everything else
is written before that line or, like the CSV, from the lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from detection.data.annotations import list_annotations
from detection.data.dataset import SPLIT_NAME
from detection.data.table import CSV_NAME as LABELS_NAME
from inspection.data.images import read_image, write_image
from inspection.data.letterbox import Image8
from inspection.data.voc import PREDICTION, is_sealed, read_voc
from inspection.errors import InputError
from inspection.files.records import Count, Finite, PathBelow, read_json
from inspection.files.sheets import sheet_text
from inspection.files.writing import write_json_atomic, write_text_atomic
from inspection.prediction.detections import EDGES, overlay, write_prediction
from inspection.prediction.folder import NOT_DECIDED

FORMATS = ("csv", "jsonl", "xml", "overlay")
CSV_HEADER = ("image", *EDGES, "label", "score")
CSV_NAME, JOURNAL, SETTINGS = "detections.csv", "detections.jsonl", "settings.json"
OWN = (CSV_NAME, JOURNAL)
PROBLEMS, XML, OVERLAYS = "problems.txt", "xml", "overlays"
MADE_BY = "python -m detection predict"

Record = dict[str, Any]


class _Box(BaseModel):
    model_config = ConfigDict(strict=True)

    xmin: Finite
    ymin: Finite
    xmax: Finite
    ymax: Finite
    label: str
    score: Finite


class JournalLine(BaseModel):
    """A line of the journal, in the order of its fields.

    Args:
        stem: The image's place under xml/ and overlays/.
        score: None where the model gave no finite numbers: then `decision` is NG.
        file: Its absolute path.
        state: The file's size in bytes and time in ns.
    """

    model_config = ConfigDict(strict=True)

    image: str
    width: Count
    height: Count
    decision: Literal["OK", "review", "NG"]
    score: Finite | None
    boxes: list[_Box]
    stem: PathBelow
    file: str
    state: list[int]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="allow")

    made_by: str | None = None


class OutputFolder:
    """The results: the journal's records by source file, and the files made of them."""

    def __init__(self, folder: Path, formats: Sequence[str], classes: Sequence[str]) -> None:
        self._folder, self._formats = folder, frozenset(formats)
        self._classes = tuple(classes)
        self.records: dict[str, Record] = {}

    def open(self, settings: dict[str, Any], resume: bool) -> None:
        """Reads what an earlier call did, or clears it.

        Raises:
            InputError: The folder holds something else, or results of other settings.
        """
        before = self._settings_before()
        self.records = _read_journal(self._folder / JOURNAL)
        if before is not None and not resume:
            self._clear()
        elif self.records and (changes := _changes(before or {}, settings)):
            raise InputError(
                f"{self._folder}: holds results of another run ({'; '.join(changes)}); give "
                "another output folder, or do everything in it again with --restart."
            )
        write_json_atomic(self._folder / SETTINGS, settings)
        for pattern in (f"{XML}/**/.*.xml", f"{OVERLAYS}/**/.*.jpg"):
            for half_written in self._folder.glob(pattern):
                half_written.unlink()
        # A torn last line would otherwise spoil the next one.
        text = "".join(map(_line, self.records.values()))
        if not (path := self._folder / JOURNAL).exists() or path.read_bytes() != text.encode():
            write_text_atomic(path, text)

    def forget(self, files: Iterable[str]) -> None:
        """Takes pictures that changed out of the journal."""
        if files := set(files):
            for record in map(self.records.pop, files):
                self._xml(record).unlink(missing_ok=True)
                self._overlay(record).unlink(missing_ok=True)
            text = "".join(map(_line, self.records.values()))
            write_text_atomic(self._folder / JOURNAL, text)

    def journal(self) -> TextIO:
        return (self._folder / JOURNAL).open("a", encoding="utf-8", newline="\n")

    def append(self, journal: TextIO, record: Record) -> None:
        journal.write(_line(record))
        journal.flush()
        self.records[record["file"]] = record

    def draw(self, record: Record, rgb: Image8) -> None:
        """Writes a picture's XML and overlay, where wanted; none of one that is not decided.

        Without boxes they would say that the part is good.
        """
        if record["score"] is None:
            return
        if XML in self._formats:
            _write_xml(self._xml(record), record)
        if "overlay" in self._formats:
            write_image(self._overlay(record), overlay(rgb, record["boxes"], self._classes))

    def complete(self, record: Record, bits: int) -> None:
        """Writes those of a finished picture's XML and overlay that are missing."""
        if XML in self._formats and not self._xml(record).exists():
            _write_xml(self._xml(record), record)
        if "overlay" in self._formats and not self._overlay(record).exists():
            rgb = read_image(record["file"], bits)
            write_image(self._overlay(record), overlay(rgb, record["boxes"], self._classes))

    def write_tables(self, problems: Sequence[str]) -> None:
        """Writes the CSV from all records, and the list of problems."""
        if "csv" in self._formats:
            rows: list[Sequence[object]] = [CSV_HEADER]
            for record in sorted(self.records.values(), key=lambda item: item["image"]):
                rows += _rows(record)
            write_text_atomic(self._folder / CSV_NAME, sheet_text(rows))
        if problems:
            write_text_atomic(self._folder / PROBLEMS, "\n".join(problems) + "\n")
        else:
            (self._folder / PROBLEMS).unlink(missing_ok=True)

    def _settings_before(self) -> dict[str, Any] | None:
        """The settings of the call that made this folder; None where there was none."""
        try:
            settings = read_json(self._folder / SETTINGS, _Settings, "").model_dump()
        except (FileNotFoundError, InputError):
            settings = {}
        if settings.get("made_by") == MADE_BY:
            return settings
        names = (SETTINGS, JOURNAL, CSV_NAME, PROBLEMS, XML, OVERLAYS)
        if foreign := [name for name in names if (self._folder / name).exists()]:
            raise InputError(
                f"{self._folder}: holds {' and '.join(foreign)} that predict did not write; give "
                "an output folder of its own."
            )
        return None

    def _clear(self) -> None:
        """Removes what earlier calls wrote; the journal last, as it says what they wrote."""
        for record in self.records.values():
            self._overlay(record).unlink(missing_ok=True)
        if (self._folder / XML).is_dir():
            for path in list_annotations(self._folder / XML):  # none of them a human's, see above
                path.unlink()
        for name in (CSV_NAME, PROBLEMS, JOURNAL):
            (self._folder / name).unlink(missing_ok=True)
        self.records = {}

    def _xml(self, record: Record) -> Path:
        return self._folder / XML / f"{record['stem']}.xml"

    def _overlay(self, record: Record) -> Path:
        return self._folder / OVERLAYS / f"{record['stem']}.jpg"


def refuse_annotations(folder: Path) -> None:
    """Refuses a folder in which predictions would mix with what humans drew.

    Args:
        folder: The output folder, absolute; it need not exist.

    Raises:
        InputError: It, its `xml`, or a folder above holds annotations. XML of ours that was
            changed since counts as a human's.
    """
    mend = "give an output folder of its own, outside any annotations."
    problems = []
    for place in sorted({folder.resolve(), (folder / XML).resolve()}):
        if place.is_dir():
            theirs = [path for path in list_annotations(place) if not is_sealed(path, PREDICTION)]
            if theirs:
                more = f" and {len(theirs) - 1} more" if len(theirs) > 1 else ""
                problems.append(
                    f"{folder}: holds {theirs[0]}{more}, which predict did not write or a human "
                    f"changed; move it into an annotations folder, or {mend}"
                )
        for above in (place, *place.parents):
            if found := _sign_of_annotations(above, place):
                problems.append(
                    f"{folder}: lies in an annotations folder ({found}), where predictions would "
                    f"be taken for a human's; {mend}"
                )
    if problems:
        raise InputError(list(dict.fromkeys(problems)))


def _sign_of_annotations(folder: Path, output: Path) -> Path | None:
    run = (folder / "record.json").is_file()  # a training keeps a copy of its split
    for name in (LABELS_NAME,) if run else (LABELS_NAME, SPLIT_NAME):
        if (folder / name).is_file():
            return folder / name
    # Farther up, a stray XML file says nothing; right above, whoever reads it reads ours too.
    if folder != output.parent:
        return None
    xml = (path for path in sorted(folder.glob("*.[xX][mM][lL]")) if path.is_file())
    return next((path for path in xml if _is_annotation(path)), None)


def _is_annotation(path: Path) -> bool:
    try:
        read_voc(path)
    except InputError:
        return False
    return not is_sealed(path, PREDICTION)


def _write_xml(path: Path, record: Record) -> None:
    boxes = [[box[edge] for edge in EDGES] for box in record["boxes"]]
    label = [box["label"] for box in record["boxes"]]
    size = (record["width"], record["height"])
    write_prediction(path, Path(record["file"]), size, boxes, label)


def _rows(record: Record) -> Iterator[list[Any]]:
    if not record["boxes"]:
        label = NOT_DECIDED if record["score"] is None else ""
        yield [record["image"], *[""] * 4, label, ""]
    for box in record["boxes"]:
        edges = [f"{box[edge]:.10g}" for edge in EDGES]
        yield [record["image"], *edges, box["label"], f"{box['score']:.6f}"]


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _read_journal(path: Path) -> dict[str, Record]:
    """Records by source file.

    A line that is torn, or that no prediction can have written, is left out, so that its image is
    done again; what it names is not touched.
    """
    if not path.exists():
        return {}
    records: dict[str, Record] = {}
    for line in path.read_bytes().splitlines():
        try:
            record = JournalLine.model_validate_json(line)
        except ValidationError:
            continue
        records[record.file] = record.model_dump()
    return records


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between the settings of two calls, in words."""
    changes = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if key == "model_hash" and old != new:
            changes.append("the model was another one")
        elif old != new:
            changes.append(f"{key.replace('_', ' ')} was {_text(old)}, now {_text(new)}")
    return changes


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
