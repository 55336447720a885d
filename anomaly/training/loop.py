"""From pictures to a model with a threshold, in one run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from anomaly.data.dataset import Data, open_data
from anomaly.data.near_duplicates import warning
from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.methods.base import FeatureMethod, Method, Progress, silent
from anomaly.methods.pretraining import EMBEDDING, Pretraining, pretrain
from anomaly.models.model import AnomalyModel, method_class
from anomaly.models.scores import (
    AGGREGATIONS,
    LEVEL_QUANTILE,
    SCORING,
    Choice,
    Reference,
    choose_aggregation,
)
from anomaly.run import MODEL
from anomaly.settings import AnomalySettings
from inspection.data.dataset import CALIBRATION, check_sizes, describe
from inspection.data.depth import bits_note
from inspection.data.images import colour_channels, list_images
from inspection.data.labelled import LabelledImage
from inspection.data.split import PARTS
from inspection.decisions.operating_point import choose_threshold, percent
from inspection.errors import InputError
from inspection.files.archives import check_network
from inspection.files.locks import held_run
from inspection.files.records import RECORD
from inspection.files.sheets import sheet_text
from inspection.files.writing import (
    atomic_path,
    copy_atomic,
    sweep_temporary,
    write_json_atomic,
    write_text_atomic,
)
from inspection.models import backbones, weights
from inspection.models.card import trained_on
from inspection.report.page import versions
from inspection.settings import save_settings

_WRITTEN = (MODEL, "settings.yaml", "calibration.csv", "split.csv", RECORD)
CACHE = "features"
_MOST_GENERATED = 0.5
_PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn")
_USELESS = 0.5  # overkill on calibration, from which a threshold is no help
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of some pictures.

    Args:
        items: The pictures.
        scores: By aggregation, (N,) each.
        seconds: (N,) from file to score.
    """

    items: tuple[LabelledImage, ...]
    scores: dict[str, np.ndarray]
    seconds: np.ndarray

    @property
    def is_defect(self) -> np.ndarray:
        """(N,) bool."""
        return np.array([item.is_defect for item in self.items], bool)


def train(
    settings: AnomalySettings,
    say: Say = print,
    on_progress: Progress = silent,
    also: Iterable[str] = (),
) -> Path:
    """Learns normal pictures, chooses aggregation and threshold, and stores the model.

    Args:
        settings: Complete settings.
        say: Told what happens.
        on_progress: Called with what is being done, how far it is, and the whole.
        also: Taps that later trainings on the same pictures will want; see `FeatureExtractor`.

    Returns:
        The run's folder: the model, `settings.yaml`, `record.json`, `split.csv` and
        `calibration.csv`.

    Raises:
        InputError: Settings, pictures or weights cannot be used, or the run exists.
    """
    kind = method_class(settings.method)
    check_options(kind, settings.options)
    held = held_run(
        settings.runs,
        settings.run,
        f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{settings.method}",
        False,
        lambda folder: (folder / MODEL).exists(),
        "give another --run",
    )
    with held as folder:
        sweep_temporary(folder, _WRITTEN)
        _train(folder, kind, settings, say, on_progress, also)
    return folder


def _train(
    folder: Path,
    kind: type[Method],
    settings: AnomalySettings,
    say: Say,
    on_progress: Progress,
    also: Iterable[str],
) -> None:
    preparation = settings.preparation
    data = data_of(settings, say)
    check_sizes(data.images, preparation)
    for line in describe(data):
        say(line)
    alike = data.near_duplicates()
    if alike:
        say(warning(alike, data.split.assignments))
    began = time.perf_counter()
    keras.utils.set_random_seed(settings.seed)
    normals = normals_of(data, settings, say)
    method = _new_method(kind, settings, normals.unchanged, say, on_progress, also)
    try:
        method.fit(normals, settings.seed, on_progress)
    except MemoryError as error:
        raise InputError(
            f"{settings.method}: ran out of memory; give a smaller --size, or its own options"
        ) from error
    preparation = replace(preparation, channels=_channels(data))
    origin = trained_on(
        (item.path for item in data.normals),
        run=folder.name,
        data=str(settings.data.resolve()),
        data_hash=data.images.hash,
        split_hash=data.split.hash,
        versions=versions(*_PACKAGES),
    )
    model = AnomalyModel(method, preparation, provenance=origin)
    unseen = [item for item in data.part(CALIBRATION) if not item.is_defect]
    held_out = source_of(unseen, settings) if unseen else normals.unchanged
    model = with_reference(model, held_out, settings.seed)
    table = score_pictures(model, data.part(CALIBRATION), settings, on_progress)
    model, choice = _decided(model, table, settings, data.images.hash)
    minutes = (time.perf_counter() - began) / 60
    _write(folder, settings, data, model, table, choice, minutes, normals, alike)
    point = model.operating_point
    say(f"Aggregation: {model.aggregation}. Threshold {point.threshold:g}: {point.rule}.")
    say(f"On calibration: miss {point.miss}; overkill {point.overkill}.")
    for note in point.notes:
        say(f"Note: {note}")
    if point.overkill.total and point.overkill.value >= _USELESS:
        say(
            f"WARNING: THIS THRESHOLD REJECTS {percent(point.overkill.value)} OF NORMAL PICTURES: "
            "some defects score like normal ones. Try other methods (`compare`), a larger --size "
            "or longer --pretrain-steps, a higher --target-miss, or --rule review-band."
        )


