"""Camera pictures in; tables, labelImg XML and overlay pictures out, resumable at any point."""

from __future__ import annotations

import contextlib
import itertools
import os
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TextIO

from detection.models.decision import image_score
from detection.prediction.folder import (
    FORMATS,
    MADE_BY,
    OVERLAYS,
    OWN,
    OutputFolder,
    Record,
    refuse_annotations,
)
from inspection.data.images import list_images, read_image
from inspection.data.letterbox import Image8
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.files.listing import name_problems
from inspection.finite import NotFinite
from inspection.prediction.detections import Detections, box_values
from inspection.prediction.folder import Owner, claimed

_DEFAULT_THRESHOLD = 0.5
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
    run: str = "",
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
            out, else 0.5. The detector itself keeps nothing under 0.05.
        formats: Some of `FORMATS`. `detections.jsonl` is always written: a resume reads it.
        batch_size: Pictures per forward pass.
        resume: False does everything in `output` again, which a changed model or threshold needs.
        on_progress: Called with the number of pictures handled and of all.
        model_hash: Hash of the model's file, by which a changed model is noticed.
        run: Name of the model's run, for whoever finds the folder taken.

    Returns:
        Counts and problems; `problems.txt` in `output` lists the latter too.

    Raises:
        InputError: There is no picture at all, `output` holds annotations or other results, or
            it cannot be written to.
    """
    _check_options(threshold, formats, batch_size)
    folder = Path(os.path.abspath(output))  # noqa: PTH100  resolve() would follow links
    problems: list[str] = []
    listed = _listed(paths, folder / OVERLAYS, problems)
    if not listed:
        raise InputError(problems or "no picture was given; name image files or folders.")
    rule = _Rule.of(detector, threshold)
    refuse_annotations(folder)
    try:
        output_folder = OutputFolder(folder, formats, detector.classes)
        settings = {**rule.settings(detector), "model_hash": model_hash}
        owner = Owner(room="detection", model_hash=model_hash, run=run)
        hold = claimed(folder, owner, own=OWN, check=lambda: output_folder.open(settings, resume))
        with hold:
            call = _Run(detector, rule, output_folder, problems, on_progress)
            return call.predict(listed, batch_size)
    except OSError as error:
        # Whatever cannot be read became a problem, so this is the output.
        raise InputError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); make "
            "room or check the permissions, and run the same command again: finished pictures "
            "are kept."
        ) from error


def _check_options(threshold: float | None, formats: Sequence[str], batch_size: int) -> None:
    problems, unknown = [], sorted(set(formats) - set(FORMATS))
    if unknown:
        problems.append(f"formats: {', '.join(unknown)} is none of {', '.join(FORMATS)}.")
    if threshold is not None and not 0 <= threshold <= 1:
        problems.append(f"threshold: {threshold} must lie within 0 and 1, as scores do.")
    if batch_size < 1:
        problems.append(f"batch size: {batch_size} must be at least 1.")
    if problems:
        raise InputError(problems)


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
            "made_by": MADE_BY,
            "threshold": self.threshold,
            "review_threshold": review,
            "classes": list(detector.classes),
            "bits": detector.bits,
        }

    def record(self, source: _Source, picture: _Picture, found: Detections | None) -> Record:
        """One line of the journal; without finite detections the part is a reject."""
        height, width = picture.rgb.shape[:2]
        score = None if found is None else image_score(found)
        if score is None:
            decision = "NG"
        elif self.point is None:
            decision = "NG" if score >= self.threshold else "OK"
        else:
            decision = self.point.decide(score)
        return {
            "image": source.name,
            "width": width,
            "height": height,
            "decision": decision,
            "score": score,
            "boxes": [] if found is None else box_values(found.above(self.threshold)),
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
        output: OutputFolder,
        problems: list[str],
        on_progress: Progress | None,
    ) -> None:
        self._detector, self._rule, self._output = detector, rule, output
        self._problems = problems
        self._on_progress = on_progress or (lambda done, total: None)
        self._handled = self._total = self._done = 0

    def predict(self, listed: Sequence[tuple[Path, str]], batch_size: int) -> PredictResult:
        output = self._output
        known = [path for path, _ in listed if str(path) in output.records]
        states = ((str(path), _file_state(path)) for path in known)
        changed = [key for key, now in states if now and now != output.records[key]["state"]]
        # What was not decided is asked again, or its problem would be reported only once.
        undecided = [str(path) for path in known if output.records[str(path)]["score"] is None]
        output.forget([*changed, *undecided])
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
        decisions = dict.fromkeys(("OK", "review", "NG"), 0)
        for path in (str(source.path) for source in sources):
            if path in output.records:
                decisions[output.records[path]["decision"]] += 1
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

        for batch in self._batches(pool, sources, batch_size):
            for (source, picture), detections in zip(batch, self._found(batch), strict=True):
                record = self._rule.record(source, picture, detections)
                writing.append((record, pool.submit(self._output.draw, record, picture.rgb)))
            settle(batch_size)
        settle(0)

    def _found(self, batch: Sequence[tuple[_Source, _Picture]]) -> list[Detections | None]:
        """Detections of each picture; None, and a problem, where they are no finite numbers."""
        try:
            return list(self._detector.predict_batch([picture.rgb for _, picture in batch]))
        except NotFinite as error:
            if len(batch) > 1:  # the others of the batch may well be decided
                return [self._found([pair])[0] for pair in batch]
            self._problems.append(f"{batch[0][0].path}: {error}")
            return [None]

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


def _listed(
    paths: Sequence[str | Path], overlays: Path, problems: list[str]
) -> list[tuple[Path, str]]:
    """Absolute paths of all pictures, each once, and their names relative to what was given."""
    listed: dict[Path, str] = {}
    names: list[str] = []
    for given in paths:
        path = Path(os.path.abspath(given))  # noqa: PTH100  resolve() would follow links
        if path.is_dir():
            # Results below a folder of pictures are no pictures of the next call.
            found = [image for image in list_images(path, names) if overlays not in image.parents]
            if not found and not names:
                problems.append(
                    f"{given}: holds no PNG, JPEG, BMP or TIFF image; give another folder"
                )
            for image in found:
                listed.setdefault(image, image.relative_to(path).as_posix())
        elif path.exists():
            listed.setdefault(path, path.name)
        else:
            problems.append(f"{given}: there is no such file or folder; correct the path")
    if names := [*names, *name_problems(listed)]:
        raise InputError(names)
    return list(listed.items())


def _named(listed: Sequence[tuple[Path, str]], records: Mapping[str, Record]) -> list[_Source]:
    """Gives every picture a name and a place of its own; finished ones keep theirs."""
    names = {record["image"] for record in records.values()}
    stems = {_folded(record["stem"]) for record in records.values()}
    sources = []
    for path, relative in listed:
        if record := records.get(str(path)):
            sources.append(_Source(path, record["image"], record["stem"]))
            continue
        numbered = (f"{relative}~{number}" for number in itertools.count(2))
        longer = itertools.chain(_longer_names(path, relative), numbered)
        name = next(item for item in longer if item not in names)
        plain = PurePosixPath(name).with_suffix("").as_posix()
        numbered = (f"{name}~{number}" for number in itertools.count(2))
        places = itertools.chain((plain, name), numbered)
        stem = next(item for item in places if _folded(item) not in stems)
        names.add(name)
        stems.add(_folded(stem))
        sources.append(_Source(path, name, stem))
    return sources


def _longer_names(path: Path, relative: str) -> Iterator[str]:
    """The name as given, then with one folder more before it, up to the whole path."""
    parts = path.parts[1:]
    for count in range(len(PurePosixPath(relative).parts), len(parts) + 1):
        yield "/".join(parts[-count:])


def _folded(stem: str) -> str:
    # Windows and Mac file systems do not tell case apart, nor two ways to write Korean.
    return unicodedata.normalize("NFC", stem).casefold()


def _file_state(path: Path) -> list[int] | None:
    """Size in bytes and time of the last change in ns; None where the file is gone."""
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


def _read(path: Path, bits: int) -> _Picture:
    state = _file_state(path)  # before reading: a change meanwhile must show next time
    return _Picture(read_image(path, bits), state or [])
