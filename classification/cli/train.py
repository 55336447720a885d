"""Training a classifier."""

from __future__ import annotations

from typing import Any

from classification.settings import ROOM, ClassificationSettings
from inspection.cli.commands import command_line
from inspection.cli.console import counted, reports_errors, say
from inspection.cli.options import Config, Resume, takes_settings
from inspection.settings import read_settings

_SAMPLE = ClassificationSettings().data


@reports_errors
@takes_settings(ClassificationSettings, positional=("data",))
def train(
    given: dict[str, Any],
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Trains a classifier; every epoch leaves a snapshot, the best one is best.keras."""
    settings = read_settings(ClassificationSettings, config, given)
    from classification.cli.arguments import check_settings, resume_settings

    if resume:
        settings = resume_settings(settings)
    elif settings.data == _SAMPLE and not _SAMPLE.exists():
        from classification.data.sample import write_sample

        count = write_sample(_SAMPLE)
        say(
            f"There is no --data and no {_SAMPLE}/ here: drew {counted(count, 'sample picture')} "
            f"into {_SAMPLE}/. For your own, delete it and make a folder there for each class."
        )
    check_settings(settings, resume)
    from classification.training.loop import train as start

    folder = start(settings, resume, say)
    say(f"Run: {folder}. Measure it with: {command_line(ROOM, 'evaluate', folder)}")