def check_options(kind: type[Method], options: dict[str, Any]) -> None:
    """Refuses options that a method does not know or cannot take, before any work.

    Raises:
        InputError: Names the options.
    """
    options = dict(options)
    stages = options.pop("stages", 1)
    if issubclass(kind, FeatureMethod):
        if stages not in (1, 2, 3):
            raise InputError(f"options, stages {stages}: must be 1, 2 or 3")
        options["extractor"] = None
    unknown = sorted(set(options) - {"extractor", *kind.OPTIONS})
    if unknown:
        raise InputError(
            f"options: {kind.name} knows no {', '.join(unknown)}; its options are "
            f"{', '.join(kind.OPTIONS)}"
        )
    try:
        kind(**options)
    except TypeError as error:  # a text where a number belongs
        raise InputError(f"options: {kind.name}: {error}") from error


def normals_of(data: Data, settings: AnomalySettings, say: Say) -> Source:
    """What is learnt: normal pictures of the train part, changed copies, generated pictures."""
    source = source_of(data.normals, settings)
    paths = source.paths + generated_paths(settings, len(source.paths), say)
    return replace(source, paths=paths, augmentation=settings.augmentation, seed=settings.seed)


def generated_paths(settings: AnomalySettings, real: int, say: Say) -> tuple[Path, ...]:
    """Generated pictures to learn beside the real ones, up to their share of all.

    They join the train part only; calibration and test never see one.
    """
    if settings.generated is None:
        return ()
    found = list_images(settings.generated)
    if not found:
        raise InputError(f"{settings.generated}: holds no picture; give the folder `generated`")
    share = settings.generated_share
    most = int(real * share / (1 - share) + 1e-9)
    if share > _MOST_GENERATED:
        say(
            f"WARNING: UP TO {percent(share)} OF WHAT IS LEARNT IS GENERATED. A model that learns "
            "a generator's pictures finds the generator's mistakes normal; keep --generated-share "
            f"at {percent(_MOST_GENERATED)} or less."
        )
    if len(found) > most:
        say(
            f"{len(found)} generated pictures are more than --generated-share {share:g} allows "
            f"beside {real} real ones: the first {most} are taken."
        )
    return tuple(found[:most])


def _channels(data: Data) -> int | None:
    """1 or 3 where all that is learnt agrees, else None."""
    found = {colour_channels(item.path) for item in data.normals}
    return found.pop() if len(found) == 1 else None


def data_of(settings: AnomalySettings, say: Say) -> Data:
    """The pictures and the split that the settings name; see `anomaly.data.dataset.open_data`."""
    data = open_data(
        settings.data,
        settings.runs,
        fractions=settings.fractions,
        seed=settings.seed,
        group_by=settings.group_by,
        say=say,
    )
    if note := bits_note([item.path for item in data.images.items], settings.bits):
        say(f"Warning: {note}.")
    return data


def source_of(items: Sequence[LabelledImage], settings: AnomalySettings) -> Source:
    """Pictures as the methods read them, with their cache of features."""
    paths = tuple(item.path for item in items)
    return Source(paths, settings.preparation, settings.kept_in / CACHE)


def score_pictures(
    model: AnomalyModel,
    items: Sequence[LabelledImage],
    settings: AnomalySettings,
    on_progress: Progress = silent,
) -> ScoreTable:
    """Scores pictures by every aggregation.

    Args:
        model: Fitted, with its level.
        items: The images.
        settings: Of the run.
        on_progress: Called after each picture.
    """
    source = source_of(items, settings)
    found: list[dict[str, float]] = []
    seconds = []
    for index in range(len(source)):
        began = time.perf_counter()
        found.append(model.image_scores(model.scored_of(source, index)))
        seconds.append(time.perf_counter() - began)
        on_progress("scoring", index + 1, len(source))
    scores = {name: np.array([row[name] for row in found]) for name in AGGREGATIONS}
    return ScoreTable(tuple(items), scores, np.array(seconds))


