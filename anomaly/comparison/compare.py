"""Several methods on one or many products, trained and measured alike, in one table."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly.evaluation.scored import figures_file
from anomaly.methods.base import FeatureMethod
from anomaly.methods.profiles import PROFILES
from anomaly.models.model import method_class
from anomaly.settings import AnomalySettings
from anomaly.training.loop import contents, train
from anomaly.training.setup import Say, data_of, normals_of
from inspection.cli.commands import own_environment
from inspection.decisions.rates import Rate, more_needed, percent
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.files.writing import write_text_atomic
from inspection.progress import StageProgress, silent
from inspection.training.run import MODEL, read_record

TABLE = "compare.csv"


@dataclass(frozen=True)
class Targets:
    """What a method must reach.

    Args:
        miss: Highest miss rate, 0 to 1.
        overkill: Highest overkill rate, 0 to 1.
        mb: Largest model file in 10^6 bytes; None asks nothing.
        ms: Longest time from file to decision (p95) in milliseconds; None asks nothing.
    """

    miss: float = 0.005
    overkill: float = 0.02
    mb: float | None = None
    ms: float | None = None


@dataclass(frozen=True)
class Row:
    """One method on one product.

    Args:
        product: Name of the data root.
        method: Name of the method.
        run: Folder of the run.
        figures: As `Evaluation.to_dict`; empty where it failed.
        settings: What distinguishes this training, in words.
        minutes: Of training, without a backbone that was there already.
        problems: Why there are no figures.
    """

    product: str
    method: str
    run: Path
    figures: dict[str, Any]
    settings: str = ""
    minutes: float = math.nan
    problems: tuple[str, ...] = ()

    def rate(self, name: str) -> Rate:
        """`miss`, `overkill` or `accuracy`."""
        values = self.figures[name]
        return Rate(values["count"], values["total"], values["of"])

    def number(self, name: str) -> float:
        """A figure, NaN where it could not be measured."""
        value = self.figures.get(name)
        return math.nan if value is None else float(value)

    def verdict(self, targets: Targets) -> tuple[str, str]:
        """`pass`, `pass, not shown`, `fail` or `failed to run`, and why.

        `not shown`: the counts meet the targets, but the test is too small to be 95 % sure.
        """
        if self.problems:
            return "failed to run", " ".join(self.problems)
        wrong, unshown = [], []
        for name, target in (("miss", targets.miss), ("overkill", targets.overkill)):
            rate = self.rate(name)
            if not rate.total:
                wrong.append(f"{name} not measurable")
            elif rate.value > target:
                wrong.append(f"{name} {percent(rate.value)}")
            elif more := more_needed(rate, target):
                unshown.append(f"{more} more {rate.of} would show {name} <= {percent(target)}")
        for name, value, target, unit in (
            ("size", self.number("model_mb"), targets.mb, "MB"),
            ("time", self.number("ms_p95"), targets.ms, "ms"),
        ):
            if target is not None and not value <= target:
                wrong.append(f"{name} {value:.0f} {unit}")
        if wrong:
            return "fail", ", ".join(wrong)
        return "pass, not shown" if unshown else "pass", "; ".join(unshown)


def compare(
    sources: Sequence[Path],
    methods: Sequence[str],
    settings: AnomalySettings,
    profile: str = "cpu",
    name: str = "compare",
    say: Say = print,
    on_progress: StageProgress = silent,
) -> list[Row]:
    """Trains and measures every method on every product.

    Each model is measured in a process of its own, so that time and memory are those of a
    machine that only inspects. Runs that were finished before with the same settings on the same
    images are kept, so an interrupted comparison goes on where it was.

    Args:
        sources: Data roots.
        methods: Names; see `anomaly.cli.arguments.check_comparison`.
        settings: What all share; `data`, `method`, `options` and `run` are set here.
        profile: `cpu` or `paper`, the options of each method; `settings.options` win over it,
            by method name.
        name: Folder of the comparison below the runs' folder.
        say: Receives lines about what happens.
        on_progress: Called with what is being done, how far it is, and the whole.

    Returns:
        A row for each product and method.

    Raises:
        InputError: A data root is named twice; what one method on one product cannot use is in
            its row.
    """
    roots = _names(sources)
    rows = []
    say = _once(say)
    for source, product in zip(sources, roots, strict=True):
        for number, method in enumerate(methods):
            options = PROFILES[profile][method] | settings.options.get(method, {})
            values = settings.model_dump() | {
                "data": source,
                "method": method,
                "options": options,
                "run": f"{product}-{method}",
                "runs": settings.runs / name,
                "kept": settings.kept_in,
            }
            one = AnomalySettings.model_validate(values)
            say(f"{product}, {method} ({number + 1} of {len(methods)})")
            rows.append(_row(one, product, methods, say, on_progress))
    return rows


def _once(say: Say) -> Say:
    """What all methods say about the same images is shown once."""
    said: set[str] = set()

    def say_new(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return say_new


def _names(sources: Sequence[Path]) -> list[str]:
    """The last parts of the paths, with the folder's before it where they meet."""
    resolved = [source.resolve() for source in sources]
    short = [path.stem for path in resolved]
    names = [
        f"{path.parent.name}_{one}" if short.count(one) > 1 else one
        for path, one in zip(resolved, short, strict=True)
    ]
    if len(set(names)) < len(names):
        raise InputError("the same data root was given twice; name each product once")
    return names


