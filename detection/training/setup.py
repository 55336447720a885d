"""Before the first step: data, model, anchors and schedule from the settings, or from a run."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from detection.data.dataset import (
    Dataset,
    boxes_per_class,
    choose_stratified,
    dataset_of,
    fitted_boxes,
    without_difficult,
)
from detection.models.anchors import AnchorSettings, best_ious, best_possible_recall
from detection.models.detector import Detector
from detection.models.retinanet import RetinaNet
from detection.models.snapshots import network_settings, run_folder, top_line
from detection.models.weights import apply_weights
from detection.settings import ROOM, TrainSettings, norm_problems
from detection.training.batches import Batches, FittedImages
from detection.training.log import TrainingLog
from detection.training.samples import write_samples
from detection.training.shown_boxes import find_shown_boxes
from inspection.cli.arguments import refuse
from inspection.data.boxes import ImageLabels
from inspection.data.preparation import Preparation
from inspection.errors import InputError
from inspection.models.backbones import NAMES
from inspection.models.card import ModelCard, trained_on
from inspection.models.gradients import wants_jit
from inspection.models.weights import resolve_weights
from inspection.report.page import versions
from inspection.training.announcement import Ahead, all_done, seconds_of, seconds_per_step
from inspection.training.loop import take_up
from inspection.training.optimizer import adamw, rate_schedule
from inspection.training.run import RunRecord, own_split, read_record, write_record
from inspection.training.schedule import describe_change
from inspection.training.snapshots import Plan, RunFolder, RunState

# Below this many images a step, BatchNorm's statistics are too noisy; see docs/design.md.
_BATCH_NORM_FROM = 8
_PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy", "albumentations")
SAMPLES = "samples.jpg"


@dataclass
class Run:
    """Everything a running training holds.

    Args:
        card: What travels with the model's weights.
        validation: The images of val that epochs are measured on.
        steps: Steps of one epoch.
    """

    settings: TrainSettings
    dataset: Dataset
    validation: list[ImageLabels]
    batches: Batches
    model: RetinaNet
    card: ModelCard
    folder: RunFolder
    state: RunState
    log: TrainingLog
    steps: int


def prepare(settings: TrainSettings, resume: bool, log: TrainingLog) -> Run:
    """Opens data and model for a training, writes its record and says what is ahead.

    Args:
        settings: Complete settings with the run's name; for a resume those of the run, see
            `detection.cli.arguments.resume_settings`. The caller holds its folder.
        resume: Go on from the run's last save.
        log: Where it is said.

    Raises:
        InputError: Labels, images, settings, weights or the run cannot be used.
    """
    keras.utils.set_random_seed(settings.seed)
    dataset = dataset_of(
        settings,
        to_train=True,
        own=own_split(settings.snapshots / str(settings.run)) if resume else None,
        say=log.say,
    )
    folder = run_folder(settings.snapshots / settings.run, settings.keep)
    record = RunRecord()
    if resume:
        record = read_record(folder.path)
        state, detector = _continued(settings, folder, dataset, record, log)
    else:
        state = RunState()
        _check_windows(settings, dataset.part("train"))
        settings, detector = _new_model(settings, dataset, log)
    model, folder.card = detector.model, detector.card
    images = FittedImages(
        dataset.part("train"),
        settings.images,
        model.classes,
        settings.size,
        settings.fit,
        settings.bits,
    )
    batches = Batches(
        images,
        model.anchors,
        settings.batch_size,
        settings.crop,
        settings.augment,
        settings.seed,
        settings.background,
    )
    # Stored, so that an epoch keeps its length when images join before a resume.
    settings = settings.model_copy(update={"steps": settings.steps or batches.steps})
    steps = settings.steps
    if state.plan_rate(steps, settings.epochs, record):
        schedule = rate_schedule(settings.lr, 0, settings.warmup, state.plan)
        log.say(describe_change(schedule, state.plan, steps))
    _compile(model, settings, steps, state.plan)
    rival = take_up(model, folder, state, log, resume)
    if rival is not None:
        log.say(top_line(folder.path, settings.run, rival))
    validation = _choose_validation(settings, dataset, record)
    run = Run(settings, dataset, validation, batches, model, folder.card, folder, state, log, steps)
    _write_record(run)
    _write_samples(run)
    _announce(run)
    return run


def _continued(
    settings: TrainSettings,
    folder: RunFolder,
    dataset: Dataset,
    record: RunRecord,
    log: TrainingLog,
) -> tuple[RunState, Detector]:
    """State and model of the run to go on with, after a look at what has changed since."""
    state = folder.load_state()
    detector = Detector.load(folder.path / state.snapshot)
    origin = detector.card.provenance
    # They may have been moved since.
    origin.data = str(settings.images.resolve())
    origin.annotations = str(settings.annotations.resolve())
    unknown = sorted(set(dataset.classes) - set(detector.classes))
    if unknown:
        raise InputError(
            f"{folder.path}: was not started with the classes {', '.join(unknown)} that the "
            "labels have now; start a new run."
        )
    if (record.data_hash, record.split_hash) != (dataset.hash, dataset.split.hash):
        log.say("Note: labels or split have changed since this run began; it goes on with them.")
    return state, detector


def _choose_validation(
    settings: TrainSettings, dataset: Dataset, record: RunRecord
) -> list[ImageLabels]:
    """The images of val to measure epochs on; a resumed run keeps those it began with."""
    labels = dataset.part("val")
    if settings.val_images is None:
        return labels
    known = set(record.validated_on or ())
    kept = [item for item in labels if item.image in known]
    return kept or choose_stratified(labels, settings.val_images, settings.seed)


def _new_model(
    settings: TrainSettings, dataset: Dataset, log: TrainingLog
) -> tuple[TrainSettings, Detector]:
    anchors = _choose_anchors(settings, dataset.part("train"), log)
    weights = resolve_weights(settings.backbone, settings.weights, NAMES, log.say)
    settings = _filled(settings.model_copy(update={"weights": weights}))
    model = RetinaNet(
        settings.backbone,
        dataset.classes,
        anchors,
        norm=settings.norm,
        channels=settings.channels,
        train_backbone=not settings.freeze,
    )
    apply_weights(model, weights, log.say)
    card = ModelCard(
        room=ROOM,
        architecture=settings.backbone,
        classes=dataset.classes,
        preparation=Preparation(settings.size, settings.fit, settings.bits),
        provenance=trained_on(
            (settings.images / item.image for item in dataset.part("train")),
            run=settings.run,
            run_id=uuid.uuid4().hex,
            data=str(settings.images.resolve()),
            annotations=str(settings.annotations.resolve()),
            data_hash=dataset.hash,
            split_hash=dataset.split.hash,
            versions=versions(*_PACKAGES),
        ),
        extra={"unlabelled": settings.unlabelled, "one_based": settings.one_based},
    )
    return settings, Detector(model, card)


def _filled(settings: TrainSettings) -> TrainSettings:
    """Settings with every default that depends on others put in; weights must be settled."""
    pretrained = settings.weights != "none"
    whole = settings.crop is None or settings.crop >= settings.size
    update: dict[str, Any] = {}
    if settings.batch_size is None:
        side = settings.size if whole else settings.crop
        update["batch_size"] = int(np.clip((900 / side) ** 2 * 2, 2, 16))
    if settings.lr is None:
        update["lr"] = 2e-4 if pretrained else 1e-3
    if settings.norm == "auto":
        small = whole and update.get("batch_size", settings.batch_size) < _BATCH_NORM_FROM
        update["norm"] = "frozen" if pretrained else "group" if small else "batch"
        if settings.weights.endswith(".keras"):  # what GroupNorm learnt fits no other norm
            stored = network_settings(settings.weights).get("norm")
            update["norm"] = "group" if stored == "group" else "frozen"
    refuse(norm_problems(update.get("norm", settings.norm), settings.crop, settings.size))
    return settings.model_copy(update=update)


def _check_windows(settings: TrainSettings, labels: list[ImageLabels]) -> None:
    """Refuses windows that cannot show a whole box.

    Raises:
        InputError: A box is longer than `--crop`.
    """
    if settings.crop is None or settings.crop >= settings.size:
        return
    longest = {
        item.image: float((boxes[:, 2:] - boxes[:, :2]).max())
        for item in map(without_difficult, labels)
        if len(boxes := fitted_boxes([item], settings.images, settings.size, settings.fit))
    }
    images = [name for name, side in longest.items() if side > settings.crop]
    if images:
        most = max(longest.values())
        fits = min(settings.size, 32 * math.ceil(1.1 * most / 32))
        named = ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")
        raise InputError(
            f"--crop {settings.crop}: boxes of {len(images)} training images ({named}) are longer, "
            f"up to {most:.0f} px at --size {settings.size}; cut by every window, they would be "
            f"learnt as shorter ones. Give --crop {fits}, or leave out --crop to train on whole "
            "images; a box that may be left unlearnt can be marked difficult in labelImg."
        )


def _choose_anchors(
    settings: TrainSettings, labels: list[ImageLabels], log: TrainingLog
) -> AnchorSettings:
    """Anchors as the settings ask, with what they can reach said."""
    shown = find_shown_boxes(labels, settings)
    chosen = shown.choose_anchors(settings.anchors)
    recall = [
        best_possible_recall(best_ious(item, shown.boxes, shown.side, shown.side))
        for item in (AnchorSettings(), chosen)
    ]
    log.say(
        f"Anchors {settings.anchors}: sizes {', '.join(f'{size:g}' for size in chosen.sizes)}, "
        f"ratios {', '.join(f'{ratio:g}' for ratio in chosen.ratios)}, {chosen.per_location} at "
        f"each place; best possible recall at IoU .5 of the boxes as training shows them "
        f"({shown.how}): {recall[1]:.3f} (the paper's anchors: {recall[0]:.3f})."
    )
    return chosen


def _compile(model: RetinaNet, settings: TrainSettings, steps: int, plan: Plan = ()) -> None:
    optimizer = adamw(
        settings.lr,
        steps * settings.epochs,
        settings.weight_decay,
        settings.clip_norm,
        settings.warmup,
        plan,
    )
    if settings.precision == "float16":  # small gradients would become 0
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, jit_compile=wants_jit(settings.jit))


def _write_record(run: Run) -> None:
    write_record(
        run.folder.path,
        run.settings,
        run.dataset.split,
        run.dataset.split_path,
        run_id=run.card.provenance.run_id,
        data_hash=run.dataset.hash,
        packages=_PACKAGES,
        files={one.image: run.settings.images / one.image for one in run.dataset.labels},
        more={"validated_on": [item.image for item in run.validation]},
    )


def _write_samples(run: Run) -> None:
    """The first images of the run as training shows them, to be looked at while it runs."""
    batches = run.batches
    samples = (batches.shown(position) for position in range(min(12, len(batches.windows))))
    write_samples(run.folder.path / SAMPLES, samples, run.model.classes, run.model.anchors)


def _announce(run: Run) -> None:
    """Says what is ahead, from one step that is taken back again."""
    settings, log = run.settings, run.log
    for part in ("train", "val", "test"):
        labels = run.dataset.part(part)
        counts = ", ".join(f"{name} {n}" for name, n in sorted(boxes_per_class(labels).items()))
        normal = sum(not len(item.xyxy) for item in labels)
        log.say(f"{part}: {len(labels)} images, {normal} normal; boxes: {counts or 'none'}")
    if run.state.epoch >= settings.epochs:
        log.say(all_done(run.state.epoch))
        return
    log.say("Measuring how long a step takes (the first one also builds the graph) ...")
    ahead = Ahead(
        run.folder.path,
        len(run.dataset.part("train")),
        run.steps,
        settings.batch_size,
        run.state.epoch,
        settings.epochs,
        step_seconds=_seconds_per_step(run),
        validated=len(run.validation),
        validation_seconds=_seconds_per_image(run) * len(run.validation),
        snapshot_mb=run.model.count_params() * 4 / 1e6,
        validate_every=settings.val_every,
        keep=settings.keep,
    )
    for line in ahead.lines():
        log.say(line)
    if ahead.validates_long:
        log.say("Validation takes much of that: --val-every and --val-images make it shorter.")
    log.say(f"{run.folder.path / SAMPLES} shows what the network will be trained on.")


def _seconds_per_step(run: Run) -> float:
    batch = run.batches[run.state.step]
    inputs = {"images": batch.images}
    return seconds_per_step(run.model, lambda: run.model.train_on_batch(inputs, batch.targets))


def _seconds_per_image(run: Run) -> float:
    detector = Detector(run.model, run.card)
    path = run.settings.images / run.validation[0].image
    return seconds_of(lambda: detector.predict(path))