def with_reference(
    model: AnomalyModel, normals: Source, seed: int, most: int = 100
) -> AnomalyModel:
    """The model with what the cells of up to `most` normal pictures are like.

    Args:
        model: Fitted, without a reference.
        normals: Pictures that were not learnt: on those that were, its cells lie lower.
        seed: Decides which are taken.
        most: How many at the most.
    """
    order = np.random.default_rng(seed).permutation(len(normals))[:most]
    shown, counted = [], []
    for index in order:
        scored = model.scored_of(normals, int(index), model.method.raw)
        shown.append(scored.prepared.cells(scored.shown))
        counted.append(scored.cells)
    median, level = np.quantile(np.concatenate(shown), [0.5, LEVEL_QUANTILE])
    return replace(
        model,
        normal=(float(median), float(level)),
        reference=Reference.of(counted, model.method.raw),
    )


def _decided(
    model: AnomalyModel, table: ScoreTable, settings: AnomalySettings, data_hash: str
) -> tuple[AnomalyModel, Choice]:
    """The model with its aggregation and threshold."""
    is_defect = table.is_defect
    if settings.aggregation == "auto":
        usual = model.method.aggregation
        choice = choose_aggregation(table.scores, is_defect, settings.seed, usual)
    else:
        choice = Choice(settings.aggregation, {}, {})
    check_telling(table.scores[choice.name], settings.method, choice.name)
    rule = settings.rule or ("least-overkill" if is_defect.any() else "normal-quantile")
    target = settings.target_miss if rule != "normal-quantile" else settings.target_overkill
    target = settings.target_overkill if rule == "least-miss" else target
    point = choose_threshold(
        table.scores[choice.name],
        is_defect,
        rule,
        target=target,
        overkill_target=settings.target_overkill,
        data_hash=data.images.hash,
    )
    return replace(model, aggregation=choice.name, operating_point=point), choice


def check_telling(scores: np.ndarray, method: str, aggregation: str) -> None:
    """Refuses scores that are all equal: no threshold tells anything by them.

    Raises:
        InputError: Names method and aggregation.
    """
    if len(scores) > 1 and not np.ptp(scores) > 0:
        raise InputError(
            f"{method}: failed: all {len(scores)} images score {scores[0]:g} by its aggregation "
            f"{aggregation}, normal or not; give another --aggregation, --weights or --method"
        )


def _new_method(
    kind: type[Method],
    settings: AnomalySettings,
    normals: Source,
    say: Say,
    on_progress: Progress,
    also: Iterable[str],
) -> Method:
    options = dict(settings.options)
    stages = options.pop("stages", None)
    if issubclass(kind, FeatureMethod):
        backbone, names = backbone_for(settings, normals, say, on_progress)
        names = stages_for(kind, backbone, names, stages)
        extractor = FeatureExtractor(backbone, kind.taps_of(names), also)
        options["extractor"] = extractor
    return kind(**options)


def stages_for(
    kind: type[FeatureMethod],
    backbone: keras.Model,
    names: Sequence[str],
    wanted: int | None = None,
) -> tuple[str, ...]:
    """The stages that a method looks at, finest first.

    Args:
        kind: The method.
        backbone: As `backbone_for` made it.
        names: Its middle stages, finest first.
        wanted: How many the user asked for; None is the method's own choice.
    """
    if names == (EMBEDDING,):
        return names
    if names == backbones.EFFICIENTNET_STAGES:
        strides = dict(zip(names, backbones.EFFICIENTNET_STRIDES, strict=True))
    else:
        levels = backbone.pyramid_level_inputs
        strides = {name: 2 ** int(level.removeprefix("P")) for level, name in levels.items()}
    coarsest = kind.coarsest or strides[names[-1]]
    found = sorted((one for one in strides if strides[one] <= coarsest), key=strides.get)
    if wanted and wanted > len(found):
        found = list(names)
    return tuple(found[-(wanted or kind.stages) :])


