"""Before the first step: images, model, batches and record from the settings, or from a run."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import keras

from classification.data.dataset import open_data
from classification.models.architectures import ARCHITECTURES, build_model, take_snapshot
from classification.models.classifier import Classifier
from classification.settings import ROOM, ClassificationSettings
from classification.training.augment import augmentation_sheet
from classification.training.batches import Batches, Views
from classification.training.losses import make_loss
from classification.training.sampling import SAMPLERS
from inspection.data.dataset import CALIBRATION, Data, check_sizes, describe
from inspection.data.depth import bits_note
from inspection.data.images import write_image
from inspection.errors import InputError
from inspection.models.card import ModelCard, trained_on
from inspection.models.gradients import wants_jit
from inspection.models.weights import resolve_weights
from inspection.report.page import versions
from inspection.training import log as training_log
from inspection.training.loop import take_up
from inspection.training.optimizer import adamw, rate_schedule
from inspection.training.run import RunRecord, own_split, read_record, write_record
from inspection.training.schedule import describe_change
from inspection.training.snapshots import Plan, RunFolder, RunState

SHEET = "augmentation.png"
_PACKAGES = ("tensorflow", "keras", "numpy", "albumentations")
_SHOWN = 6  # images of the augmentation's sheet


class TrainingLog(training_log.TrainingLog):
    """Loss, macro F1 on the calibration part."""

    loss_parts: ClassVar = {"loss": "loss"}
    score: ClassVar = ("val_macro_f1", "macro F1")


@dataclass
class Run:
    """A training that is set up.

    Args:
        id: Of this run alone, whatever its folder is called.
    """

    id: str
    settings: ClassificationSettings
    data: Data
    model: keras.Model
    card: ModelCard
    batches: Batches
    validation: Views
    folder: RunFolder
    state: RunState
    log: TrainingLog


def prepare(
    settings: ClassificationSettings, resume: bool, say: Callable[[str], None], log: TrainingLog
) -> Run:
    """Opens images and model for a training, and writes its record.

    Args:
        settings: Complete settings with the run's name; for a resume those of `resume_settings`.
            The caller holds its folder.
        resume: Go on from the run's last save.
        say: Receives lines about what is found.
        log: Where progress is shown.

    Raises:
        InputError: LabelledImages, settings, weights or the run cannot be used.
    """
    keras.utils.set_random_seed(settings.seed)
    path = settings.runs / settings.name
    data = open_data(
        settings.data,
        settings.runs,
        fractions=settings.fractions,
        seed=settings.seed,
        group_by=settings.group_by,
        normal=settings.normal,
        own=own_split(path) if resume else None,
        say=say,
    )
    for line in describe(data):
        say(line)
    if note := bits_note([item.path for item in data.images.items], settings.bits):
        say(f"Warning: {note}.")
    items = data.part("train")
    _check_paste(settings, data)
    record = read_record(path) if resume else RunRecord(id=uuid.uuid4().hex)
    folder, state, settings, model, card = _model(settings, data, record, resume, path, say)
    classes = data.images.classes
    normal = data.images.normal
    labels = [classes.index(item.kind) for item in items]
    views = Views(items, card.preparation)
    batches = Batches(
        views,
        labels,
        len(classes),
        SAMPLERS[settings.sampling](labels, len(classes), settings.seed),
        settings.batch_size,
        settings.aug,
        None if normal is None else classes.index(normal),
        settings.paste,
        settings.mix,
        settings.mix_alpha,
        settings.seed,
    )
    settings = settings.model_copy(update={"steps": settings.steps or batches.steps})
    loss = make_loss(settings.loss, batches.prior, settings.focal_gamma)
    if state.plan_rate(settings.steps, settings.epochs, record):
        schedule = rate_schedule(settings.lr, 0, plan=state.plan)
        say(describe_change(schedule, state.plan, settings.steps))
    _compile(model, settings, loss, state.plan)
    take_up(model, folder, state, log, resume)
    validation = Views(data.part(CALIBRATION), card.preparation)
    # Runs before there was an id went to Weights & Biases by their path.
    run_id = record.id or hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    run = Run(run_id, settings, data, model, card, batches, validation, folder, state, log)
    _write_record(run)
    if not resume:
        _show_augmentation(run)
    return run


def _check_paste(settings: ClassificationSettings, data: Data) -> None:
    if not settings.paste:
        return
    if data.images.normal is None:
        raise InputError(
            "--paste: defects are pasted into normal images, and no class is called normal; "
            "name it by --normal"
        )
    if not any(item.mask for item in data.part("train")):
        raise InputError(
            f"{settings.data}: --paste cuts defects out by their masks, and the train part has "
            "none; put them into masks/<class>/, or leave --paste out"
        )


def _model(
    settings: ClassificationSettings,
    data: Data,
    record: RunRecord,
    resume: bool,
    path: Path,
    say: Callable[[str], None],
) -> tuple[RunFolder, RunState, ClassificationSettings, keras.Model, ModelCard]:
    """Model and card, new or those of the run's last save."""
    classes = data.images.classes
    folder = RunFolder(path, settings.keep)
    if resume:
        state = folder.load_state()
        stored = Classifier.load(path / state.snapshot)
        check_sizes(data.images, stored.card.preparation)  # the file of its mask may be gone
        if stored.classes != classes:
            raise InputError(
                f"{path}: was started with the classes {', '.join(stored.classes)}, now there are "
                f"{', '.join(classes)}; start a new run"
            )
        if record.data_hash != data.images.hash:
            say("Note: the images have changed since this run began; it goes on with them.")
        stored.card.provenance.data = str(settings.data.resolve())  # it may have been moved since
        folder.card = stored.card
        return folder, state, settings, stored.model, stored.card
    preparation = settings.preparation
    check_sizes(data.images, preparation)
    weights = resolve_weights(settings.model, settings.weights, ARCHITECTURES, say)
    snapshot = weights if weights.endswith(".keras") else None
    model = build_model(
        settings.model, settings.size, len(classes), "none" if snapshot else weights
    )
    if snapshot:
        take_snapshot(model, snapshot, classes, say)
    kind = ARCHITECTURES[settings.model]
    lr = settings.lr or (kind.scratch_lr if weights == "none" else kind.pretrained_lr)
    settings = settings.model_copy(update={"weights": weights, "lr": lr})
    card = ModelCard(
        room=ROOM,
        architecture=settings.model,
        classes=classes,
        normal=data.images.normal,
        preparation=preparation,
        provenance=trained_on(
            (item.path for item in data.part("train")),
            run=settings.name,
            run_id=record.id,
            data=str(settings.data.resolve()),
            data_hash=data.images.hash,
            split_hash=data.split.hash,
            versions=versions(*_PACKAGES),
        ),
    )
    folder.card = card
    return folder, RunState(), settings, model, card


def _compile(
    model: keras.Model, settings: ClassificationSettings, loss: Callable, plan: Plan
) -> None:
    steps = settings.steps * settings.epochs
    optimizer = adamw(settings.lr, steps, settings.weight_decay, plan=plan)
    # Compiled by XLA, convolutions on a CPU lose oneDNN's kernels.
    model.compile(optimizer, loss=loss, jit_compile=wants_jit())


def _write_record(run: Run) -> None:
    write_record(
        run.folder.path,
        run.settings,
        run.data.split,
        run.data.split_path,
        run_id=run.id,
        data_hash=run.data.images.hash,
        packages=_PACKAGES,
        files={item.image: item.path for item in run.data.images.items},
        hashes=run.data.images.contents,
        more={"classes": run.card.classes},
    )


def _show_augmentation(run: Run) -> None:
    """One image of each class in turn, and what the recipe makes of it."""
    views = run.batches.views
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(run.batches.labels.tolist()):
        by_class.setdefault(label, []).append(index)
    chosen = [numbers[0] for _, numbers in sorted(by_class.items())][:_SHOWN]
    sheet = augmentation_sheet([views[i] for i in chosen], run.settings.aug)
    write_image(run.folder.path / SHEET, sheet)
