"""Images in, a decision on each out: tables and drawings in a folder, resumable at any point.

A room says how an image is read, decided and drawn (`Predictor`); all else is the same for all.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.files.writing import write_text_atomic
from inspection.finite import NotFinite, check_finite
from inspection.prediction.journal import (
    NOT_DECIDED,
    PROBLEMS,
    TABLE,
    AnyLine,
    Journal,
    Owner,
    claimed,
    file_state,
)
from inspection.prediction.sources import Listed, images_of, list_given, place_images
from inspection.progress import Progress, silent
from inspection.training.prefetch import ahead

_DRAWING = 2  # threads: an overlay may take longer than the model

Read = TypeVar("Read")


@dataclass(frozen=True)
class Answer:
    """What came of one image.

    Args:
        decision: As in `journal.Line`.
        score: As in `journal.Line`.
        values: The line's fields that are the room's.
        draw: Given the paths by the names in `Predictor.drawings`, writes what is drawn of the
            image; called in a thread.
        problem: Why it could not be decided; empty where it was.
    """

    decision: str
    score: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Mapping[str, Path]], None] = lambda paths: None
    problem: str = ""


class Predictor(ABC, Generic[Read, AnyLine]):
    """What a room adds to the prediction of a folder.

    Attributes:
        room: Its name.
        line: Its lines of the journal; every field of its own has a default.
        columns: What its rows of `predictions.csv` hold between decision and file.
        drawings: Folders of what is drawn of each image, and the suffix in it.
        wanted: Those of them that are drawn this time.
        tables: Names of tables of its own.
        settings: What decides besides the model; a change of it is refused.
    """

    room: str
    line: type[AnyLine]
    columns: Sequence[str]
    drawings: Mapping[str, str] = {}
    wanted: Sequence[str] = ()
    tables: tuple[str, ...] = ()
    settings: Mapping[str, Any] = {}

    @abstractmethod
    def read(self, path: Path) -> Read:
        """An image as `decide` takes it; called in a thread. Raises InputError."""

    @abstractmethod
    def decide(self, images: Sequence[Read]) -> list[Answer]:
        """Raises InputError where it cannot, NotFinite where the parts are rejects."""

    @abstractmethod
    def cells(self, line: AnyLine) -> Sequence[object]:
        """The image's values of `columns`, of one that is not decided, too."""

    def table(self, name: str, lines: Sequence[AnyLine]) -> Iterable[Sequence[object]]:
        """Header and rows of one of `tables`."""
        return ()

    def remarks(self, lines: Sequence[AnyLine]) -> list[str]:
        """What is said at the end beside the decisions."""
        return []

    def find(self, path: Path, names: list[str]) -> list[Listed]:
        """The images of a file or folder that is there; `names` as in `list_images`."""
        return images_of(path, names)

    def refuse(self, folder: Path) -> None:
        """Raises InputError where the room writes no predictions."""


@dataclass(frozen=True)
class Predicted(Generic[AnyLine]):
    """What `predict_folder` did.

    Args:
        folder: Where the results are.
        done: Images that this call decided on.
        skipped: Images that an earlier call had decided on.
        problems: One sentence for each file that could not be decided; the command line exits with
            status 2 if there are any.
        lines: Of all images of this call.
        notes: What was left out, one sentence each.
    """

    folder: Path
    done: int
    skipped: int
    problems: tuple[str, ...]
    lines: tuple[AnyLine, ...]
    notes: tuple[str, ...] = ()

    @property
    def decisions(self) -> Counter[str]:
        """How many images are OK, review, NG and not decided."""
        return Counter(line.decision for line in self.lines)


def settings_of(point: OperatingPoint | None, threshold: float | None = None) -> dict[str, Any]:
    """`Predictor.settings` of a model that decides by its operating point, or else a threshold."""
    review = None if point is None else point.review_threshold
    return {
        "threshold": threshold if point is None else point.threshold,
        "review_threshold": review,
    }


