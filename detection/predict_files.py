"""Camera pictures in; tables, labelImg XML and overlay pictures out, resumable at any point.

`detections.jsonl` is the journal: a picture is done when its line stands there. Everything else
is made before that line or, like the CSV, from the lines.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TextIO

import numpy as np

from detection.annotations import list_annotations
from detection.calibration import image_score
from detection.dataset import SPLIT_NAME
from detection.table import CSV_NAME as LABELS_NAME
from inspection.boxes import Detections
from inspection.errors import InputError
from inspection.images import Image8, list_images, read_image, write_image
from inspection.operating_point import OperatingPoint
from inspection.report import DrawnBox, draw_view
from inspection.runs import write_json_atomic, write_text_atomic
from inspection.voc import read_voc, whole_boxes, write_voc

FORMATS = ("csv", "jsonl", "xml", "overlay")
CSV_NAME, JOURNAL, SETTINGS = "detections.csv", "detections.jsonl", "settings.json"
PROBLEMS, XML, OVERLAYS = "problems.txt", "xml", "overlays"
CSV_HEADER = ("image", "xmin", "ymin", "xmax", "ymax", "label", "score")

_DATABASE = "predicted by inspection"
"""`<database>` of a written XML, before a hash of its boxes: a human's edit shows."""

_MADE_BY = "python -m detection predict"
_EDGES = CSV_HEADER[1:5]
_DEFAULT_THRESHOLD = 0.5
_OVERLAY_SIDES = (640, 4096)
# Told apart also by the colour-blind (Okabe and Ito 2008); no grey, which pictures are.
_COLOURS = ((230, 159, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (213, 94, 0))
Record = dict[str, Any]
Progress = Callable[[int, int], None]


class AnyDetector(Protocol):
    """What is asked of a model, trained or exported."""

    classes: Sequence[str]
    bits: int
    operating_point: OperatingPoint | None

    def predict_batch(self, pictures: Sequence[Any]) -> list[Detections]:
        """Detections of (H, W, 3) uint8 RGB pictures of any sizes, in their own pixels."""


@dataclass(frozen=True)
class PredictResult:
    """What `predict_files` did.

    Args:
        done: Pictures predicted by this call.
        skipped: Pictures that an earlier call had done.
        problems: One sentence for each file that could not be done; the command line exits with
            status 2 if there are any.
        decisions: How many of the done and skipped pictures are OK, review and NG.
        threshold: The score that decides.
    """

    done: int
    skipped: int
    problems: tuple[str, ...]
    decisions: dict[str, int]
    threshold: float


def predict_files(
    detector: AnyDetector,
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    threshold: float | None = None,
    formats: Sequence[str] = FORMATS,
    batch_size: int = 1,
    resume: bool = True,
    on_progress: Progress | None = None,
    model_hash: str = "",
) -> PredictResult:
    """Predicts files and folders of raw camera pictures; boxes are in each file's own pixels.

    Killed at any point and called again, it goes on where it was; a picture that changed since
    is done again, and pictures of further calls join the tables. Two pictures never share a
    result: where names meet, folders or the suffix are put into the later one's.

    Args:
        detector: The model.
        paths: Image files, and folders that are searched recursively.
        output: Folder of the results, made where missing, of nothing else.
        threshold: Boxes of lower scores are not written. The model's operating point where left
            out, else 0.5. The detector's own lowest score still holds.
        formats: Some of `FORMATS`. `detections.jsonl` is always written: a resume reads it.
        batch_size: Pictures per forward pass.
        resume: False does everything in `output` again, which a changed model or threshold needs.
        on_progress: Called with the number of pictures handled and of all.
        model_hash: Hash of the model's file, by which a changed model is noticed.

    Returns:
        Counts and problems; `problems.txt` in `output` lists the latter too.

    Raises:
        InputError: There is no picture at all, `output` holds annotations or other results, or
            it cannot be written to.
    """
    if unknown := set(formats) - set(FORMATS):
        raise InputError(f"formats: {', '.join(sorted(unknown))} is none of {', '.join(FORMATS)}.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold: {threshold} must lie within 0 and 1, as scores do.")
    if batch_size < 1:
        raise InputError(f"batch size: {batch_size} must be at least 1.")
    folder = Path(os.path.abspath(output))  # noqa: PTH100  resolve() would follow links
    problems: list[str] = []
    listed = _listed(paths, folder / OVERLAYS, problems)
    if not listed:
        raise InputError(problems or "no picture was given; name image files or folders.")
    rule = _Rule.of(detector, threshold)
    _refuse_annotations(folder)
    try:
        output_folder = _OutputFolder(folder, formats, detector.classes)
        output_folder.open({**rule.settings(detector), "model_hash": model_hash}, resume)
        run = _Run(detector, rule, output_folder, problems, on_progress)
        return run.predict(listed, batch_size)
    except OSError as error:
        # Whatever cannot be read became a problem, so this is the output.
        raise InputError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); make "
            "room or check the permissions, and run the same command again: finished pictures "
            "are kept."
        ) from error