def _row(
    settings: AnomalySettings,
    product: str,
    methods: Sequence[str],
    say: Say,
    on_progress: StageProgress,
) -> Row:
    run = settings.runs / settings.run
    try:
        if _finished(run, settings, say):
            say(f"{run}: trained before with these settings on these images.")
        else:
            (run / MODEL).unlink(missing_ok=True)
            train(settings, say, on_progress, _taps_of_all(settings, methods))
        if not figures_file(run).is_file():
            _evaluate_apart(run)
    except InputError as error:
        for problem in error.problems:
            say(f"{product}, {settings.method}: {problem}")
        return Row(product, settings.method, run, {}, problems=error.problems)
    figures = json.loads(figures_file(run).read_text(encoding="utf-8"))
    minutes = read_record(run).minutes
    minutes = math.nan if minutes is None else minutes
    return Row(product, settings.method, run, figures, _words(settings), minutes)


def _finished(run: Path, settings: AnomalySettings, say: Say) -> bool:
    """Whether the run was trained with these settings on images that are still the same."""
    if not (run / MODEL).is_file():
        return False
    stored = read_record(run).model_dump()
    if stored.get("settings") != settings.model_dump(mode="json"):
        return False
    data = data_of(settings, say)
    wanted = contents(data, normals_of(data, settings, say))
    return all(stored.get(name) == value for name, value in wanted.items())


def _taps_of_all(settings: AnomalySettings, methods: Sequence[str]) -> list[str]:
    """Taps of the backbone's embedding that the other methods will ask for."""
    from anomaly.methods.pretraining import EMBEDDING

    if settings.weights not in ("self", "auto") or settings.backbone != "resnet18":
        return []
    kinds = [method_class(method) for method in methods]
    return sorted(
        {
            tap
            for kind in kinds
            if issubclass(kind, FeatureMethod)
            for tap in kind.taps_of((EMBEDDING,))
        }
    )


def _evaluate_apart(run: Path) -> None:
    command = [sys.executable, "-m", "anomaly", "evaluate", str(run)]
    done = subprocess.run(
        command,
        env=own_environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        lines = [line.removeprefix("Error: ") for line in done.stderr.strip().splitlines()]
        raise InputError(lines[-3:] or f"{run}: could not be measured")


def _words(settings: AnomalySettings) -> str:
    """Size, backbone and the method's options, as they stand in the table."""
    shown = [f"{settings.size} px"]
    if issubclass(method_class(settings.method), FeatureMethod):
        weights = settings.weights
        if weights in ("self", "auto") and settings.backbone == "resnet18":
            weights = f"self {settings.pretrain_steps} steps"
        shown.append(f"{settings.backbone} {weights}")
    return ", ".join([*shown, *(f"{name} {value}" for name, value in settings.options.items())])


_HEADER = (
    *("product", "method", "verdict", "why", "miss", "miss_low", "miss_high", "defects"),
    *("overkill", "overkill_low", "overkill_high", "normals", "accuracy", "auroc", "pixel_auroc"),
    *("aupro", "model_mb", "ms_p50", "ms_p95", "peak_mb", "minutes", "settings", "run"),
)


def write_table(rows: Sequence[Row], targets: Targets, path: Path) -> None:
    """The rows as CSV."""
    lines: list[Sequence[object]] = [_HEADER]
    for row in rows:
        verdict, why = row.verdict(targets)
        cells: list[Any] = [row.product, row.method, verdict, why]
        if row.problems:
            cells += [""] * (len(_HEADER) - len(cells) - 1) + [str(row.run)]
        else:
            for name in ("miss", "overkill"):
                rate = row.rate(name)
                low, high = rate.interval
                cells += [_cell(rate.value), _cell(low), _cell(high), rate.total]
            cells.append(_cell(row.rate("accuracy").value))
            names = ("auroc", "pixel_auroc", "aupro", "model_mb", "ms_p50", "ms_p95", "peak_mb")
            cells += [_cell(row.number(name)) for name in names]
            cells += [_cell(row.minutes), row.settings, str(row.run)]
        lines.append(cells)
    write_text_atomic(path, sheet_text(lines))


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