def predict_folder(
    predictor: Predictor[Read, AnyLine],
    paths: Sequence[str | Path],
    output: str | Path,
    owner: Owner | None = None,
    *,
    restart: bool = False,
    batch_size: int = 1,
    on_progress: Progress = silent,
) -> Predicted[AnyLine]:
    """Decides on files and folders of images and writes what came of them into a folder.

    Killed at any point and called again with the same owner, it goes on where it was; an image
    that changed since, was not decided, or lacks a drawing is done again, and images of further
    calls join the tables. No two images share a name: where they meet, folders or the suffix are
    put into the later one's.

    Args:
        predictor: The room's.
        paths: Image files, and folders that are searched recursively.
        output: Folder of the results, made where missing, of nothing else.
        owner: Whose results these are; where left out nothing can be gone on with.
        restart: Do everything in `output` again, which a changed model or setting needs.
        batch_size: Images that the model looks at together.
        on_progress: Called with the number of images handled and of all.

    Raises:
        InputError: There is no image at all, `output` holds other results, or it cannot be
            written to.
    """
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be at least 1.")
    folder = Path(os.path.abspath(output))  # noqa: PTH100  resolve() would follow links
    problems: list[str] = []
    own = [folder / name for name in predictor.drawings]
    notes: list[str] = []
    listed = list_given(paths, own, problems, notes, predictor.find)
    if not listed:
        raise InputError(problems or "no image was given; name image files or folders.")
    predictor.refuse(folder)
    owner = owner or Owner(room=predictor.room)
    owner = owner.model_copy(update={"settings": dict(predictor.settings)})
    drawings, tables = predictor.drawings, predictor.tables
    try:
        with claimed(folder, owner, predictor.line, drawings, tables, restart) as journal:
            call = _Call(predictor, folder, journal, listed, problems, on_progress)
            return replace(call.predict(batch_size), notes=tuple(notes))
    except OSError as error:
        # Whatever cannot be read became a problem, so this is the output.
        raise InputError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); make "
            "room or check the permissions, and run the same command again: finished images "
            "are kept."
        ) from error


