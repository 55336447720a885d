"""A classifier measured on a part of its split, or on other labelled images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classification.data.images import open_images
from classification.evaluation.figures import Measures, measure
from classification.evaluation.scored import Scored, score_images
from classification.models.classifier import Classifier, Prediction, decided
from classification.settings import ROOM, ClassificationSettings
from inspection.cli.arguments import choice_problems, refuse
from inspection.data.labelled import LabelledImage, LabelledImages
from inspection.errors import InputError
from inspection.files.writing import file_hash
from inspection.models.card import read_card
from inspection.progress import Progress, silent
from inspection.report.evaluation import Summary, group_interval
from inspection.settings import read_settings
from inspection.training.run import BEST, SETTINGS, model_file
from inspection.training.run_images import (
    EVERY_PART,
    Chosen,
    choose_labelled,
    choose_part,
    still_there,
    where_now,
)

_CALIBRATION = "Val part, on which the threshold was chosen"


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        summary: What every room tells alike.
        model: The classifier.
        scored: What it says of each one.
        predictions: The decisions.
        measures: The figures.
    """

    summary: Summary
    model: Classifier
    scored: Scored
    predictions: tuple[Prediction, ...]
    measures: Measures


def run_settings(model: Path) -> ClassificationSettings:
    """The settings of the run that a model file stands in.

    Raises:
        InputError: There are none beside it.
    """
    path = model_file(model, BEST).parent / SETTINGS
    if not path.is_file():
        raise InputError(
            f"{model}: does not stand in its run's folder, so its images and split are not "
            "known; give images by --data"
        )
    return read_settings(ClassificationSettings, path, {})


def run_images(run: Path, flag: str = "") -> LabelledImages:
    """The images of a run: where its settings say, or moved together with the run.

    Args:
        run: Its folder.
        flag: By which the user says where they are now; for messages.

    Raises:
        InputError: The run's settings or the images cannot be read.
    """
    settings = run_settings(run)
    before = settings.runs / str(settings.name)
    data = still_there(where_now(settings.data, before, run), run, flag)
    return open_images(data, settings.normal)


def part_of_run(run: Path, part: str) -> tuple[LabelledImages, Chosen[LabelledImage]]:
    """The images of a run that stand in a part of its own split, and what is told of them.

    Args:
        run: Its folder, wherever it has been moved to.
        part: See `inspection.training.run_images.choose_part`.

    Raises:
        InputError: The run's settings, split or images cannot be read, or none stands there.
    """
    return choose_labelled(run_images(run), run, part, None, "")


def run_part(
    model: Path, part: str | None = None, source: Path | None = None, flag: str = "--data"
) -> tuple[LabelledImages, Chosen[LabelledImage]]:
    """The images that an evaluation is of, with what they are a part of.

    Args:
        model: A `.keras` file, or a run's folder.
        part: See `inspection.training.run_images.choose_part`.
        source: Where the images are now, or other images.
        flag: By which the user says so; for messages.

    Raises:
        InputError: Model or images cannot be used, or there is nothing to measure.
    """
    file = model_file(model, BEST)
    card, run = read_card(file, ROOM), file.parent
    found = open_images(source, card.normal) if source else run_images(run, flag)
    images, chosen = choose_labelled(found, run, part, source, flag)
    unknown = sorted(set(images.kinds) - set(card.classes))
    if unknown:
        raise InputError(
            f"{source or images.root}: holds {', '.join(unknown)}, which the model does not "
            f"know; it knows {', '.join(card.classes)}"
        )
    return images, chosen


def score_part(
    model: Classifier,
    settings: ClassificationSettings,
    part: str,
    say: Callable[[str], None],
) -> Scored:
    """Looks at a part of a run's split."""
    images, chosen = part_of_run(settings.runs / str(settings.name), part)
    for note in chosen.notes:
        say(f"Note: {note}")
    return score_images(model, images.items)


