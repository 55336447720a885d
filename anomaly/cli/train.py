"""Learning normal images."""

from __future__ import annotations

from typing import Any

from anomaly.settings import ROOM, AnomalySettings
from inspection.cli.commands import command_line
from inspection.cli.console import reports_errors, say, stages
from inspection.cli.options import Config, takes_settings
from inspection.settings import read_settings


@reports_errors
@takes_settings(AnomalySettings, positional=("data",))
def train(
    given: dict[str, Any],
    config: Config = None,
) -> None:
    """Learns normal pictures; chooses the threshold on the calibration part."""
    settings = read_settings(AnomalySettings, config, given)

    from anomaly.cli.arguments import check_settings

    check_settings(settings)
    from anomaly.training.loop import train as start

    with stages() as on_progress:
        folder = start(settings, say, on_progress)
    say(f"Run: {folder}. Measure it with: {command_line(ROOM, 'evaluate', folder)}")
