"""What the verbs are given, looked at before TensorFlow is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detection.data.dataset import read_labels
from detection.models.snapshots import snapshot_card
from detection.prediction.output import refuse_annotations
from detection.settings import ROOM, TrainSettings, norm_problems
from inspection.cli.arguments import choice_problems, refuse
from inspection.data.grouping import grouping_by
from inspection.data.images import path_problems
from inspection.errors import InputError
from inspection.files.graphs import SUFFIXES, is_exported
from inspection.models.card import ModelCard, read_card
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
from inspection.training.run_images import EVERY_PART

_MODELS = (".keras", *SUFFIXES.values())
_PLACES = ("annotations", "images", "group_by")


def check_settings(settings: TrainSettings, resume: bool) -> None:
    """Files, folders and labels of a training.

    Args:
        settings: Complete; for a resume those of `resume_settings`.
        resume: Whether a run is gone on with.

    Raises:
        InputError: With every wrong path; or with what is wrong about the labels.
    """
    if resume:
        refuse(place_problems(settings, _PLACES))
    else:
        refuse(
            weights_problems(
                settings.weights,
                ("auto", "none"),
                settings.backbone,
                choices_of(settings, "backbone"),
            )
            + norm_problems(settings.norm, settings.crop, settings.size)
            + taken_problems(settings.snapshots, settings.run)
        )
        grouping_by(settings.group_by)
    read_labels(
        settings.annotations,
        settings.images,
        settings.one_based,
        settings.unlabelled,
        lambda line: None,
    )


def check_model(model: Path, split: str | None = None) -> ModelCard:
    """A snapshot, the best one of a run's folder, or an exported model; and the part of a split.

    Returns:
        What the model says of itself.

    Raises:
        InputError: There is no such file or part, or it is no snapshot of ours.
    """
    model, problems = model_file(model, BEST), []
    if not model.exists():
        problems.append(
            f"{model}: there is no such snapshot; train one with train_retinanet.py, or give "
            "the path of a .keras file."
        )
    if split is not None:
        problems += choice_problems("--split", split, EVERY_PART)
    refuse(problems)
    return read_card(model, ROOM) if is_exported(model) else snapshot_card(model)


def model_and_paths(model: Path | None, paths: Sequence[Path]) -> tuple[Path, Sequence[Path]]:
    """Tells the model from the images where it is typed before them, without its flag.

    Args:
        model: Of the flag; where it is given, all paths are images.
        paths: As typed; a run's folder is a model, too. Of others the model is
            `snapshots/best.keras`.

    Raises:
        InputError: Only a model was typed.
    """
    if model is not None:
        return model_file(model, BEST), paths
    file = model_file(paths[0], BEST)
    if not (file.is_file() if file != paths[0] else file.suffix.lower() in _MODELS):
        return TrainSettings().snapshots / BEST, paths
    if len(paths) == 1:
        raise InputError(f"{paths[0]}: is a model; give the images or their folder after it")
    return file, paths[1:]


def check_prediction(model: Path, paths: Sequence[Path], output: Path, restart: bool) -> Owner:
    """Model, images and output folder of a prediction.

    Returns:
        Whose results they will be.

    Raises:
        InputError: One of them cannot be used.
    """
    run = check_model(model).provenance.run
    refuse(path_problems(paths))
    owner = Owner.of(ROOM, run, model)
    refuse_others(output, owner, restart)
    refuse_annotations(output.absolute())
    return owner


def resume_settings(settings: TrainSettings) -> TrainSettings:
    """The stored settings of the run to go on with; see `inspection.training.run`."""
    return resumed_settings(settings, _PLACES, runs="snapshots", resolved=("weights", "norm"))