@dataclass(frozen=True)
class _Rule:
    """The threshold, and what decides a picture."""

    threshold: float
    point: OperatingPoint | None

    @classmethod
    def of(cls, detector: AnyDetector, threshold: float | None) -> _Rule:
        point = detector.operating_point if threshold is None else None
        if threshold is None:
            threshold = _DEFAULT_THRESHOLD if point is None else point.threshold
        return cls(float(threshold), point)

    def settings(self, detector: AnyDetector) -> dict[str, Any]:
        review = None if self.point is None else self.point.review_threshold
        return {
            "made_by": _MADE_BY,
            "threshold": self.threshold,
            "review_threshold": review,
            "classes": list(detector.classes),
            "bits": detector.bits,
        }

    def record(self, source: _Source, picture: _Picture, found: Detections) -> Record:
        """One line of the journal."""
        score = image_score(found)
        decision = "NG" if score >= self.threshold else "OK"
        height, width = picture.rgb.shape[:2]
        # As float64, as the decision is made: a score must not round up to the threshold.
        kept = np.flatnonzero(found.score.astype(np.float64) >= self.threshold)
        return {
            "image": source.name,
            "width": width,
            "height": height,
            "decision": decision if self.point is None else self.point.decide(score),
            "score": score,
            "boxes": [
                {
                    # The fewest digits that read back as the same float32.
                    **{e: float(str(v)) for e, v in zip(_EDGES, found.xyxy[i], strict=True)},
                    "label": found.label[i],
                    "score": float(found.score[i]),
                }
                for i in kept.tolist()
            ],
            "stem": source.stem,
            "file": str(source.path),
            "state": picture.state,
        }


@dataclass(frozen=True)
class _Source:
    """A picture's absolute path, its name in the tables, and its place under xml/, overlays/."""

    path: Path
    name: str
    stem: str


@dataclass(frozen=True)
class _Picture:
    """A picture's pixels, and its file's size and time just before it was read."""

    rgb: Image8
    state: list[int]


