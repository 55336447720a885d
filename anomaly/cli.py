"""The command line: `python -m anomaly` with its verbs."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from inspection.console import progress, reports_errors, say
from inspection.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From normal pictures to a score, a heat map and a decision.",
)


@app.command()
@reports_errors
def train(
    data: Annotated[Path, typer.Argument(help="Folder with normal/, MVTec layout, or a CSV.")],
    method: Annotated[str | None, typer.Option(help="How.", show_default="patchcore")] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="date and method")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs.", show_default="runs")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="resnet18 to resnet152.", show_default="resnet18")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="auto, imagenet, self (trained on your normal pictures), none, or a .h5.",
            show_default="auto",
        ),
    ] = None,
    pretrain_steps: Annotated[
        int | None, typer.Option(help="Steps of --weights self.", show_default="600")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side the network sees.", show_default="256")
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="letterbox or stretch.", show_default="stretch")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits that a 16-bit camera fills.", show_default="16")
    ] = None,
    roi: Annotated[str | None, typer.Option(help="Region x1,y1,x2,y2 in pixels.")] = None,
    tile: Annotated[int | None, typer.Option(help="Side of overlapping tiles.")] = None,
    fractions: Annotated[
        str | None,
        typer.Option(help="Train, calibration, test.", show_default="0.6,0.15,0.25"),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(help="Regex with one group, or CSV image,group: pictures of one part."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides everything random.", show_default="0")
    ] = None,
    aggregation: Annotated[
        str | None, typer.Option(help="Map to score.", show_default="chosen on calibration")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="least-overkill, least-miss, least-cost, normal-quantile or review-band.",
            show_default="least-overkill; without defects normal-quantile",
        ),
    ] = None,
    target_miss: Annotated[
        float | None, typer.Option(help="Highest miss rate.", show_default="0.005")
    ] = None,
    target_overkill: Annotated[
        float | None, typer.Option(help="Highest overkill rate.", show_default="0.02")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of settings; flags win.")] = None,
) -> None:
    """Learns normal pictures; chooses the threshold on the calibration part."""
    given = {key: value for key, value in locals().items() if key != "config"}
    for name, count in (("roi", 4), ("fractions", 3)):
        if given[name] is not None:
            given[name] = _numbers(name, given[name], count)
    from anomaly.settings import AnomalySettings
    from inspection.settings import read_settings

    settings = read_settings(AnomalySettings, config, given)
    from anomaly.training import train as start

    with _stages() as on_progress:
        folder = start(settings, say, on_progress)
    say(f"Run: {folder}. Measure it with: python -m anomaly evaluate {folder}")


@app.command()
@reports_errors
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data: Annotated[
        Path | None, typer.Option(help="Other pictures, all of which are measured.")
    ] = None,
) -> None:
    """Miss, overkill, AUROC, AUPRO, size and speed at the model's own threshold."""
    from anomaly.evaluation import evaluate as measure
    from anomaly.evaluation import lines

    with _stages() as on_progress:
        found = measure(run, split, data, say, on_progress)
    for line in lines(found):
        say(line)


def _numbers(name: str, text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise InputError(f"--{name} {text}: give {count} numbers with commas between them")
    return values


@contextmanager
def _stages():
    """One bar that changes its text from stage to stage."""
    with progress("starting") as bar:
        yield lambda what, done, total: bar(done, total, what)
