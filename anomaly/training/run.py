"""What a run's folder says of its training; read before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anomaly.data.images import open_images
from anomaly.settings import AnomalySettings
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.errors import InputError
from inspection.settings import read_settings
from inspection.training.run import MODEL, SETTINGS
from inspection.training.run_images import Chosen, choose_labelled, still_there, where_now


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


def data_now(run: Path, settings: AnomalySettings) -> Path:
    """Where a run's images lie: as its settings say, or moved together with the run."""
    return where_now(settings.data, settings.runs / str(settings.run), run)


def run_images(run: Path, source: Path | None = None, flag: str = "") -> LabelledImages:
    """The images of a run, wherever they and the run have been moved to.

    Args:
        run: Its folder.
        source: Where the images are now; see `data_now` where left out.
        flag: By which the user says so; for messages.

    Raises:
        InputError: The run's settings or the images cannot be read.
    """
    return open_images(source or still_there(data_now(run, run_settings(run)), run, flag))


def run_part(
    run: Path, part: str | None = None, source: Path | None = None, flag: str = "--data"
) -> tuple[LabelledImages, Chosen[LabelledImage]]:
    """The images that an evaluation is of, and what they are a part of.

    Args:
        run: Its folder.
        part: See `inspection.training.run_images.choose_part`.
        source: Where the images are now, or other images.
        flag: By which the user says so; for messages.

    Raises:
        InputError: Run or images cannot be used, or there is nothing to measure.
    """
    images, chosen = choose_labelled(run_images(run, source, flag), run, part, source, flag)
    if chosen.part == "train":  # defects of learnt parts are not learnt
        images = replace(images, items=tuple(item for item in images.items if item.is_normal))
        if not images.items:
            raise InputError(
                f"{images.root}: none of the normal images of the train part is there; choose "
                "another --split"
            )
    return images, chosen
