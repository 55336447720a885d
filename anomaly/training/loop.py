"""From images to a model with a threshold, in one run folder."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from anomaly.data.dataset import Data
from anomaly.data.near_duplicates import warning
from anomaly.features.extractor import Source
from anomaly.methods.base import Method
from anomaly.models.model import AnomalyModel, method_class
from anomaly.models.scores import SCORING, Choice
from anomaly.settings import ROOM, AnomalySettings
from anomaly.training.calibration import (
    ScoreTable,
    decided,
    score_images,
    score_rows,
    with_reference,
)
from anomaly.training.method import check_options, new_method
from anomaly.training.run import is_finished
from anomaly.training.setup import Say, channels_of, data_of, normals_of, source_of
from inspection.cli.console import counted
from inspection.data.dataset import CALIBRATION, check_sizes, describe
from inspection.data.split import PARTS
from inspection.data.stored_split import split_path
from inspection.decisions.operating_point import percent
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.files.writing import sweep_temporary, write_text_atomic
from inspection.models.card import trained_on
from inspection.progress import StageProgress, silent
from inspection.report.evaluation import forget_evaluations
from inspection.report.page import versions
from inspection.training.contents import CONTENTS
from inspection.training.run import (
    MODEL,
    RECORD,
    RUN_SPLIT,
    SETTINGS,
    begin_record,
    held_run,
    own_split,
    resume_command,
    write_record,
)

_WRITTEN = (MODEL, SETTINGS, "calibration.csv", RUN_SPLIT, CONTENTS, RECORD)
_PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn")
_USELESS = 0.5  # overkill on calibration, from which a threshold is no help


def train(
    settings: AnomalySettings,
    say: Say = print,
    on_progress: StageProgress = silent,
    also: Iterable[str] = (),
    resume: bool = False,
) -> Path:
    """Learns normal images, chooses aggregation and threshold, and stores the model.

    Args:
        settings: Complete settings.
        say: Receives lines about what happens.
        on_progress: Called with what is being done, how far it is, and the whole.
        also: Taps that later trainings on the same images will want; see `FeatureExtractor`.
        resume: Go on with the run of these settings: what was done of it is found again. A
            finished run stays as it is.

    Returns:
        The run's folder: the model, `settings.yaml`, `record.json`, `split.csv` and
        `calibration.csv`.

    Raises:
        InputError: Settings, images or weights cannot be used, or the run exists.
    """
    kind = method_class(settings.method)
    check_options(kind, settings.options)
    with held_run(settings.runs, settings.run, settings.method, resume) as folder:
        if resume and is_finished(folder):
            return folder
        sweep_temporary(folder, _WRITTEN)
        settings = settings.model_copy(update={"run": folder.name})
        try:
            _train(folder, kind, settings, say, on_progress, also, resume)
        except InputError:
            if not resume:  # nothing can be gone on with
                for name in (SETTINGS, RUN_SPLIT):
                    (folder / name).unlink(missing_ok=True)
            raise
        except KeyboardInterrupt:
            if (folder / SETTINGS).is_file():
                usual = AnomalySettings.model_fields["runs"].default
                say(f"Go on with: {resume_command(ROOM, folder, usual)}")
            raise
    return folder


def _train(
    folder: Path,
    kind: type[Method],
    settings: AnomalySettings,
    say: Say,
    on_progress: StageProgress,
    also: Iterable[str],
    resume: bool,
) -> None:
    preparation = settings.preparation
    data = data_of(settings, say, own_split(folder) if resume else None)
    check_sizes(data.images, preparation)
    for line in describe(data):
        say(line)
    stored = split_path(settings.data, settings.runs, ROOM)
    alike = data.near_duplicates(stored.with_suffix(".small.npz"))
    if alike:
        say(warning(alike, data.split.assignments))
    (folder / RECORD).unlink(missing_ok=True)  # of a start that came to no model
    begin_record(folder, settings, data.split, data.split_path)
    began = time.perf_counter()
    keras.utils.set_random_seed(settings.seed)
    normals = normals_of(data, settings, say)
    say(
        f"Run: {folder}, {counted(len(normals.paths), 'image')} to learn by {kind.name}, "
        f"{counted(len(data.part(CALIBRATION)), 'image')} to choose the threshold on."
    )
    method = new_method(kind, settings, normals.unchanged, say, on_progress, also)
    try:
        method.fit(normals, settings.seed, on_progress)
    except MemoryError as error:
        raise InputError(
            f"{settings.method}: ran out of memory; give a smaller --size, or its own options"
        ) from error
    preparation = replace(preparation, channels=channels_of(data))
    run_id = uuid.uuid4().hex
    origin = trained_on(
        (item.path for item in data.normals),
        run=folder.name,
        run_id=run_id,
        data=str(settings.data.resolve()),
        data_hash=data.images.hash,
        split_hash=data.split.hash,
        versions=versions(*_PACKAGES),
    )
    model = AnomalyModel(method, preparation, provenance=origin)
    unseen = [item for item in data.part(CALIBRATION) if not item.is_defect]
    held_out = source_of(unseen, settings) if unseen else normals.unchanged
    model = with_reference(model, held_out, settings.seed)
    table = score_images(model, data.part(CALIBRATION), settings, on_progress)
    model, choice = decided(model, table, settings, data.images.hash)
    minutes = (time.perf_counter() - began) / 60
    _write(folder, settings, data, model, table, choice, minutes, normals, alike, run_id)
    point = model.operating_point
    say(f"Aggregation: {model.aggregation}. Threshold {point.threshold:g}: {point.rule}.")
    say(f"On calibration: miss {point.miss}; overkill {point.overkill}.")
    for note in point.notes:
        say(f"Note: {note}")
    if point.overkill.total and point.overkill.value >= _USELESS:
        say(
            f"WARNING: THIS THRESHOLD REJECTS {percent(point.overkill.value)} OF NORMAL IMAGES: "
            "some defects score like normal ones. Try other methods (`compare`), a larger --size "
            "or longer --pretrain-steps, a higher --target-miss, or --rule review-band."
        )


def _write(
    folder: Path,
    settings: AnomalySettings,
    data: Data,
    model: AnomalyModel,
    table: ScoreTable,
    choice: Choice,
    minutes: float,
    normals: Source,
    alike: Sequence[tuple[str, str]],
    run_id: str,
) -> None:
    """Writes the run; the model last, by which it is known to be whole."""
    earlier = [f"{part}{suffix}" for part in PARTS for suffix in (".json", ".csv")]
    forget_evaluations(folder / MODEL, earlier)
    write_text_atomic(folder / "calibration.csv", sheet_text(score_rows(table, model)))
    hashes = contents(data, normals)
    more = {
        "learnt_hash": hashes["learnt_hash"],
        "scoring": hashes["scoring"],
        "learnt": len(normals),
        "near_duplicates": [list(pair) for pair in alike],
        "minutes": minutes,
        "aggregation": {
            "chosen": choice.name,
            "auroc": dict(choice.auroc),
            "ahead_of": {name: list(bounds) for name, bounds in choice.behind.items()},
        },
        "operating_point": model.operating_point.to_dict(),
    }
    write_record(
        folder,
        settings,
        data.split,
        data.split_path,
        run_id=run_id,
        data_hash=hashes["data_hash"],
        packages=_PACKAGES,
        files=_files(data, normals),
        hashes=data.images.contents,
        more=more,
    )
    model.save(folder / MODEL)


def _files(data: Data, normals: Source) -> dict[str, Path]:
    """Every image by its name, and what was learnt beside them by its place."""
    files = {item.image: item.path for item in data.images.items}
    known = set(files.values())
    more = {str(path.resolve()): path for path in normals.paths if path not in known}
    return files | more


def contents(data: Data, normals: Source) -> dict[str, Any]:
    """What a run stands on besides its settings: where it differs, the run is another."""
    return {
        "data_hash": data.images.hash,
        "split_hash": data.split.hash,
        "learnt_hash": normals.hash,
        "scoring": SCORING,
    }
