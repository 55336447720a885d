"""What a training tells while it runs: console, CSV, TensorBoard and a curve picture."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inspection.console import plain_console
from inspection.errors import printable
from inspection.runs import atomic_path, peak_memory_mb

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
        self._board = None
        self._shown = 0.0

    def say(self, text: str) -> None:
        """Prints one line."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    @staticmethod
    def memory() -> str:
        """Peak memory of this process so far, in words."""
        peak = peak_memory_mb()
        return (
            "memory is not known here" if math.isnan(peak) else f"memory in use now: {peak:.0f} MB"
        )

    def open(self, folder: Path, resume_after: int | None = None) -> None:
        """Starts the files of a run; on a resume, rows after the resumed epoch are dropped."""
        self._folder = folder
        path = folder / "log.csv"
        if resume_after is not None and path.is_file():
            rows = pd.read_csv(path, dtype=str)
            kept = rows[rows["epoch"].astype(int) <= resume_after]
            self._rows = kept.to_dict("records")

    def start(self, steps: int, epochs: int, batch_size: int, epoch: int, step: int) -> None:
        """Begins to show progress at a step of the run."""
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

    def epoch(
        self,
        epoch: int,
        values: dict[str, float],
        details: dict[str, float],
        seconds: float,
        is_best: bool,
    ) -> None:
        """Takes in a finished epoch and rewrites the files; one not validated has no score."""
        self._validated += seconds
        done = self._step - self._first
        worked = self._worked or math.inf  # resumed with only its validation left
        values = values | {
            "images_per_second": done * self._batch_size / worked,
            "waiting_for_data": self._waited / worked,
            "minutes": self._minutes_before + (time.perf_counter() - self._began) / 60,
        }
        row = {"epoch": str(epoch)} | {name: f"{value:.6g}" for name, value in values.items()}
        row |= {name: f"{value:.4f}" for name, value in details.items()}
        self._rows.append(row)
        name, text = self.score
        result = f"val {text} {values[name]:.4f}" if name in values else "not validated"
        self.say(
            f"epoch {epoch}/{self._epochs}: loss {values['loss']:.4f}, {result}"
            f"{' (best so far)' if is_best else ''}, {values['minutes']:.1f} min"
        )
        if self._folder is not None:
            self._write_csv(self._folder / "log.csv")
            self._write_board(epoch, values)
            self._write_curves(self._folder / "curves.png")
        for observe in self.observers:
            observe(epoch, values | details)

    def _write_csv(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            pd.DataFrame(self._rows).to_csv(temporary, index=False)

    def _write_board(self, epoch: int, values: dict[str, float]) -> None:
        import tensorflow as tf

        if self._board is None:
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
        scores = [float(row.get(self.score[0], "nan")) for row in self._rows]
        known = [index for index, score in enumerate(scores) if not math.isnan(score)]
        right.plot([epochs[i] for i in known], [scores[i] for i in known], marker="o")
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
        right.set(xlabel="epoch", title=f"{self.score[1]} on the validation part", ylim=(0, 1))
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110)

    @contextlib.contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Holds off further Ctrl-C while the run is saved."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def close(self) -> None:
        """Stops the bar and closes the files."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._board is not None:
            self._board.close()
            self._board = None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
