"""Training: from labelled folders to a run of snapshots, interruptible at any point."""

from __future__ import annotations

from pathlib import Path

import keras

from detection.evaluation.average_precision import measure_average_precision
from detection.evaluation.threshold import choose_operating_point
from detection.models.detector import Detector, predict_all
from detection.models.retinanet import RetinaNet
from detection.models.snapshots import top_line
from detection.settings import ROOM, TrainSettings
from detection.training.batches import Batch
from detection.training.log import TrainingLog
from detection.training.setup import Run, prepare
from inspection.data.boxes import labels_hash
from inspection.errors import InputError
from inspection.training.interrupt import InterruptGuard
from inspection.training.loop import TrainingLoop, Validated
from inspection.training.run import BEST, held_run, resume_command
from inspection.training.snapshots import Rival


def train(settings: TrainSettings, resume: bool = False, log: TrainingLog | None = None) -> Path:
    """Trains as the settings say.

    Args:
        settings: Complete settings; for a resume those of the run, see
            `detection.cli.arguments.resume_settings`.
        resume: Go on from the run's last save.
        log: Where progress is shown; the console where left out.

    Returns:
        Path of the run's `best.keras`.

    Raises:
        InputError: Labels, images, settings or weights cannot be used.
        TrainingStopped: The loss became NaN, or the disk is full.
        KeyboardInterrupt: At a first Ctrl-C or SIGTERM after everything was saved, at a second
            Ctrl-C at once.
    """
    log = log or TrainingLog()
    if settings.precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{settings.precision}")
    try:
        with held_run(settings.snapshots, settings.run, settings.backbone, resume) as folder:
            run = prepare(settings.model_copy(update={"run": folder.name}), resume, log)
            try:
                _fit(run)
            finally:
                log.close()
    finally:
        keras.config.set_dtype_policy("float32")
    return run.folder.path / BEST


def _fit(run: Run) -> None:
    settings = run.settings
    said: set[str] = set()

    def tell_rival(rival: Rival) -> None:
        line = top_line(run.folder.path, settings.run, rival)
        if line not in said:
            said.add(line)
            run.log.say(line)

    loop = TrainingLoop(
        run.model,
        run.folder,
        run.state,
        run.log,
        run.steps,
        settings.epochs,
        settings.batch_size,
        resume_command(ROOM, run.folder.path, TrainSettings().snapshots),
        learn=lambda batch: _learn(run, batch),
        validate=lambda guard: _validate(run, guard),
        tell=lambda epoch, score: _tell(run, epoch, score),
        promoted=tell_rival,
        validate_every=settings.val_every,
    )
    loop.run(run.batches)


def _learn(run: Run, batch: Batch) -> dict[str, float]:
    run.model.reset_metrics()
    told = run.model.train_on_batch({"images": batch.images}, batch.targets, return_dict=True)
    return {name: float(told[name]) for name in run.log.loss_parts}


def _tell(run: Run, epoch: int, mean_ap: float | None) -> None:
    origin = run.card.provenance
    origin.epoch, origin.score, origin.scored_on = epoch, mean_ap, labels_hash(run.validation)
    if mean_ap is None:  # the threshold of an epoch before does not fit these weights
        run.card.operating_point = None


def _validate(run: Run, guard: InterruptGuard) -> Validated:
    """Val mAP; puts the operating point chosen there into the card."""
    labels = run.validation
    detector = Detector(as_saved(run.model), run.card)
    images = ((item.image, run.settings.images / item.image) for item in labels)
    show = run.log.validating(len(labels))

    def on_progress(done: int) -> None:
        guard.check()
        show(done)

    found = predict_all(detector, images, on_progress=on_progress)
    result = measure_average_precision(
        labels, [found[item.image] for item in labels], run.model.classes
    )
    try:
        run.card.operating_point = choose_operating_point(
            labels, found, target=run.settings.target_miss
        )
    except InputError:  # nothing found yet: there is no threshold to choose
        run.card.operating_point = None
    details = {f"ap_{item.label}": item.ap for item in result.classes}
    return Validated(result.mean_ap, details)


def as_saved(model: RetinaNet) -> RetinaNet:
    """The network as its snapshot computes: in float32, whatever it is trained in.

    The threshold and the best epoch are chosen by its scores, not by rounded ones.
    """
    trained_in = keras.config.dtype_policy()
    if trained_in.name == "float32":
        return model
    keras.config.set_dtype_policy("float32")
    try:
        saved = RetinaNet.from_config(model.get_config())
    finally:
        keras.config.set_dtype_policy(trained_in)
    saved.set_weights(model.get_weights())
    return saved
