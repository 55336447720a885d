"""Times several subjects in turn, each in a process of its own, and prints one table.

Every subject gets a fresh interpreter, so that its peak memory is its own. All of them stay
alive and are timed round by round, so that a busy machine slows all alike; while one works the
others sleep.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspection.files.writing import write_json_atomic


class Absent(Exception):
    """A subject cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Subject:
    """Something to time.

    Args:
        name: Shown in the table.
        make: A function of a module, called in the subject's process; returns the call to time.
        arguments: Of `make`.
        rounds: Runs at most so often, where it is very slow.
    """

    name: str
    make: Callable[..., Callable[[], Any]]
    arguments: tuple = ()
    rounds: int | None = None


@dataclass
class Figures:
    """What was measured of a subject.

    Args:
        seconds: One per round.
        cpu_seconds: Processor time of all its threads, one per round; it holds still where the
            machine is shared.
        peak_mb: Highest memory of its process, with everything it imports.
        absent: Why it could not run; empty where it could.
        result: What its last call returned, where that is a dictionary.
    """

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    absent: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds) if self.seconds else float("nan")


@dataclass(frozen=True)
class Bar:
    """A ratio of two subjects' seconds that is to be reached in every round.

    Args:
        text: What is claimed.
        slower: Its seconds are divided by the other's.
        faster: The other.
        bound: The ratio to reach.
        at_most: True where the ratio must not exceed the bound.
    """

    text: str
    slower: str
    faster: str
    bound: float
    at_most: bool = False

    def line(self, figures: dict[str, Figures]) -> str:
        """The bar, the ratios of the rounds in seconds and in CPU seconds, and how many reach it.

        Both are given, since one alone may mislead: seconds wander with what else the machine
        does, and CPU seconds do not show what a subject leaves undone by waiting.
        """
        slow, fast = figures.get(self.slower), figures.get(self.faster)
        sign = "<=" if self.at_most else ">="
        head = f"{self.text}: bar {sign} {self.bound:g}x"
        if not (slow and fast and slow.seconds and fast.seconds):
            return f"{head}, not measured"
        ratios = _ratios(slow.seconds, fast.seconds)
        reached = sum(
            ratio <= self.bound if self.at_most else ratio >= self.bound for ratio in ratios
        )
        verdict = {0: "MISSED", len(ratios): "met"}.get(
            reached, f"met in {reached} of {len(ratios)} rounds"
        )
        return (
            f"{head}, min/median/max {_range(ratios)}, in CPU seconds "
            f"{_range(_ratios(slow.cpu_seconds, fast.cpu_seconds))}: {verdict}"
        )


def _ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Round by round, so that a busy moment slows both sides of a ratio."""
    return [one / other for one, other in zip(slow, fast, strict=False) if other > 0]


def _range(ratios: Sequence[float]) -> str:
    if not ratios:
        return "not measured"
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return f"{low:.2f}/{middle:.2f}/{high:.2f}x"


def compare(subjects: Sequence[Subject], rounds: int) -> dict[str, Figures]:
    """Times the subjects in turn; the first call of each, which traces, is not counted.

    Args:
        subjects: What to time.
        rounds: Timed calls of each.

    Returns:
        Figures by name.
    """
    context = multiprocessing.get_context("spawn")
    figures = {subject.name: Figures() for subject in subjects}
    workers = {}
    try:
        for subject in subjects:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, subject), daemon=True)
            process.start()
            theirs.close()
            workers[subject.name] = (ours, process)
            print(f"  preparing {subject.name} ...", flush=True)
            _receive(ours, process, figures[subject.name])
        for index in range(rounds):
            for subject in subjects:
                chosen = figures[subject.name]
                if chosen.absent or (subject.rounds is not None and index >= subject.rounds):
                    continue
                _ask(*workers[subject.name], chosen)
    finally:
        for connection, process in workers.values():
            connection.close()
            process.join(timeout=10)
            if process.is_alive():
                process.terminate()
    return figures


def _ask(connection: Any, process: Any, figures: Figures) -> None:
    """Has a subject make one call; a process that has died meanwhile is only noted."""
    with contextlib.suppress(BrokenPipeError):
        connection.send("go")
    _receive(connection, process, figures)


def _receive(connection: Any, process: Any, figures: Figures) -> None:
    try:
        message = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join(timeout=10)
        message = {"absent": f"its process died with status {process.exitcode}"}
    figures.absent = message.get("absent", "")
    figures.peak_mb = message.get("peak_mb", figures.peak_mb)
    if "seconds" in message:
        figures.seconds.append(message["seconds"])
        figures.cpu_seconds.append(message["cpu_seconds"])
    figures.result = message.get("result") or figures.result


def _work(connection: Any, subject: Subject) -> None:
    """The life of a subject's process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        call = subject.make(*subject.arguments)
        call()
        connection.send({"peak_mb": _peak_mb()})
        while connection.recv() == "go":
            began, worked = time.perf_counter(), time.process_time()
            result = call()
            connection.send(
                {
                    "seconds": time.perf_counter() - began,
                    "cpu_seconds": time.process_time() - worked,
                    "peak_mb": _peak_mb(),
                    "result": result if isinstance(result, dict) else None,
                }
            )
    except EOFError:
        return
    except Exception as error:  # one subject's failure must not hide the others' figures
        text = str(error) if isinstance(error, Absent) else f"{type(error).__name__}: {error}"
        connection.send({"absent": text.strip().splitlines()[0][:200]})


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(figures: dict[str, Figures], reference: str) -> str:
    """Medians, ratios to one subject, spread and peak memory.

    Args:
        figures: By name.
        reference: The subject whose median is divided by the others', so that 2 is twice as
            fast as it.
    """
    base = figures[reference].median
    lines = [
        f"{'':34}{'median s':>10}{'min':>9}{'max':>9}{'runs':>6}"
        f"{'speed':>8}{'CPU s':>9}{'peak MB':>9}   (speed: {reference} = 1)"
    ]
    for name, found in figures.items():
        if found.absent or not found.seconds:
            lines.append(f"{name:34}{'-':>10}   {found.absent}")
            continue
        lines.append(
            f"{name:34}{found.median:10.3f}{min(found.seconds):9.3f}{max(found.seconds):9.3f}"
            f"{len(found.seconds):6}{base / found.median:8.2f}"
            f"{statistics.median(found.cpu_seconds):9.3f}{found.peak_mb:9.0f}"
        )
    return "\n".join(lines)


def report(
    title: str,
    figures: dict[str, Figures],
    reference: str,
    bars: Sequence[Bar],
    out: Path | None,
    **more: Any,
) -> None:
    """Prints the table and the bars, and writes everything as JSON where asked."""
    print(f"\n{title}\n{machine()}\n{table(figures, reference)}")
    lines = [bar.line(figures) for bar in bars]
    print("\n".join(lines))
    if out is not None:
        measured = {
            name: {
                "median": found.median,
                "seconds": found.seconds,
                "cpu_seconds": found.cpu_seconds,
                "peak_mb": found.peak_mb,
                "absent": found.absent,
                "result": found.result,
            }
            for name, found in figures.items()
        }
        value = {"title": title, "machine": machine(), "figures": measured, "bars": lines, **more}
        write_json_atomic(out, value)


def machine() -> str:
    """The processor, its cores, how busy it was, and which vector instructions it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in rows.items()}
    flags = set(fields.get("flags", "").split())
    vector = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if name in flags]
    return (
        f"{fields.get('model name', platform.processor())}, {os.cpu_count()} cores, "
        f"{' '.join(vector) or 'vector instructions unknown'}; "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}"
    )
