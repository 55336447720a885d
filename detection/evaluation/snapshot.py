"""A snapshot against labelled images: finds the right part, predicts, measures, reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detection.data.dataset import read_labels, split_path
from detection.data.table import read_table
from detection.models.snapshots import snapshot_card
from detection.settings import ROOM, TrainSettings
from inspection.cli.commands import command_line, flags
from inspection.data.boxes import ImageLabels, labels_hash
from inspection.data.images import read_image
from inspection.data.split import Split, load_split
from inspection.errors import InputError
from inspection.files.writing import file_hash
from inspection.models.card import ModelCard
from inspection.progress import Progress
from inspection.report.evaluation import evaluation_folder
from inspection.settings import read_settings
from inspection.training.run import BEST, RECORD, RUN_SPLIT, SETTINGS, model_file
from inspection.training.run_images import (
    Chosen,
    choose_part,
    where_now,
)

if TYPE_CHECKING:
    from detection.evaluation.measure import Evaluation
    from detection.models.detector import Detector

FLAGS = "--images and --annotations"
"""By which the user says where a run's images are now."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate.

    Args:
        snapshot: A `.keras` file, or a run's folder, whose best it is then.
        split: `train`, `val`, `test` or `all`; see `inspection.training.run_images.choose_part`.
        annotations: Folder of labels; the training's, wherever it is now, where left out.
        images: Folder of images; likewise.
        csv: Labels from this CSV (ours or keras-retinanet's) instead of a folder.
        iou: The IoU a hit needs.
        batch_size: Images per forward pass.
        output: Folder for the results; beside the snapshot where left out.
        unlabelled: Images without XML: `skip` or `normal`; as in training where left out.
        one_based: True for VOC-devkit files; as in training where left out.
        prevalence: Share of defective parts in production; with it escapes are given in PPM.
    """

    snapshot: Path
    split: str | None = None
    annotations: Path | None = None
    images: Path | None = None
    csv: Path | None = None
    iou: float = 0.5
    batch_size: int = 1
    output: Path | None = None
    unlabelled: str | None = None
    one_based: bool | None = None
    prevalence: float | None = None


def evaluate_snapshot(
    request: EvaluationRequest,
    say: Callable[[str], None] = print,
    on_progress: Progress | None = None,
) -> tuple[Evaluation, Path]:
    """Evaluates a snapshot and writes everything beside it.

    Args:
        request: What to evaluate.
        say: Receives lines about what was chosen where the request is silent.
        on_progress: Called with images done and images in all.

    Returns:
        The evaluation and the path of its page.

    Raises:
        InputError: Snapshot, labels, images or split cannot be used.
    """
    snapshot = model_file(request.snapshot, BEST)
    card = snapshot_card(snapshot)
    digest = file_hash(snapshot)  # of what is loaded: a training may replace it
    place = find_folders(snapshot, card, request.annotations, request.images, say)
    labels, chosen = _choose(request, snapshot, card, place, say)
    for note in chosen.notes:
        say(f"Note: {note}")
    output = request.output or evaluation_folder(snapshot, chosen.part)
    output.mkdir(parents=True, exist_ok=True)  # better refused before the work than after
    # Not before all of the above is found good: it takes seconds.
    from detection.evaluation.measure import evaluate_detections
    from detection.evaluation.report import write_report
    from detection.models.detector import Detector, predict_all

    detector = Detector.load(snapshot)
    _check_classes(labels, detector, request.csv or place.annotations)

    count = len(labels)
    began = time.perf_counter()
    found = predict_all(
        detector,
        ((item.image, place.images / item.image) for item in labels),
        batch_size=request.batch_size,
        on_progress=(lambda done: on_progress(done, count)) if on_progress else None,
    )
    seconds = time.perf_counter() - began
    evaluation = evaluate_detections(
        labels,
        [found[item.image] for item in labels],
        detector.classes,
        detector.operating_point,
        request.iou,
        groups=chosen.groups,
        prevalence=request.prevalence,
    )
    summary = evaluation.summary(
        run=card.provenance.run,
        model=snapshot,
        model_hash=digest,
        part=chosen.part,
        ms=1000 * seconds / count,
        data=str(place.images.resolve()),
        notes=[*chosen.notes, *evaluation.notes],
        command=_command(request, snapshot),
    )
    report = write_report(
        evaluation,
        output,
        lambda name: read_image(place.images / name, detector.bits),
        summary,
        {
            "labels": str((request.csv or place.annotations).resolve()),
            "epoch": card.provenance.epoch,
            "iou": request.iou,
            "size": detector.size,
            "fit": detector.fit,
            "batch_size": request.batch_size,
        },
    )
    return evaluation, report


@dataclass(frozen=True)
class Folders:
    """Where labels and images are, and whether one of them may be another than the training's."""

    annotations: Path
    images: Path
    named: bool


def find_folders(
    snapshot: Path,
    card: ModelCard,
    annotations: Path | None,
    images: Path | None,
    say: Callable[[str], None],
) -> Folders:
    """The folders of a training wherever they are now, or those that the user names.

    Args:
        snapshot: The file, beside which the run's settings are looked for.
        card: The snapshot's.
        annotations: As the user named it.
        images: Likewise.
        say: Receives a line about folders that were moved.
    """

    def now(stored: str | None, usual: str) -> tuple[Path, bool]:
        place = before = Path(stored or usual)
        run = run_folder_of(snapshot, card.provenance.run)
        if run is not None and (run / SETTINGS).is_file():
            settings = read_settings(TrainSettings, run / SETTINGS, {})
            place = where_now(before, settings.snapshots / str(settings.run), run)
        guessed = not place.is_dir() and Path(usual).is_dir()
        if guessed:
            place = Path(usual)
        if place != before:
            say(f"{before}: is gone; taking {place}.")
        return place, guessed

    origin = card.provenance
    labels, first = (annotations, True) if annotations else now(origin.annotations, "annotations")
    shown, second = (images, True) if images else now(origin.data, "images_900")
    return Folders(labels, shown, first or second)


def _choose(
    request: EvaluationRequest,
    snapshot: Path,
    card: ModelCard,
    place: Folders,
    say: Callable[[str], None],
) -> tuple[list[ImageLabels], Chosen[ImageLabels]]:
    """The labels to measure on; the run's own split decides, which others may have outgrown."""
    told, run = card.extra, run_folder_of(snapshot, card.provenance.run)
    one_based = told.get("one_based", False) if request.one_based is None else request.one_based
    unlabelled = request.unlabelled or told.get("unlabelled", "skip")
    if request.csv is not None:
        labels = read_table(request.csv, images_dir=place.images)
    else:
        labels = read_labels(place.annotations, place.images, one_based, unlabelled, say)
    chosen = choose_part(
        labels,
        run,
        request.split,
        where=request.csv or place.annotations,
        flag=FLAGS,
        named=place.named or request.csv is not None,
        path_of=lambda item: place.images / item.image,
        hashed=lambda: labels_hash(labels),
        instead=stored_split(snapshot, card.provenance.run, place.annotations),
    )
    return list(chosen.items), chosen


def _command(request: EvaluationRequest, snapshot: Path) -> str:
    """What a user types for the same evaluation."""
    names = ("split", "annotations", "images", "csv", "iou", "unlabelled", "one_based")
    given = {name: getattr(request, name) for name in (*names, "prevalence", "output")}
    return command_line(ROOM, "evaluate", snapshot, *flags(**given))


def stored_split(snapshot: Path, run: str, annotations: Path) -> Split | None:
    """The split stored for a folder of labels, which serves where the run's own is lost.

    Args:
        snapshot: The file.
        run: The name of its run.
        annotations: The folder.

    Raises:
        InputError: The split is damaged.
    """
    folder = snapshot.resolve().parent
    path = split_path(annotations, folder.parent if folder.name == run else folder)
    return load_split(path) if path.is_file() else None


def run_folder_of(snapshot: Path, run: str) -> Path | None:
    """The folder of a snapshot's run, which holds its split; None where it is gone.

    Args:
        snapshot: The file: in its run's folder, whatever that is called now, or beside that.
        run: Its name.
    """
    folder = snapshot.resolve().parent
    places = [folder / run]
    if (folder / RECORD).is_file() or folder.name == run:
        places.insert(0, folder)
    return next((one for one in places if (one / RUN_SPLIT).is_file()), None)


def _check_classes(labels: list[ImageLabels], detector: Detector, where: Path) -> None:
    unknown = sorted({name for item in labels for name in item.label} - set(detector.classes))
    if unknown:
        raise InputError(
            f"{where}: has the classes {', '.join(unknown)}, which the model does not know; it "
            f"knows {', '.join(detector.classes)}."
        )
