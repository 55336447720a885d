"""What a training tells while it runs: console, CSV, TensorBoard and a curve image."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inspection.cli.console import plain_console
from inspection.errors import InputError, first_line, printable
from inspection.files.records import Finite, first_problem
from inspection.files.writing import atomic_path
from inspection.training.run import CURVES, LOG

_LINE_SECONDS = 30.0


class TrainingLog:
    """Shows progress as a bar in a terminal, as a line now and then elsewhere, and keeps files.

    Args:
        console: Where to write; standard output where left out.
        observers: Told the number and the values of each finished epoch.
    """

    loss_parts: ClassVar[Mapping[str, str]] = {"loss": "loss"}
    """The parts of the loss and what they are called in a line; the first is the whole."""
    score: ClassVar[tuple[str, str]] = ("val_score", "score")
    """Name and text of what is measured on the validation part, from 0 to 1."""

    def __init__(
        self,
        console: Console | None = None,
        observers: Sequence[Callable[[int, dict[str, float]], None]] = (),
    ) -> None:
        self.console = console or plain_console()
        self.observers = tuple(observers)
        self._folder: Path | None = None
        self._rows: list[dict[str, str]] = []
        self._bar: Progress | None = None
        self._board: Any = None
        self._shown = 0.0

    def say(self, text: str) -> None:
        """Prints one line."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    def open(self, folder: Path, resume_after: int | None = None) -> None:
        """Starts the files of a run; on a resume, rows after the resumed epoch are dropped.

        Raises:
            InputError: The log of the epochs before is damaged.
        """
        self._folder = folder
        if resume_after is not None and (folder / LOG).is_file():
            numeric = tuple(self.loss_parts)  # an epoch that was not validated has no score
            self._rows = [
                row
                for row in _read_rows(folder / LOG, numeric)
                if int(row["epoch"]) <= resume_after
            ]

    def start(
        self,
        steps: int,
        epochs: int,
        batch_size: int,
        epoch: int,
        step: int,
        row: Mapping[str, str] | None = None,
    ) -> None:
        """Begins to show progress at a step of the run.

        Args:
            steps: Of one epoch.
            epochs: In all.
            batch_size: Images of one step.
            epoch: Finished epochs.
            step: Finished steps.
            row: Of the last finished epoch; written where a kill came before the log.
        """
        if row and [old["epoch"] for old in self._rows[-1:]] != [row["epoch"]]:
            self._rows.append(dict(row))
            self._write(self._rows[-1])
        self._steps, self._epochs, self._batch_size = steps, epochs, batch_size
        self._epoch, self._step, self._first = epoch, step, step
        self._began = self._shown = time.perf_counter()
        self._waited = self._worked = self._validated = 0.0
        # A resumed run counts on from its last finished epoch.
        self._minutes_before = float(self._rows[-1]["minutes"]) if self._rows else 0.0
        self._average: dict[str, float] = {}
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task("", total=steps, completed=step % steps, text="")
            self._bar.start()

    def step(
        self, losses: dict[str, float], learning_rate: float, waited: float, seconds: float
    ) -> None:
        """Takes in one step: its losses, how long it waited for data and took in all."""
        self._step += 1
        self._waited += waited
        self._worked += seconds
        for name, value in losses.items():
            self._average[name] = 0.9 * self._average.get(name, value) + 0.1 * value
        text = self._text(learning_rate)
        if self._bar is not None:
            done = (self._step - 1) % self._steps + 1
            epoch = (self._step - 1) // self._steps + 1
            self._bar.update(
                self._task, description=f"epoch {epoch}/{self._epochs}", completed=done, text=text
            )
        elif time.perf_counter() - self._shown > _LINE_SECONDS:
            self._shown = time.perf_counter()
            epoch, done = divmod(self._step - 1, self._steps)
            self.say(f"epoch {epoch + 1}/{self._epochs} step {done + 1}/{self._steps} {text}")

    def _text(self, learning_rate: float) -> str:
        done = self._step - self._first
        per_step = (self._worked + self._validated) / done
        left = (self._steps * self._epochs - self._step) * per_step
        whole, *parts = (
            f"{text} {self._average[name]:.3f}" for name, text in self.loss_parts.items()
        )
        inside = f" ({', '.join(parts)})" if parts else ""
        return (
            f"{whole}{inside}  lr {learning_rate:.1e}  "
            f"{done * self._batch_size / self._worked:.1f} images/s  ETA {_clock(left)}"
        )

    def validating(self, count: int) -> Callable[[int], None]:
        """A callback for validation progress."""

        def on_progress(done: int) -> None:
            if self._bar is not None:
                self._bar.update(self._task, text=f"validating {done}/{count}")

        return on_progress

    def row(
        self, epoch: int, values: Mapping[str, float], details: Mapping[str, float]
    ) -> dict[str, str]:
        """The log's row of a finished epoch, which `epoch` takes in once the epoch is saved."""
        done = self._step - self._first
        worked = self._worked or math.inf  # resumed with only its validation left
        values = dict(values) | {
            "images_per_second": done * self._batch_size / worked,
            "waiting_for_data": self._waited / worked,
            "minutes": self._minutes_before + (time.perf_counter() - self._began) / 60,
        }
        row = {"epoch": str(epoch)} | {name: f"{value:.6g}" for name, value in values.items()}
        return row | {name: f"{value:.4f}" for name, value in details.items()}

    def epoch(self, row: Mapping[str, str], seconds: float, is_best: bool) -> None:
        """Takes in a finished epoch and rewrites the files; one not validated has no score.

        Args:
            row: What `row` made of it.
            seconds: That validating and saving took.
            is_best: Whether it is the best so far.
        """
        self._validated += seconds
        self._rows.append(dict(row))
        name, text = self.score
        result = f"val {text} {float(row[name]):.4f}" if row.get(name) else "not validated"
        self.say(
            f"epoch {row['epoch']}/{self._epochs}: loss {float(row['loss']):.4f}, {result}"
            f"{' (best so far)' if is_best else ''}, {float(row['minutes']):.1f} min"
        )
        self._write(self._rows[-1])

    def _write(self, row: Mapping[str, str]) -> None:
        """All files of the last row; the CSV last, by which a resume sees that all was written."""
        values = {name: float(value) for name, value in row.items() if value}
        del values["epoch"]
        if self._folder is not None:
            self._write_board(int(row["epoch"]), values)
            self._write_curves(self._folder / CURVES)
        for observe in self.observers:
            observe(int(row["epoch"]), values)
        if self._folder is not None:
            self._write_csv(self._folder / LOG)

    def _write_csv(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            pd.DataFrame(self._rows).to_csv(temporary, index=False)

    def _write_board(self, epoch: int, values: dict[str, float]) -> None:
        import tensorflow as tf

        if self._board is None:
            assert self._folder is not None
            self._board = tf.summary.create_file_writer(str(self._folder / "tensorboard"))
        with self._board.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._board.flush()

    def _write_curves(self, path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        epochs = [int(row["epoch"]) for row in self._rows]
        for name in self.loss_parts:
            left.plot(
                epochs, [float(row[name]) for row in self._rows], label=name.replace("_", " ")
            )
        left.set(xlabel="epoch", title="training loss")
        left.legend()
        scores = [float(row.get(self.score[0]) or "nan") for row in self._rows]
        known = [index for index, score in enumerate(scores) if not math.isnan(score)]
        right.plot([epochs[i] for i in known], [scores[i] for i in known], marker="o")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
        right.set(xlabel="epoch", title=f"{self.score[1]} on the validation part", ylim=(0, 1))
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110)

    def close(self) -> None:
        """Stops the bar and closes the files."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._board is not None:
            self._board.close()
            self._board = None


class _Row(BaseModel):
    """What every row of the log holds, beside figures of the room."""

    model_config = ConfigDict(extra="allow")

    epoch: int = Field(ge=1)
    minutes: Finite


def _read_rows(path: Path, numeric: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a log, as text.

    Raises:
        InputError: One is not a row of a training's log; names the line.
    """
    rows: list[dict[str, str]] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                _Row.model_validate(row)
                if rows and int(row["epoch"]) <= int(rows[-1]["epoch"]):
                    raise ValueError("the epochs do not ascend")
                for name, value in row.items():
                    if not isinstance(value, str) or (name in numeric and not value):
                        raise ValueError("a value is missing or too many")
                    float(value or 0)
                if missing := [name for name in numeric if name not in row]:
                    raise ValueError(f"there is no column {', '.join(missing)}")
                rows.append(row)
    except (csv.Error, ValueError, RecursionError) as error:
        what = first_problem(error) if isinstance(error, ValidationError) else first_line(error)
        raise InputError(
            f"{path}, line {len(rows) + 2}: is damaged ({what[:200]}); correct it, or remove the "
            "file to go on without the rows before."
        ) from error
    return rows


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
