"""Learning normal images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly.settings import ROOM, AnomalySettings
from inspection.cli.commands import command_line
from inspection.cli.console import reports_errors, say, stages
from inspection.cli.options import Config, Resume, takes_settings
from inspection.errors import InputError
from inspection.settings import read_settings


@reports_errors
@takes_settings(AnomalySettings, positional=("data",), optional=("data",))
def train(
    given: dict[str, Any],
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Learns normal images; chooses the threshold on the calibration part."""
    from anomaly.cli.arguments import check_settings, resume_settings
    from anomaly.training.run import is_finished

    if resume:
        typed = read_settings(AnomalySettings, config, {"data": Path(), **given})
        if "data" not in given:
            typed.model_fields_set.discard("data")  # nothing was said of it
        settings = resume_settings(typed)
        run = settings.runs / str(settings.run)
        if is_finished(run):
            say(f"{run}: this run is finished; there is nothing to go on with.")
            return
    elif "data" in given or config is not None:
        settings = read_settings(AnomalySettings, config, given)
    else:
        raise InputError("DATA is missing: give the folder that holds `normal/`, or --resume")
    check_settings(settings, resume)
    from anomaly.training.loop import train as start

    with stages() as on_progress:
        folder = start(settings, say, on_progress, resume=resume)
    say(f"Run: {folder}. Measure it with: {command_line(ROOM, 'evaluate', folder)}")