class _Run:
    """One call: reading ahead, the network, and writing behind it, each in a thread."""

    def __init__(
        self,
        detector: AnyDetector,
        rule: _Rule,
        output: _OutputFolder,
        problems: list[str],
        on_progress: Progress | None,
    ) -> None:
        self._detector, self._rule, self._output = detector, rule, output
        self._problems = problems
        self._on_progress = on_progress or (lambda done, total: None)
        self._handled = self._total = self._done = 0

    def predict(self, listed: Sequence[tuple[Path, str]], batch_size: int) -> PredictResult:
        output = self._output
        changed = [
            str(path)
            for path, _ in listed
            if str(path) in output.records
            and _file_state(path) not in (None, output.records[str(path)]["state"])
        ]
        output.forget(changed)
        sources = _named(listed, output.records)
        waiting = [source for source in sources if str(source.path) not in output.records]
        skipped = len(sources) - len(waiting)
        self._handled, self._total = skipped, len(sources)
        self._on_progress(self._handled, self._total)
        try:
            with output.journal() as journal, ThreadPoolExecutor(2) as pool:
                self._mend(pool, [item for item in sources if str(item.path) in output.records])
                self._predict(pool, journal, waiting, batch_size)
        except BaseException:
            # Interrupted or out of disk: what is there should at least be in the tables.
            with contextlib.suppress(OSError):
                output.write_tables(self._problems)
            raise
        output.write_tables(self._problems)
        found = [output.records.get(str(source.path)) for source in sources]
        decisions = dict.fromkeys(("OK", "review", "NG"), 0)
        for record in filter(None, found):
            decisions[record["decision"]] += 1
        return PredictResult(
            self._done, skipped, tuple(self._problems), decisions, self._rule.threshold
        )

    def _mend(self, pool: ThreadPoolExecutor, sources: Sequence[_Source]) -> None:
        """Makes the XML and overlays that finished pictures lack, without the network."""

        def mend(source: _Source) -> tuple[str, ...]:
            record = self._output.records[str(source.path)]
            try:
                self._output.complete(record, self._detector.bits)
            except InputError as error:
                return error.problems
            return ()

        for found in pool.map(mend, sources):
            self._problems.extend(found)

    def _predict(
        self,
        pool: ThreadPoolExecutor,
        journal: TextIO,
        sources: Sequence[_Source],
        batch_size: int,
    ) -> None:
        writing: deque[tuple[Record, Future[None]]] = deque()

        def settle(most: int) -> None:
            while len(writing) > most:
                record, written = writing.popleft()
                try:
                    written.result()
                    self._output.append(journal, record)
                    self._done += 1
                except InputError as error:
                    self._problems.extend(error.problems)
                self._advance()

        batches = self._batches(pool, sources, batch_size)
        for batch in batches:
            found = self._detector.predict_batch([picture.rgb for _, picture in batch])
            for (source, picture), detections in zip(batch, found, strict=True):
                record = self._rule.record(source, picture, detections)
                writing.append((record, pool.submit(self._output.draw, record, picture.rgb)))
            settle(batch_size)
        settle(0)

    def _batches(
        self, pool: ThreadPoolExecutor, sources: Sequence[_Source], batch_size: int
    ) -> Iterator[list[tuple[_Source, _Picture]]]:
        """Pictures read while the network runs; files that cannot be read are listed."""
        batch: list[tuple[_Source, _Picture]] = []
        reading: deque[tuple[_Source, Future[_Picture]]] = deque()
        rest = iter(sources)
        while True:
            for source in itertools.islice(rest, batch_size + 1 - len(reading)):
                reading.append((source, pool.submit(_read, source.path, self._detector.bits)))
            if not reading:
                break
            source, picture = reading.popleft()
            try:
                batch.append((source, picture.result()))
            except InputError as error:
                self._problems.extend(error.problems)
                self._advance()
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _advance(self) -> None:
        self._handled += 1
        self._on_progress(self._handled, self._total)


class _OutputFolder:
    """The results: the journal's records by source file, and the files made of them."""

    def __init__(self, folder: Path, formats: Sequence[str], classes: Sequence[str]) -> None:
        self._folder, self._formats = folder, frozenset(formats)
        self._colours = {
            name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(classes)
        }
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
            self.records = {key: item for key, item in self.records.items() if key not in files}
            text = "".join(map(_line, self.records.values()))
            write_text_atomic(self._folder / JOURNAL, text)

    def journal(self) -> TextIO:
        return (self._folder / JOURNAL).open("a", encoding="utf-8", newline="\n")

    def append(self, journal: TextIO, record: Record) -> None:
        journal.write(_line(record))
        journal.flush()
        self.records[record["file"]] = record

    def draw(self, record: Record, rgb: Image8) -> None:
        """Writes a picture's XML and overlay, where wanted."""
        if XML in self._formats:
            _write_xml(self._xml(record), record)
        if "overlay" in self._formats:
            write_image(self._overlay(record), _overlay(rgb, record["boxes"], self._colours))

    def complete(self, record: Record, bits: int) -> None:
        """Writes those of a finished picture's XML and overlay that are missing."""
        if XML in self._formats and not self._xml(record).exists():
            _write_xml(self._xml(record), record)
        if "overlay" in self._formats and not self._overlay(record).exists():
            rgb = read_image(record["file"], bits)
            write_image(self._overlay(record), _overlay(rgb, record["boxes"], self._colours))

    def write_tables(self, problems: Sequence[str]) -> None:
        """Writes the CSV from all records, and the list of problems."""
        if "csv" in self._formats:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(CSV_HEADER)
            for record in sorted(self.records.values(), key=lambda item: item["image"]):
                writer.writerows(_rows(record))
            write_text_atomic(self._folder / CSV_NAME, text.getvalue())
        if problems:
            write_text_atomic(self._folder / PROBLEMS, "\n".join(problems) + "\n")
        else:
            (self._folder / PROBLEMS).unlink(missing_ok=True)

    def _settings_before(self) -> dict[str, Any] | None:
        """The settings of the call that made this folder; None where there was none."""
        try:
            settings = json.loads((self._folder / SETTINGS).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            settings = None
        except ValueError:
            settings = {}
        if isinstance(settings, dict) and settings.get("made_by") == _MADE_BY:
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
