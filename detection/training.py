"""Training: from labelled folders to a run of snapshots, interruptible at any point."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from detection.average_precision import measure_average_precision
from detection.batches import Batch
from detection.calibration import choose_operating_point
from detection.model import RetinaNet
from detection.prediction import Detector, predict_all
from detection.settings import TrainSettings
from detection.training_log import TrainingLog
from detection.training_setup import Run, prepare, replaced_line
from inspection.errors import InputError
from inspection.interrupt import Interrupted, InterruptGuard
from inspection.prefetch import ahead


class TrainingStopped(InputError):
    """Training cannot go on; the message says what to do and what is kept."""


def train(settings: TrainSettings, resume: bool = False, log: TrainingLog | None = None) -> Path:
    """Trains as the settings say.

    Args:
        settings: Complete settings; for a resume those of the run, see
            `training_setup.resume_settings`.
        resume: Go on from the run's last save.
        log: Where progress is shown; the console where left out.

    Returns:
        Path of the run's `best.keras`.

    Raises:
        InputError: Labels, images, settings or weights cannot be used.
        TrainingStopped: The loss became NaN, or the disk is full.
        KeyboardInterrupt: At a first Ctrl-C after everything was saved, at a second at once.
    """
    log = log or TrainingLog()
    if settings.precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{settings.precision}")
    try:
        run = prepare(settings, resume, log)
        try:
            _fit(run)
        finally:
            log.close()
    finally:
        keras.config.set_dtype_policy("float32")
    return run.folder.path / "best.keras"


def _fit(run: Run) -> None:
    state, log, settings = run.state, run.log, run.settings
    batches = ahead(run.batches, state.step, run.steps * settings.epochs)
    log.start(run.steps, settings.epochs, settings.batch_size, state.epoch, state.step)
    try:
        with InterruptGuard() as guard:
            while state.epoch < settings.epochs:
                if state.step < (state.epoch + 1) * run.steps:
                    _step(run, batches)
                else:
                    _finish_epoch(run, guard)
                guard.check()
    except Interrupted:
        _save_interrupted(run)
        raise
    except TrainingStopped:
        raise
    except InputError:  # a picture that cannot be read: what was learnt so far is good
        _save_interrupted(run)
        raise
    except KeyboardInterrupt:
        log.say(f"Stopped at once. Go on from the last save with: {_resume_command(settings)}")
        raise
    finally:
        batches.close()


def _save_interrupted(run: Run) -> None:
    state, log = run.state, run.log
    if state.step == 0:
        log.say("Interrupted before the first step; there is nothing to save.")
        return
    if state.step > state.epoch * run.steps:  # else the epoch's end has just been saved
        with log.uninterrupted():
            _save(run, interrupted=True)
    log.say(f"Interrupted and saved. Go on with: {_resume_command(run.settings)}")


def _resume_command(settings: TrainSettings) -> str:
    command = ["python", "train_retinanet.py", "--run", str(settings.run), "--resume"]
    if settings.snapshots != TrainSettings().snapshots:
        command += ["--snapshots", str(settings.snapshots)]
    return shlex.join(command)


def _step(run: Run, batches: Iterator[Batch]) -> None:
    began = time.perf_counter()
    batch = next(batches)
    waited = time.perf_counter() - began
    run.model.reset_metrics()
    told = run.model.train_on_batch({"images": batch.images}, batch.targets, return_dict=True)
    losses = {name: float(told[name]) for name in ("loss", "classification_loss", "box_loss")}
    # A finite loss of an epoch's last step may still have left weights that are not.
    last = (run.state.step + 1) % run.steps == 0
    finite = all(math.isfinite(value) for value in losses.values())
    if not finite or (last and not _weights_are_finite(run.model)):
        kept = run.folder.path / run.state.snapshot if run.state.snapshot else "none yet"
        what = (
            "the weights are not finite after" if finite else f"the loss became {losses['loss']} in"
        )
        raise TrainingStopped(
            f"{what} step {run.state.step + 1}, on the images "
            f"{', '.join(sorted(set(batch.names)))}. Look at them, or lower --lr (now "
            f"{run.settings.lr:g}); the last good snapshot: {kept}."
        )
    run.state.step += 1
    for name, value in losses.items():
        run.state.sums[name] = run.state.sums.get(name, 0.0) + value
    run.log.step(losses, _learning_rate(run.model), waited, time.perf_counter() - began)


def _weights_are_finite(model: RetinaNet) -> bool:
    return all(np.isfinite(np.asarray(value)).all() for value in model.trainable_variables)


def _learning_rate(model: RetinaNet) -> float:
    return float(np.asarray(model.optimizer.learning_rate))


def _finish_epoch(run: Run, guard: InterruptGuard) -> None:
    state, log = run.state, run.log
    began = time.perf_counter()
    mean_ap, per_class = _validate(run, guard)
    losses = {name: value / run.steps for name, value in state.sums.items()}
    state.epoch += 1
    state.sums = {}
    is_best = mean_ap > state.best_score
    if is_best:
        state.best_epoch, state.best_score = state.epoch, mean_ap
    run.model.settings["preprocessing"] |= {"epoch": state.epoch, "val_map": mean_ap}
    path = _save(run)
    with _reported(run):
        log.epoch(
            state.epoch,
            losses | {"val_map": mean_ap, "learning_rate": _learning_rate(run.model)},
            per_class,
            time.perf_counter() - began,
            is_best,
        )
        replaced = run.folder.promote(path) if is_best else None
    if replaced:
        log.say(replaced_line(run.folder, replaced))


def _validate(run: Run, guard: InterruptGuard) -> tuple[float, dict[str, float]]:
    """Val mAP; stores the operating point chosen there in the model."""
    labels = run.dataset.part("val")
    detector = Detector(run.model)
    pictures = ((item.image, run.settings.images / item.image) for item in labels)
    show = run.log.validating(len(labels))

    def on_progress(done: int) -> None:
        guard.check()
        show(done)

    found = predict_all(detector, pictures, on_progress=on_progress)
    result = measure_average_precision(
        labels, [found[item.image] for item in labels], run.model.classes
    )
    try:
        point = choose_operating_point(labels, found, target=run.settings.target_miss)
        run.model.settings["operating_point"] = point.to_dict()
    except InputError:  # nothing found yet: there is no threshold to choose
        run.model.settings["operating_point"] = None
    return result.mean_ap, {f"ap_{item.label}": item.ap for item in result.classes}


def _save(run: Run, interrupted: bool = False) -> Path:
    with _reported(run):
        return run.folder.save(run.model, run.state, interrupted)


@contextlib.contextmanager
def _reported(run: Run) -> Iterator[None]:
    """Turns a full disk into a sentence; what was there before is whole."""
    try:
        yield
    except OSError as error:
        raise TrainingStopped(
            f"{run.folder.path}: could not be written to ({error.strerror or error}). Earlier "
            f"snapshots are unharmed; make room, then go on with: {_resume_command(run.settings)}"
        ) from error