def images_of_part(
    model: Path, part: str, images: Sequence[LabelledImage], where: Path
) -> list[LabelledImage]:
    """Those that stand in a part of a run's split, under whatever name.

    Args:
        model: A `.keras` file in its run's folder, or that folder.
        part: Of the split, or `all`.
        images: Some images.
        where: Where they are; for messages.

    Raises:
        InputError: There is no such part, or none of them stands there.
    """
    refuse(choice_problems("--split", part, EVERY_PART))
    chosen = choose_part(
        images,
        model_file(model, BEST).parent,
        part,
        where=where,
        flag="",
        named=True,
        path_of=lambda item: item.path,
        hashed=lambda: "",  # some of the run's images have another hash than all of them
    )
    return list(chosen.items)


def evaluate(
    model_path: Path,
    images: LabelledImages,
    chosen: Chosen[LabelledImage],
    on_progress: Progress = silent,
) -> Evaluation:
    """Measures a classifier at its own threshold.

    Args:
        model_path: A `.keras` file, or a run's folder.
        images: What is measured; see `run_part`.
        chosen: What they are a part of.
        on_progress: Called with images done and in all.

    Raises:
        InputError: The model or an image cannot be used.
    """
    file = model_file(model_path, BEST)
    digest = file_hash(file)  # of what is loaded: a training may replace it
    model = Classifier.load(file)
    # The first pass builds the graph.
    model.probabilities(model.prepare(images.items[0].path).rgb[None])
    began = time.perf_counter()
    scored = score_images(model, images.items, on_progress)
    ms = (time.perf_counter() - began) / len(images.items) * 1000
    card, point = model.card, model.card.operating_point
    decision = decided(scored.probability, model.classes, card.normal, point and point.threshold)
    predictions = tuple(model.decide(scored.probability))
    told = np.array([one.decision for one in predictions])
    has_band = point is not None and point.review_threshold is not None
    measures = measure(
        scored.truth,
        decision,
        scored.probability,
        model.classes,
        card.normal,
        in_review=told == "review" if has_band else None,
    )
    is_defect = scored.truth != scored.normal
    names = [item.image for item in images.items]

    def by_group(wrong: str, among: np.ndarray) -> tuple[float, float] | None:
        if card.normal is None:
            return None
        return group_interval(told == wrong, among, names, chosen.groups)

    notes = point.notes if point else ()
    summary = Summary(
        room=ROOM,
        run=card.provenance.run,
        model=file,
        model_hash=digest,
        part=chosen.part,
        images=len(images.items),
        miss=measures.miss,
        overkill=measures.overkill,
        accuracy=measures.accuracy,
        review=measures.review,
        miss_by_group=by_group("OK", is_defect),
        overkill_by_group=by_group("NG", ~is_defect),
        auroc=scored.auroc,
        operating_point=point,
        ms=ms,
        data=str(images.root.resolve()),
        data_hash=images.hash,
        notes=[*chosen.notes, *(f"{_CALIBRATION}: {note}" for note in notes)],
    )
    return Evaluation(summary, model, scored, predictions, measures)


def lines(found: Evaluation) -> list[str]:
    """The figures as lines for a console."""
    measures = found.measures
    low, high = measures.macro_f1_interval
    summary = found.summary
    text = [
        f"{summary.images} images ({summary.part}), {summary.ms:.0f} ms each",
        f"macro F1 {measures.macro_f1:.3f} (95 %: {low:.3f} to {high:.3f})",
    ]
    for one in measures.classes:
        low, high = one.f1_interval
        figure = f"F1 {one.f1:.3f} ({low:.3f} to {high:.3f})"
        if np.isnan(one.f1):
            figure = "not in this part, left out of macro F1"
        text.append(f"  {one.label}: {figure}, precision {one.precision}, recall {one.recall}")
    text += [f"{name} {value}" for name, value in summary.rate_lines().items()]
    text.append(f"expected calibration error {measures.calibration_error:.3f}")
    return text
