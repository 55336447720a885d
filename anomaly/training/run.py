"""What a run's folder says of its training; read before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anomaly.data.dataset import Data
from anomaly.data.images import open_images
from anomaly.settings import AnomalySettings
from inspection.errors import InputError
from inspection.settings import read_settings
from inspection.training.run import MODEL, RUN_SPLIT, SETTINGS, run_split


def check_run(run: Path) -> None:
    """Refuses a folder that training did not make.

    Raises:
        InputError: It holds no model or no settings.
    """
    if not ((run / SETTINGS).is_file() and (run / MODEL).is_file()):
        raise InputError(
            f"{run}: is no run; give the folder that `python -m anomaly train` named, which holds "
            f"{MODEL} and {SETTINGS}"
        )


def is_finished(run: Path) -> bool:
    """Whether a training has ended: its model is written last."""
    return (run / MODEL).is_file()


def run_settings(run: Path) -> AnomalySettings:
    """The settings that a run was trained with.

    Raises:
        InputError: There is no such run.
    """
    check_run(run)
    return read_settings(AnomalySettings, run / SETTINGS, {})


def run_data(run: Path, say: Callable[[str], None] = lambda line: None) -> Data:
    """The pictures of a run, and the split it was trained with.

    Args:
        run: Its folder; the split is the copy kept there, wherever the run has been moved to.
        say: Told of pictures that have come since, which are left out.

    Raises:
        InputError: The run's settings, split or pictures cannot be read.
    """
    pictures = open_images(run_settings(run).data)
    split = run_split(run, pictures.items, say)
    known = tuple(item for item in pictures.items if item.image in split.assignments)
    return Data(replace(pictures, items=known), split, run / RUN_SPLIT)
