"""Training a RetinaNet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from detection.settings import ROOM, TrainSettings
from inspection.cli.commands import command_line
from inspection.cli.console import reports_errors, say
from inspection.cli.options import Config, Resume, takes_settings
from inspection.errors import InputError
from inspection.settings import read_settings


@reports_errors
@takes_settings(TrainSettings, positional=("images", "annotations"))
def train(
    given: dict[str, Any],
    resume: Resume = False,
    config: Config = None,
    promote: Annotated[
        str | None,
        typer.Option(help="Train nothing; make this run's best snapshot snapshots/best.keras."),
    ] = None,
) -> None:
    """Trains a RetinaNet; every epoch leaves a snapshot and its mAP on the validation part."""
    if promote is not None:
        others = {**given, "resume": resume or None, "config": config}
        _promote(promote, others.pop("snapshots", TrainSettings().snapshots), others)
        return

    settings = read_settings(TrainSettings, config, given)
    from detection.cli.arguments import check_settings, resume_settings

    if resume:
        settings = resume_settings(settings)
    check_settings(settings, resume)
    from detection.training.loop import train as start
    from inspection.files.writing import file_hash
    from inspection.training.run import BEST

    best = start(settings, resume)
    top = settings.snapshots / BEST
    also = top.is_file() and file_hash(top) == file_hash(best)
    say(
        f"Best snapshot: {best}{f', also {top}' if also else ''}. Measure it with: "
        f"{command_line(ROOM, 'evaluate', top if also else best)}"
    )


def _promote(run: str, snapshots: Path, others: dict[str, Any]) -> None:
    ignored = [
        f"--{key.replace('_', '-')}: --promote trains nothing and takes no flag but --snapshots; "
        "leave it out."
        for key, value in others.items()
        if value is not None
    ]
    if ignored:
        raise InputError(ignored)
    from detection.models.snapshots import promote_run

    say(promote_run(snapshots, run))