def decide_images(
    model: Predictor[Read, AnyLine], paths: Sequence[Path], batch_size: int = 1
) -> Generator[tuple[Path, list[int], Answer], None, None]:
    """What comes of each image, those of the next batch read in a thread meanwhile.

    Args:
        model: Looks at them.
        paths: Images.
        batch_size: Images that it looks at together.

    Yields:
        Path, `file_state` from before it was read, and answer, in order.
    """
    batches = _Batches(model, paths, batch_size)
    for batch in ahead(batches, 0, -(-len(paths) // batch_size), depth=1):
        read = [(path, image) for path, _, image in batch if not isinstance(image, InputError)]
        answers = dict(zip((path for path, _ in read), _decided(model, read), strict=True))
        for path, state, image in batch:
            if isinstance(image, InputError):
                yield path, state, Answer(NOT_DECIDED, problem=" ".join(image.problems))
            else:
                yield path, state, answers[path]


def _decided(model: Predictor[Read, AnyLine], images: Sequence[tuple[Path, Read]]) -> list[Answer]:
    if not images:
        return []
    try:
        answers = model.decide([image for _, image in images])
        check_finite(scores=np.array([one.score or 0.0 for one in answers]))
        return answers
    except InputError as error:
        if len(images) > 1:  # the others of the batch may well be decided
            return [_decided(model, [pair])[0] for pair in images]
        # Of a good image without a finite answer the part is a reject.
        decision = "NG" if isinstance(error, NotFinite) else NOT_DECIDED
        return [Answer(decision, problem=f"{images[0][0]}: {' '.join(error.problems)}")]


class _Batches(Generic[Read, AnyLine]):
    """Images read; an InputError in place of one that cannot be."""

    def __init__(
        self, model: Predictor[Read, AnyLine], paths: Sequence[Path], batch_size: int
    ) -> None:
        self._model, self._paths, self._size = model, paths, batch_size

    def __getitem__(self, step: int) -> list[tuple[Path, list[int], Read | InputError]]:
        batch: list[tuple[Path, list[int], Read | InputError]] = []
        for path in self._paths[step * self._size : (step + 1) * self._size]:
            state = file_state(path)  # before reading: a change meanwhile must show next time
            try:
                batch.append((path, state, self._model.read(path)))
            except InputError as error:
                batch.append((path, state, error))
        return batch


class _Call(Generic[Read, AnyLine]):
    """One call: reading ahead, the model, and drawing behind it, each in a thread."""

    def __init__(
        self,
        predictor: Predictor[Read, AnyLine],
        folder: Path,
        journal: Journal[AnyLine],
        listed: Sequence[Listed],
        problems: list[str],
        on_progress: Progress,
    ) -> None:
        self._predictor, self._folder, self._journal = predictor, folder, journal
        self._listed, self._problems, self._on_progress = listed, problems, on_progress
        self._places = place_images(listed, journal.lines.values())
        self._handled = self._done = 0

    def predict(self, batch_size: int) -> Predicted[AnyLine]:
        paths = [path for path, _ in self._listed]
        waiting = [path for path in paths if not self._is_done(path)]
        for path in waiting:  # what it says of one that changed is no longer true
            if line := self._journal.lines.pop(str(path), None):
                _remove(self._drawn(line.stem).values())
        skipped = self._handled = len(paths) - len(waiting)
        self._on_progress(skipped, len(paths))
        try:
            self._decide(waiting, batch_size)
        except BaseException:
            # Interrupted or out of disk: what is there should at least be in the tables.
            with contextlib.suppress(OSError):
                self._write_tables()
            raise
        self._write_tables()
        lines = tuple(self._journal.lines[str(path)] for path in paths)
        return Predicted(self._folder, self._done, skipped, tuple(self._problems), lines)

    def _is_done(self, path: Path) -> bool:
        line = self._journal.known(path)
        if line is None:
            return False
        drawn = self._drawn(line.stem)
        return all(drawn[name].is_file() for name in self._predictor.wanted)

    def _drawn(self, stem: str) -> dict[str, Path]:
        return {
            name: self._folder / name / f"{stem}{suffix}"
            for name, suffix in self._predictor.drawings.items()
        }

    def _decide(self, paths: Sequence[Path], batch_size: int) -> None:
        drawing: deque[tuple[Path, list[int], Answer, Future[None]]] = deque()
        answers = decide_images(self._predictor, paths, batch_size)
        with ThreadPoolExecutor(_DRAWING) as pool, contextlib.closing(answers):
            for path, state, answer in answers:
                drawing.append((path, state, answer, pool.submit(self._draw, path, answer)))
                while len(drawing) > batch_size + _DRAWING - 1:
                    self._settle(*drawing.popleft())
            while drawing:
                self._settle(*drawing.popleft())

    def _draw(self, path: Path, answer: Answer) -> None:
        drawn = self._drawn(self._places[path].stem)
        # Of one that is not decided they would say that the part is good.
        wanted = () if answer.problem else self._predictor.wanted
        _remove(place for name, place in drawn.items() if name not in wanted)
        if wanted:
            answer.draw(drawn)

    def _settle(self, path: Path, state: list[int], answer: Answer, drawn: Future[None]) -> None:
        problem = answer.problem
        try:
            drawn.result()
        except InputError as error:
            problem = " ".join(error.problems)
        self._journal.add(
            self._predictor.line(
                image=self._places[path].name,
                score=answer.score,
                decision=answer.decision,
                file=str(path),
                stem=self._places[path].stem,
                state=state,
                done=not problem,
                **answer.values,
            )
        )
        if problem:
            self._problems.append(problem)
        else:
            self._done += 1
        self._handled += 1
        self._on_progress(self._handled, len(self._listed))

    def _write_tables(self) -> None:
        """From all lines: those of other calls first, then this one's in the order given."""
        ours = dict.fromkeys(str(path) for path, _ in self._listed)
        known = self._journal.lines
        order = [*(file for file in known if file not in ours), *(f for f in ours if f in known)]
        lines = [known[file] for file in order]
        rows: list[Sequence[object]] = [
            ("image", "score", "decision", *self._predictor.columns, "file")
        ]
        for line in lines:
            score = "" if line.score is None else f"{line.score:.9g}"
            cells = self._predictor.cells(line)
            rows.append((line.image, score, line.decision, *cells, line.file))
        write_text_atomic(self._folder / TABLE, sheet_text(rows))
        for name in self._predictor.tables:
            text = sheet_text(self._predictor.table(name, lines))
            write_text_atomic(self._folder / name, text)
        if self._problems:
            write_text_atomic(self._folder / PROBLEMS, "\n".join(self._problems) + "\n")
        else:
            (self._folder / PROBLEMS).unlink(missing_ok=True)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
