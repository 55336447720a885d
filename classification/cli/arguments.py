"""What the verbs are given, looked at before Keras is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from classification.cam.methods import METHODS, SMOOTHINGS
from classification.data.images import open_images
from classification.evaluation.measure import run_part
from classification.settings import ROOM, ClassificationSettings
from inspection.cli.arguments import choice_problems, refuse
from inspection.data.grouping import grouping_by
from inspection.data.images import path_problems
from inspection.data.labelled import LabelledImage, LabelledImages, find_images
from inspection.export.write import check_export as checked
from inspection.models.card import read_card
from inspection.models.published import weights_problems
from inspection.prediction.journal import Owner, refuse_others
from inspection.settings import choices_of
from inspection.training.run import (
    BEST,
    model_file,
    place_problems,
    resumed_settings,
    taken_problems,
)
from inspection.training.run_images import EVERY_PART, Chosen

_PLACES = ("data", "group_by")


def check_settings(settings: ClassificationSettings, resume: bool) -> None:
    """Names, files and images of a training.

    Args:
        settings: Complete; for a resume those of `resume_settings`.
        resume: Whether a run is gone on with.

    Raises:
        InputError: With every wrong name; or with what is wrong about files or images.
    """
    if resume:
        refuse(place_problems(settings, _PLACES))
    else:
        _ = settings.preparation  # reads the mask, which a resumed run has in its snapshots
        refuse(
            weights_problems(
                settings.weights, ("auto", "none"), settings.model, choices_of(settings, "model")
            )
            + taken_problems(settings.runs, settings.name)
        )
        grouping_by(settings.group_by)
    open_images(settings.data, settings.normal)


def resume_settings(settings: ClassificationSettings) -> ClassificationSettings:
    """The stored settings of the run to go on with; see `inspection.training.run`."""
    return resumed_settings(settings, _PLACES, name="name", also=("wandb",), resolved=("weights",))


def check_evaluation(
    model: Path, part: str | None, source: Path | None
) -> tuple[LabelledImages, Chosen[LabelledImage]]:
    """Model, part and images of an evaluation.

    Returns:
        The images that are measured, and what they are a part of.

    Raises:
        InputError: One of them cannot be used.
    """
    if part is not None:
        refuse(choice_problems("--split", part, EVERY_PART))
    return run_part(model, part, source)


def check_prediction(model: Path, paths: Sequence[Path], output: Path, restart: bool) -> Owner:
    """Model, images and output folder of a prediction.

    Returns:
        Whose results they will be.

    Raises:
        InputError: One of them cannot be used.
    """
    file = model_file(model, BEST)
    card = read_card(file, ROOM)
    refuse(path_problems(path for path in paths if path.suffix.lower() != ".csv"))
    for path in paths:
        find_images(path, card.classes)
    owner = Owner.of(ROOM, card.provenance.run, file)
    refuse_others(output, owner, restart)
    return owner


def check_export(
    model: Path, format: str, output: Path | None, images: Path | None
) -> tuple[Path, list[Path]]:
    """Model, format, file and images of an export.

    Returns:
        The file to write, and the images to compare on: those named, else the test part's.

    Raises:
        InputError: One of them cannot be used.
    """
    source = model_file(model, BEST)
    read_card(source, ROOM)

    def test_part() -> list[Path]:
        return [item.path for item in run_part(model, "test", flag="--images")[0].items]

    return checked(source, ROOM, format, output, images, test_part)


def check_maps(method: str, smooth: str) -> None:
    """How a map is made.

    Raises:
        InputError: Method or smoothing is unknown.
    """
    refuse(
        choice_problems("--method", method, METHODS)
        + choice_problems("--smooth", smooth, SMOOTHINGS)
    )


def found_images(model: Path, folder: Path) -> list[LabelledImage]:
    """The images of a folder, as the classes of a model name them.

    Raises:
        InputError: Model or folder cannot be used.
    """
    return find_images(folder, read_card(model_file(model, BEST), ROOM).classes)
