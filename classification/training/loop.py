"""Training: from images with a class each to a run of snapshots, interruptible at any point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from classification.evaluation.figures import choose_point, confusion_matrix, macro_f1
from classification.models.classifier import Classifier, decided
from classification.settings import ROOM, ClassificationSettings
from classification.training.batches import Batch
from classification.training.setup import Run, TrainingLog, prepare
from inspection.decisions.operating_point import prevalence_weights
from inspection.errors import InputError
from inspection.training.announcement import Ahead, all_done, seconds_per_step
from inspection.training.interrupt import InterruptGuard
from inspection.training.loop import TrainingLoop, Validated
from inspection.training.run import held_run, resume_command

_TIE = 1e-6  # of equal macro F1 the epoch of lower loss is the best


def train(
    settings: ClassificationSettings,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
    log: TrainingLog | None = None,
) -> Path:
    """Trains as the settings say.

    Args:
        settings: Complete settings; for a resume those of `resume_settings`.
        resume: Go on from the run's last save.
        say: Receives lines about what is ahead; the log's console where left out.
        log: Where progress is shown; the console where left out.

    Returns:
        The run's folder, with `best.keras`.

    Raises:
        InputError: Images, settings or weights cannot be used, or training cannot go on.
        KeyboardInterrupt: At a first Ctrl-C or SIGTERM after everything was saved, at a second
            Ctrl-C at once.
    """
    log = log or TrainingLog()
    with held_run(settings.runs, settings.name, settings.model, resume) as folder:
        run = prepare(
            settings.model_copy(update={"name": folder.name}), resume, say or log.say, log
        )
        _announce(run, say or log.say)
        observer = _wandb(run, resume) if run.settings.wandb else None
        if observer is not None:
            log.observers += (observer.log,)
        try:
            _loop(run).run(run.batches)
        finally:
            log.close()
            if observer is not None:
                observer.finish()
    return folder


def _loop(run: Run) -> TrainingLoop:
    settings = run.settings
    return TrainingLoop(
        run.model,
        run.folder,
        run.state,
        run.log,
        settings.steps,
        settings.epochs,
        settings.batch_size,
        resume_command(ROOM, run.folder.path, ClassificationSettings().runs),
        learn=lambda batch: _learn(run, batch),
        validate=lambda guard: _validate(run, guard),
        tell=lambda epoch, score: _tell(run, epoch, score),
    )


def _learn(run: Run, batch: Batch) -> dict[str, float]:
    seed_dropout(run.model, run.settings.seed, run.state.step)
    return {"loss": float(run.model.train_on_batch(batch.images, batch.targets))}


def seed_dropout(model: keras.Model, seed: int, step: int) -> None:
    """Gives every dropout of a model its own draw, which follows from the step.

    A resumed run draws what it would have drawn, and blocks are left out independently.

    Args:
        model: Inner models included.
        seed: Of the run.
        step: Of the run.
    """
    generators = [getattr(layer, "seed_generator", None) for layer in model._flatten_layers()]
    for place, generator in enumerate(one for one in generators if one is not None):
        state = np.random.SeedSequence([seed, step, place]).generate_state(2)
        generator.state.assign(state.astype(generator.state.dtype))


def _tell(run: Run, epoch: int, score: float) -> None:
    run.card.provenance.epoch = epoch
    run.card.provenance.score = score


def _validate(run: Run, guard: InterruptGuard) -> Validated:
    """Macro F1 on the calibration part; puts the threshold chosen there into the card."""
    views, settings = run.validation, run.settings
    classes, normal = run.card.classes, run.card.normal
    classifier = Classifier(run.model, run.card)
    show = run.log.validating(len(views))
    found = []
    for start in range(0, len(views), settings.batch_size):
        guard.check()
        numbers = range(start, min(start + settings.batch_size, len(views)))
        found.append(classifier.probabilities(np.stack([views[i] for i in numbers])))
        show(start + len(numbers))
    probability = np.concatenate(found)
    truth = np.array([classes.index(item.kind) for item in views.items])
    run.card.operating_point = None
    if normal is not None:
        try:
            run.card.operating_point = choose_point(
                truth,
                probability,
                classes,
                normal,
                settings.rule,
                settings.target_miss,
                settings.target_overkill,
                run.data.split.hash,
                settings.prevalence,
            )
        except InputError as error:
            if run.state.epoch == 0:
                run.log.say(f"Warning: no threshold: {error}")
    point = run.card.operating_point
    decision = decided(probability, classes, normal, point and point.threshold)
    weights = None
    if normal is not None:
        weights = prevalence_weights(truth != classes.index(normal), settings.prevalence)
    score = float(macro_f1(confusion_matrix(truth, decision, len(classes), weights)))
    loss = float(-np.log(np.maximum(probability[np.arange(len(truth)), truth], 1e-12)).mean())
    return Validated(score, {"val_loss": loss}, rank=score - _TIE * min(loss, 100.0))


def _announce(run: Run, say: Callable[[str], None]) -> None:
    """Says what is ahead, from one step that is taken back again."""
    settings = run.settings
    if run.state.epoch >= settings.epochs:
        say(all_done(run.state.epoch))
        return
    counts = Counter(item.kind for item in run.batches.views.items)
    if max(counts.values()) >= 10 * min(counts.values()) and settings.sampling == "plain":
        rare = min(counts, key=counts.__getitem__)
        say(
            f"Note: {rare} has {counts[rare]} of {sum(counts.values())} training images; "
            "--sampling class-aware, --loss logit-adjusted and --paste .5 are there for that."
        )
    batch = run.batches[run.state.step]
    seconds = seconds_per_step(run.model, lambda: _learn(run, batch))
    ahead = Ahead(
        run.folder.path,
        len(run.batches.views),
        settings.steps,
        settings.batch_size,
        run.state.epoch,
        settings.epochs,
        step_seconds=seconds,
        validated=len(run.validation),
        # Forwards only, of batches of the same size.
        validation_seconds=0.4 * seconds * len(run.validation) / settings.batch_size,
        snapshot_mb=run.model.count_params() * 4 / 1e6,
        keep=settings.keep,
    )
    for line in ahead.lines():
        say(line)


def _wandb(run: Run, resume: bool):
    from classification.training.wandb_log import WandbLog

    return WandbLog(run.settings, run.folder.path, run.id, resume, run.log.say)
