"""Decisions on many files, as a CSV; what cannot be read is named, the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classification.evaluation.scored import Progress
from classification.models.classifier import Classifier, Prediction
from classification.settings import ROOM
from inspection.data.labelled import LabelledImage, find_images
from inspection.data.preparation import Prepared
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.files.writing import write_text_atomic
from inspection.finite import NotFinite
from inspection.prediction.folder import NOT_DECIDED, TABLE, Owner, Results, claimed

_BATCH = 16


@dataclass(frozen=True)
class Decided:
    """What came of many files.

    Args:
        pictures: All of them.
        predictions: Of each of them; of one that could not be read the label and the decision are
            `NOT_DECIDED`, of one without finite numbers the label is, and the decision NG.
        problems: A sentence for each that could not be read or decided.
        skipped: How many of them an earlier call had decided.
    """

    pictures: tuple[LabelledImage, ...]
    predictions: tuple[Prediction, ...]
    problems: tuple[str, ...]
    skipped: int = 0


def decide_all(
    model: Classifier,
    pictures: Sequence[LabelledImage],
    on_progress: Progress = lambda done, total: None,
) -> Decided:
    """Decides on pictures in batches.

    Args:
        model: The classifier.
        pictures: Which.
        on_progress: Called with pictures done and in all.
    """
    unread = Prediction(NOT_DECIDED, dict.fromkeys(model.classes, np.nan), np.nan, NOT_DECIDED)
    found = [unread] * len(pictures)
    problems: list[str] = []
    for start in range(0, len(pictures), _BATCH):
        views: dict[int, Prepared] = {}
        for number, one in enumerate(pictures[start : start + _BATCH], start):
            try:
                views[number] = model.prepare(one.path)
            except InputError as error:
                problems += error.problems
        if views:
            batch = np.stack([view.rgb for view in views.values()])
            read = [pictures[number] for number in views]
            decided = _decided(model, batch, read, problems)
            for number, told in zip(views, decided, strict=True):
                found[number] = told
        on_progress(min(start + _BATCH, len(pictures)), len(pictures))
    return Decided(tuple(pictures), tuple(found), tuple(problems))


def _decided(
    model: Classifier, views: np.ndarray, pictures: Sequence[LabelledImage], problems: list[str]
) -> list[Prediction]:
    """What a model says of a batch; a picture that it gives no finite numbers for is a reject."""
    try:
        return model.decide(model.probabilities(views))
    except NotFinite as error:
        if len(views) > 1:  # the others of the batch may well be decided
            alone = zip(views[:, None], pictures, strict=True)
            return [_decided(model, view, [one], problems)[0] for view, one in alone]
        problems.append(f"{pictures[0].path}: {error}")
        return [Prediction(NOT_DECIDED, dict.fromkeys(model.classes, np.nan), np.nan, "NG")]


def predict_files(
    model: Classifier,
    paths: Sequence[Path],
    output: Path,
    on_progress: Progress = lambda done, total: None,
    *,
    restart: bool = False,
    owner: Owner | None = None,
) -> Decided:
    """Decides on files and folders, and writes `predictions.csv`, with a row for each picture.

    Killed at any point and called again with the same owner, it goes on where it was; pictures
    that changed since are done again.

    Args:
        model: The classifier.
        paths: Pictures and folders.
        output: Folder of the table.
        on_progress: Called with pictures done and in all.
        restart: Do everything in `output` again, which another model asks for.
        owner: Whose results these are; where left out nothing can be gone on with.

    Raises:
        InputError: A path does not exist, there is no picture, or `output` holds another model's
            results.
    """
    pictures = [one for path in paths for one in find_images(path, model.classes)]
    with claimed(output, owner or Owner(room=ROOM), restart) as results:
        result = _decide_rest(model, pictures, results, on_progress)
        header = ("file", "label", "decision", "score", *model.classes)
        write_text_atomic(output / TABLE, sheet_text([header, *results.rows]))
    return result


def _decide_rest(
    model: Classifier, pictures: Sequence[LabelledImage], results: Results, on_progress: Progress
) -> Decided:
    """What an earlier call found, and what this one finds of the others."""
    found: dict[int, Prediction] = {}
    problems: list[str] = []
    for number, one in enumerate(pictures):
        if line := results.known(one.path):
            found[number] = _prediction(line.row, model.classes)
    rest = [number for number in range(len(pictures)) if number not in found]
    skipped = len(found)
    for start in range(0, len(rest), _BATCH):
        numbers = {id(pictures[number]): number for number in rest[start : start + _BATCH]}
        some = decide_all(model, [pictures[number] for number in numbers.values()])
        for one, told in zip(some.pictures, some.predictions, strict=True):
            found[numbers[id(one)]] = told
            done = told.label != NOT_DECIDED
            results.add(one.path, _cells(told, model.classes), done=done)
        problems += some.problems
        on_progress(skipped + min(start + _BATCH, len(rest)), len(pictures))
    order = sorted(found)
    return Decided(
        tuple(pictures[number] for number in order),
        tuple(found[number] for number in order),
        tuple(problems),
        skipped,
    )


def _cells(told: Prediction, classes: Sequence[str]) -> list[str]:
    numbers = [told.score, *(told.probability[name] for name in classes)]
    shown = ["" if number != number else f"{number:.6f}" for number in numbers]
    return [told.label, told.decision, *shown]


def _prediction(row: Sequence[str], classes: Sequence[str]) -> Prediction:
    """From a row that `_cells` made."""
    label, decision, score, *shares = row
    probability = dict(zip(classes, map(float, shares), strict=True))
    return Prediction(label, probability, float(score or "nan"), decision)
