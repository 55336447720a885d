"""A snapshot against labelled images: finds the right part, predicts, measures, reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.data.dataset import SPLIT_NAME, read_labels, split_path
from detection.data.table import read_table
from detection.models.snapshots import snapshot_card
from inspection.data.boxes import ImageLabels, labels_hash
from inspection.data.images import read_image
from inspection.data.split import Split, load_split
from inspection.errors import InputError
from inspection.files.writing import file_hash
from inspection.report.page import versions
from inspection.training.run import RUN_SPLIT

if TYPE_CHECKING:
    from detection.evaluation.measure import Evaluation
    from detection.models.detector import Detector

PARTS = ("train", "val", "test", "all")


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate.

    Args:
        snapshot: A `.keras` file.
        split: `train`, `val`, `test` or `all`; None is `test`, or `all` for folders that are
            not the ones of the training.
        annotations: Folder of labels; the training's where left out.
        images: Folder of images; the training's where left out.
        csv: Labels from this CSV (ours or keras-retinanet's) instead of a folder.
        iou: The IoU a hit needs.
        batch_size: Pictures per forward pass.
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
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Evaluation, Path]:
    """Evaluates a snapshot and writes everything beside it.

    Args:
        request: What to evaluate.
        say: Told what was chosen where the request is silent.
        on_progress: Called with images done and images in all.

    Returns:
        The evaluation and the path of `report.html`.

    Raises:
        InputError: Snapshot, labels, images or split cannot be used.
    """
    if not request.snapshot.is_file():
        raise InputError(
            f"{request.snapshot}: there is no such snapshot; train one with train_retinanet.py."
        )
    card = snapshot_card(request.snapshot)
    origin, told = card.provenance, card.extra
    digest = file_hash(request.snapshot)  # of what is loaded: a training may replace it
    annotations = request.annotations or training_folder(origin.annotations, "annotations")
    images = request.images or training_folder(origin.data, "images_900")
    trained = _run_split(request.snapshot, origin.run)
    elsewhere = request.csv is not None or not _is_training_s(
        annotations, origin.annotations, trained
    )
    part = request.split or ("all" if elsewhere else "test")
    if part not in PARTS:
        raise InputError(f"--split {part}: must be one of {', '.join(PARTS)}.")
    one_based = told.get("one_based", False) if request.one_based is None else request.one_based
    unlabelled = request.unlabelled or told.get("unlabelled", "skip")
    if request.csv is not None:
        labels = read_table(request.csv, images_dir=images)
    else:
        labels = read_labels(annotations, images, one_based, unlabelled, say)
    own = trained if not elsewhere else None
    chosen, split = _select(request, labels, annotations, origin.run, trained, own, part, say)
    if not chosen:
        raise InputError(f"{annotations}: the part {part} holds no image; choose another --split.")
    output = request.output or request.snapshot.with_name(
        f"{request.snapshot.stem}_evaluation_{part}"
    )
    output.mkdir(parents=True, exist_ok=True)  # better refused before the work than after
    # Not before all of the above is found good: it takes seconds.
    from detection.evaluation.measure import evaluate_detections, write_evaluation
    from detection.models.detector import Detector, predict_all

    detector = Detector.load(request.snapshot)
    _check_classes(chosen, detector, request.csv or annotations)

    began = time.perf_counter()
    found = predict_all(
        detector,
        ((item.image, images / item.image) for item in chosen),
        batch_size=request.batch_size,
        on_progress=(lambda done: on_progress(done, len(chosen))) if on_progress else None,
    )
    seconds = time.perf_counter() - began
    evaluation = evaluate_detections(
        chosen,
        [found[item.image] for item in chosen],
        detector.classes,
        detector.operating_point,
        request.iou,
        groups=split.groups if split is not None else None,
        prevalence=request.prevalence,
    )
    report = write_evaluation(
        evaluation,
        output,
        lambda name: read_image(images / name, detector.bits),
        _record(request, digest, annotations, images, part, chosen, seconds, detector),
    )
    return evaluation, report


def training_folder(stored: str | None, usual: str) -> Path:
    """A folder of the training; the usual one here where that is gone, as after a move."""
    path = Path(stored or usual)
    return path if path.is_dir() else Path(usual) if Path(usual).is_dir() else path


def _is_training_s(annotations: Path, stored: str | None, trained: Split | None) -> bool:
    """Whether a folder holds the labels of the training, here or copied elsewhere."""
    if annotations.resolve() == Path(stored or "annotations").resolve():
        return True
    path = annotations / SPLIT_NAME
    return trained is not None and path.is_file() and load_split(path).hash == trained.hash


def _select(
    request: EvaluationRequest,
    labels: list[ImageLabels],
    annotations: Path,
    run: str,
    trained: Split | None,
    own: Split | None,
    part: str,
    say: Callable[[str], None],
) -> tuple[list[ImageLabels], Split | None]:
    """The labels of the part, after a look whether the model has trained on any of them.

    The run's own split decides; the stored one may have been made anew since, or be lost.
    """
    known = trained.assignments if trained is not None else {}
    if part == "all":
        seen = sum(known.get(item.image) == "train" for item in labels)
        if seen:
            say(
                f"Note: {seen} of these {len(labels)} images have names that the model was "
                "trained on; unless they are other pictures, take --split test."
            )
        return labels, None
    path = split_path(annotations, _snapshots_folder(request.snapshot, run))
    split = own or (load_split(path) if path.is_file() else trained)
    if split is None:
        raise InputError(
            f"{annotations}: has no stored split and the run of {request.snapshot} is gone; make "
            "one with `python -m detection split`, or evaluate everything with --split all."
        )
    placed = [item for item in labels if item.image in split.assignments]
    if len(placed) < len(labels):
        say(
            f"{len(labels) - len(placed)} images joined since the split was made and are left "
            "out; a new training gives them a place."
        )
    chosen = split.select(placed, part)
    if part != "train":
        # What chose the best epoch and the threshold must not be in the test part either.
        used = ("train", "val") if part == "test" else ("train",)
        seen = [item.image for item in chosen if known.get(item.image) in used]
        if seen:
            raise InputError(
                f"{len(seen)} images of the part {part} were trained or tuned on "
                f"({', '.join(seen[:3])}, ...): {path} is not the split of this run. Use the "
                "split.csv of the run's folder, or train again."
            )
    return chosen, split


def _snapshots_folder(snapshot: Path, run: str) -> Path:
    folder = snapshot.resolve().parent
    return folder.parent if folder.name == run else folder


def run_split_path(snapshot: Path, run: str) -> Path | None:
    """The copy of its split that a snapshot's run keeps; None where it is gone.

    Args:
        snapshot: The file: in its run's folder, whatever that is called now, or beside that.
        run: Its name.
    """
    folder = snapshot.resolve().parent
    places = [folder / run]
    if (folder / "record.json").is_file() or folder.name == run:
        places.insert(0, folder)
    return next((one / RUN_SPLIT for one in places if (one / RUN_SPLIT).is_file()), None)


def _run_split(snapshot: Path, run: str) -> Split | None:
    path = run_split_path(snapshot, run)
    return load_split(path) if path else None


def _check_classes(labels: list[ImageLabels], detector: Detector, where: Path) -> None:
    unknown = sorted({name for item in labels for name in item.label} - set(detector.classes))
    if unknown:
        raise InputError(
            f"{where}: has the classes {', '.join(unknown)}, which the model does not know; it "
            f"knows {', '.join(detector.classes)}."
        )


def _record(
    request: EvaluationRequest,
    digest: str,
    annotations: Path,
    images: Path,
    part: str,
    chosen: list[ImageLabels],
    seconds: float,
    detector: Detector,
) -> dict[str, Any]:
    return {
        "snapshot": str(request.snapshot),
        "snapshot_sha256": digest,
        "run": detector.card.provenance.run,
        "epoch": detector.card.provenance.epoch,
        "annotations": str(request.csv or annotations),
        "images": str(images),
        "split": part,
        "data_hash": labels_hash(chosen),
        "iou": request.iou,
        "size": detector.size,
        "fit": detector.fit,
        "batch_size": request.batch_size,
        "seconds_per_image": round(seconds / len(chosen), 4),
        "versions": versions("tensorflow", "keras", "keras-cv", "numpy", "pycocotools"),
    }
