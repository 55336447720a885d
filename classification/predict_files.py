"""Decisions on many files, as a CSV; what cannot be read is named, the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classification.folder import FoundPicture, find_pictures
from classification.model import Classifier, Prediction
from classification.preparation import View
from classification.scored import Progress
from inspection.errors import InputError
from inspection.finite import NotFinite
from inspection.runs import write_text_atomic
from inspection.sheets import sheet_text

TABLE = "predictions.csv"
NOT_DECIDED = "not decided"
_BATCH = 16


@dataclass(frozen=True)
class Decided:
    """What came of many files.

    Args:
        pictures: All of them.
        predictions: Of each of them; of one that could not be read the label and the decision are
            `NOT_DECIDED`, of one without finite numbers the label is, and the decision NG.
        problems: A sentence for each that could not be read or decided.
    """

    pictures: tuple[FoundPicture, ...]
    predictions: tuple[Prediction, ...]
    problems: tuple[str, ...]


def decide_all(
    model: Classifier,
    pictures: Sequence[FoundPicture],
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
        views: dict[int, View] = {}
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
    model: Classifier, views: np.ndarray, pictures: Sequence[FoundPicture], problems: list[str]
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
) -> Decided:
    """Decides on files and folders, and writes `predictions.csv`, with a row for each picture.

    Args:
        model: The classifier.
        paths: Pictures and folders.
        output: Folder of the table.
        on_progress: Called with pictures done and in all.

    Raises:
        InputError: A path does not exist, or there is no picture.
    """
    pictures = [one for path in paths for one in find_pictures(path, model.classes)]
    result = decide_all(model, pictures, on_progress)
    rows: list[list[str]] = [["file", "label", "decision", "score", *model.classes]]
    for one, told in zip(result.pictures, result.predictions, strict=True):
        score = "" if told.score != told.score else f"{told.score:.6f}"
        shares = [told.probability[name] for name in model.classes]
        shares = ["" if share != share else f"{share:.6f}" for share in shares]
        rows.append([str(one.path), told.label, told.decision, score, *shares])
    write_text_atomic(output / TABLE, sheet_text(rows))
    return result