def backbone_for(
    settings: AnomalySettings,
    normals: Source,
    say: Say = print,
    on_progress: Progress = silent,
) -> tuple[keras.Model, tuple[str, ...]]:
    """The backbone that the settings ask for, and its middle stages, finest first.

    `self` trains a small one on the normal pictures, and keeps it for the next run on the same
    pictures; its one stage is its embedding.

    Raises:
        InputError: The weights cannot be reached or do not fit.
    """
    choice = settings.weights
    if choice == "auto":
        choice = _settled(settings)
    if choice == "self":
        if settings.backbone != "resnet18":
            raise InputError("--weights self: trains a resnet18; leave --backbone out")
        return _own_backbone(settings, normals, say, on_progress), (EMBEDDING,)
    if settings.backbone == backbones.EFFICIENTNET:
        backbone = backbones.efficientnet_b5(choice)
        stages = backbones.EFFICIENTNET_STAGES
    else:
        backbone = backbones.resnet(settings.backbone, "frozen")
        stages = tuple(backbone.pyramid_level_inputs[level] for level in ("P2", "P3", "P4"))
        if choice == "imagenet":
            choice = str(weights.fetch_imagenet(settings.backbone))
        if choice != "none":
            weights.load_weights_file(backbone, choice)
    if choice == "none":
        say("FEATURES OF A RANDOM NETWORK: --weights none is for comparison only.")
    return backbone, stages


def _settled(settings: AnomalySettings) -> str:
    if settings.backbone in weights.PUBLISHED:
        try:
            weights.fetch_imagenet(settings.backbone, weights.AUTO_SECONDS)
        except InputError as error:
            raise InputError(
                f"{error} Or give --backbone resnet18 --weights self, which trains a small "
                "backbone on your normal pictures."
            ) from error
        return "imagenet"
    return "self"


def _own_backbone(
    settings: AnomalySettings, normals: Source, say: Say, on_progress: Progress
) -> keras.Model:
    steps, seed = settings.pretrain_steps, settings.seed
    path = settings.kept_in / "backbones" / f"{normals.hash[:16]}-{steps}-{seed}.keras"
    if path.is_file():
        try:
            check_network(path)
            backbone = keras.saving.load_model(path, compile=False)
            backbone.get_layer(EMBEDDING)
        except Exception:  # damaged in whatever way
            say(f"{path}: is damaged; the backbone is trained again.")
        else:
            say(f"Backbone trained before on these pictures: {path}.")
            return backbone
    say("NO PRETRAINED WEIGHTS: a small backbone is trained on your normal pictures first.")
    backbone = pretrain(normals, Pretraining(steps), seed, on_progress)
    with atomic_path(path) as temporary:
        backbone.save(temporary)
    return backbone


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
) -> None:
    """Writes the run; the model last, by which it is known to be whole."""
    for part in PARTS:  # figures of a model that stood here before
        for suffix in (".json", ".csv"):
            (folder / f"{part}{suffix}").unlink(missing_ok=True)
    save_settings(settings, folder / "settings.yaml")
    write_scores(folder / "calibration.csv", table, model)
    copy_atomic(data.split_path, folder / "split.csv")
    record = {
        "settings": settings.model_dump(mode="json"),
        "versions": versions(*_PACKAGES),
        "backend": keras.backend.backend(),
        **contents(data, normals),
        "pictures": {part: len(data.part(part)) for part in ("train", CALIBRATION, "test")},
        "learnt": len(normals),
        "near_duplicates": [list(pair) for pair in alike],
        "minutes": minutes,
        "aggregation": {
            "chosen": choice.name,
            "auroc": dict(choice.auroc),
            "ahead_of": {name: list(bounds) for name, bounds in choice.behind.items()},
        },
        "operating_point": model.operating_point.to_dict(),
        "seed": settings.seed,
    }
    write_json_atomic(folder / RECORD, record)
    model.save(folder / MODEL)


def contents(data: Data, normals: Source) -> dict[str, Any]:
    """What a run stands on besides its settings: where it differs, the run is another."""
    return {
        "data_hash": data.images.hash,
        "split_hash": data.split.hash,
        "learnt_hash": normals.hash,
        "scoring": SCORING,
    }


def write_scores(path: Path, table: ScoreTable, model: AnomalyModel) -> None:
    """One row per picture: kind, decision and every aggregation."""
    rows = [["image", "kind", "decision", "score", *table.scores]]
    for index, item in enumerate(table.items):
        score = float(table.scores[model.aggregation][index])
        decision = model.operating_point.decide(score) if model.operating_point else ""
        cells = (f"{values[index]:.9g}" for values in table.scores.values())
        rows.append([item.image, item.kind, decision, f"{score:.9g}", *cells])
    write_text_atomic(path, sheet_text(rows))
