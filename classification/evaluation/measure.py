"""A classifier measured on a part of its split, or on other labelled pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classification.data.images import open_images
from classification.evaluation.figures import Measures, measure
from classification.evaluation.scored import Progress, Scored, score_pictures
from classification.models.classifier import Classifier, Prediction, decided, model_file
from classification.settings import ClassificationSettings
from inspection.data.dataset import Data
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.data.split import PARTS
from inspection.decisions.operating_point import percent
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.files.writing import file_hash, write_json_atomic, write_text_atomic
from inspection.report.page import versions
from inspection.settings import read_settings
from inspection.training.run import RUN_SPLIT, SETTINGS, run_split


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        model: The classifier.
        pictures: Where the pictures are.
        scored: What it says of each one.
        predictions: The decisions.
        measures: The figures.
        part: Of the split, or `all` of other pictures.
        ms: Milliseconds for a picture, file to decision.
    """

    model: Classifier
    pictures: LabelledImages
    scored: Scored
    predictions: tuple[Prediction, ...]
    measures: Measures
    part: str
    ms: float


def run_settings(model: Path) -> ClassificationSettings:
    """The settings of the run that a model file stands in.

    Raises:
        InputError: There are none beside it.
    """
    path = model_file(model).parent / SETTINGS
    if not path.is_file():
        raise InputError(
            f"{model}: does not stand in its run's folder, so its pictures and split are not "
            "known; give pictures by --data"
        )
    return read_settings(ClassificationSettings, path, {})


def run_data(run: Path, say: Callable[[str], None]) -> Data:
    """The pictures of a run, and the split it was trained with.

    Args:
        run: Its folder; the split is the one kept there, wherever the run has been moved to.
        say: Told of pictures that have come since, which are left out.

    Raises:
        InputError: The run's settings, split or pictures cannot be read.
    """
    settings = run_settings(run)
    pictures = open_images(settings.data, settings.normal)
    split = run_split(run, pictures.items, say)
    known = tuple(item for item in pictures.items if item.image in split.assignments)
    return Data(replace(pictures, items=known), split, run / RUN_SPLIT)


def score_part(
    model: Classifier,
    settings: ClassificationSettings,
    part: str,
    say: Callable[[str], None],
    on_progress: Progress = lambda done, total: None,
) -> Scored:
    """Looks at a part of a run's split."""
    data = run_data(settings.runs / str(settings.name), say)
    return score_pictures(model, data.part(part), on_progress)


def pictures_of_part(
    model: Path, part: str, pictures: Sequence[LabelledImage]
) -> list[LabelledImage]:
    """Those that stand in a part of a run's split.

    Raises:
        InputError: There is no such part, or none of them stands there.
    """
    if part not in PARTS:
        raise InputError(f"--split {part}: must be one of {', '.join(PARTS)}")
    data = run_data(model_file(model).parent, lambda line: None)
    there = {item.path.resolve() for item in data.part(part)}
    found = [one for one in pictures if one.path.resolve() in there]
    if not found:
        raise InputError(
            f"--split {part}: none of these {len(pictures)} pictures stands in that part of the "
            "run's split; give the folder that the model was trained on"
        )
    return found


def evaluate(
    model_path: Path,
    part: str = "test",
    source: Path | None = None,
    say: Callable[[str], None] = print,
    on_progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Measures a classifier at its own threshold.

    Args:
        model_path: A `.keras` file, or a run's folder.
        part: Of the run's split: `train`, `val` or `test`.
        source: Other pictures, all of which are measured.
        say: Told about the split.
        on_progress: Called with pictures done and in all.

    Raises:
        InputError: Model or pictures cannot be used, or the part is empty.
    """
    model = Classifier.load(model_path)
    if source is not None:
        pictures, part = open_images(source, model.card.normal), "all"
        items = list(pictures.items)
        unknown = sorted({item.kind for item in items} - set(model.classes))
        if unknown:
            raise InputError(
                f"{source}: holds {', '.join(unknown)}, which the model does not know; it knows "
                f"{', '.join(model.classes)}"
            )
    else:
        if part not in PARTS:
            raise InputError(f"--split {part}: must be one of {', '.join(PARTS)}")
        data = run_data(model_file(model_path).parent, say)
        pictures, items = data.images, data.part(part)
    if not items:
        raise InputError(f"The {part} part holds no picture; choose another --split.")
    # The first pass builds the graph.
    model.probabilities(model.prepare(items[0].path).rgb[None])
    began = time.perf_counter()
    scored = score_pictures(model, items, on_progress)
    ms = (time.perf_counter() - began) / len(items) * 1000
    point = model.card.operating_point
    decision = decided(
        scored.probability, model.classes, model.card.normal, point and point.threshold
    )
    predictions = tuple(model.decide(scored.probability))
    in_review = None
    if point is not None and point.review_threshold is not None:
        in_review = np.array([one.decision == "review" for one in predictions])
    measures = measure(
        scored.truth,
        decision,
        scored.probability,
        model.classes,
        model.card.normal,
        in_review=in_review,
    )
    return Evaluation(model, pictures, scored, predictions, measures, part, ms)


def write_evaluation(found: Evaluation, folder: Path) -> None:
    """Writes `evaluation.json` and `predictions.csv`."""
    import keras

    model, scored = found.model, found.scored
    point = model.card.operating_point
    write_json_atomic(
        folder / "evaluation.json",
        {
            **found.measures.to_dict(),
            "auroc": scored.auroc,
            "operating_point_on_val": point.to_dict() if point else None,
            "part": found.part,
            "pictures": len(scored.items),
            "ms_per_picture": found.ms,
            "model": str(model.path),
            "model_hash": file_hash(model.path) if model.path else "",
            "data_hash": found.pictures.hash,
            "versions": versions("tensorflow", "keras", "numpy"),
            "backend": keras.backend.backend(),
        },
    )
    rows: list[list[str]] = [["image", "truth", "label", "decision", "score", *model.classes]]
    for item, one in zip(scored.items, found.predictions, strict=True):
        shares = [f"{one.probability[name]:.6f}" for name in model.classes]
        score = "" if one.score != one.score else f"{one.score:.6f}"
        rows.append([item.image, item.kind, one.label, one.decision, score, *shares])
    write_text_atomic(folder / "predictions.csv", sheet_text(rows))


def lines(found: Evaluation) -> list[str]:
    """The figures as lines for a console."""
    measures = found.measures
    low, high = measures.macro_f1_interval
    text = [
        f"{len(found.scored.items)} pictures ({found.part}), {found.ms:.0f} ms each",
        f"macro F1 {measures.macro_f1:.3f} (95 %: {low:.3f} to {high:.3f}), accuracy "
        f"{percent(measures.accuracy.value)}",
    ]
    for one in measures.classes:
        low, high = one.f1_interval
        text.append(
            f"  {one.label}: F1 {one.f1:.3f} ({low:.3f} to {high:.3f}), precision {one.precision}, "
            f"recall {one.recall}"
        )
    if measures.miss is not None:
        text += [f"miss {measures.miss}", f"overkill {measures.overkill}"]
        if measures.review is not None:
            text.append(f"review {measures.review}")
        text.append(f"AUROC of normal against defects {found.scored.auroc:.3f}")
    text.append(f"expected calibration error {measures.calibration_error:.3f}")
    return text
