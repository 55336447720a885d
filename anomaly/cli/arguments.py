"""What the verbs are given, looked at before Keras is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly.data.images import open_images
from anomaly.export.exported import graph_file
from anomaly.methods.names import METHODS
from anomaly.methods.profiles import PROFILES
from anomaly.settings import ROOM, AnomalySettings
from anomaly.training.run import check_run, run_part
from inspection.cli.arguments import choice_problems, refuse
from inspection.data.grouping import grouping_by
from inspection.data.images import path_problems
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.export.write import check_export as checked
from inspection.models.card import read_card
from inspection.models.published import weights_problems
from inspection.prediction.journal import Owner, refuse_others
from inspection.settings import choices_of
from inspection.training.run import (
    MODEL,
    folder_of,
    model_file,
    place_problems,
    resumed_settings,
    taken_problems,
)
from inspection.training.run_images import EVERY_PART, Chosen

_PLACES = ("data", "roi_mask", "group_by", "generated", "weights")


def check_settings(settings: AnomalySettings, resume: bool = False) -> None:
    """Names, files and images of a training.

    Args:
        settings: Complete; for a resume those of `resume_settings`.
        resume: Whether a run is gone on with.

    Raises:
        InputError: With every wrong name; or with what is wrong about files or images.
    """
    if resume:
        problems = place_problems(settings, _PLACES)
    else:
        problems = _weights_problems(settings)
        problems += path_problems([settings.generated] if settings.generated else [])
        problems += taken_problems(settings.runs, settings.run)
    refuse(problems)
    _ = settings.preparation  # reads the mask
    grouping_by(settings.group_by)
    open_images(settings.data)


def _weights_problems(settings: AnomalySettings) -> list[str]:
    if settings.weights == "self" and settings.backbone != "resnet18":
        return ["--weights self: trains a resnet18; leave --backbone out"]
    offered = choices_of(settings, "backbone")
    return weights_problems(settings.weights, ("auto", "self", "none"), settings.backbone, offered)


def resume_settings(settings: AnomalySettings) -> AnomalySettings:
    """The stored settings of the run to go on with; see `inspection.training.run`."""
    return resumed_settings(settings, _PLACES, in_epochs=False)


def check_evaluation(
    run: Path, part: str | None, source: Path | None
) -> tuple[LabelledImages, Chosen[LabelledImage]]:
    """Run, part and images of an evaluation.

    Returns:
        The images that are measured, and what they are a part of.

    Raises:
        InputError: One of them cannot be used.
    """
    if part is not None:
        refuse(choice_problems("--split", part, EVERY_PART))
    return run_part(run, part, source)


def model_path(model: Path) -> Path:
    """The file that decides: a run's model, or the graph of an export."""
    return graph_file(model) or model_file(model, MODEL)


def check_prediction(model: Path, paths: Sequence[Path], output: Path, restart: bool) -> Owner:
    """Model, images and output folder of a prediction.

    Returns:
        Whose results they will be.

    Raises:
        InputError: One of them cannot be used.
    """
    file = model_path(model)
    exported = graph_file(model) is not None
    card = read_card(model if exported else file, ROOM)
    refuse(path_problems(paths))
    own = model.resolve().name if exported else file.resolve().parent.name
    owner = Owner.of(ROOM, card.provenance.run or own, file)
    refuse_others(output, owner, restart)
    return owner


def check_comparison(
    settings: AnomalySettings, sources: Sequence[Path], methods: Sequence[str], profile: str
) -> None:
    """Products, methods and files of a comparison.

    Raises:
        InputError: With every wrong name and path.
    """
    problems = [
        f"method '{one}' is unknown; take some of {', '.join(METHODS)}"
        for one in methods
        if one not in METHODS
    ]
    problems += choice_problems("--profile", profile, PROFILES)
    problems += _weights_problems(settings)
    problems += [
        f"{source}: there is no such folder or CSV file; give the folder that holds `normal/`"
        for source in sources
        if not source.exists()
    ]
    refuse(problems)
    _ = settings.preparation
    grouping_by(settings.group_by)


def check_export(
    run: Path, format: str, output: Path | None, images: Path | None
) -> tuple[Path, list[Path]]:
    """Run, format, file and images of an export.

    Returns:
        The file to write, and the images to compare on: those named, else the test part's.

    Raises:
        InputError: One of them cannot be used.
    """
    run = folder_of(run)
    check_run(run)

    def test_part() -> list[Path]:
        return [item.path for item in run_part(run, "test", flag="--images")[0].items]

    return checked(run / MODEL, ROOM, format, output, images, test_part)
