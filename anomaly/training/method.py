"""The method that the settings ask for, with the backbone whose features it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.methods.base import FeatureMethod, Method
from anomaly.methods.pretraining import EMBEDDING, Pretraining, pretrain
from anomaly.settings import AnomalySettings
from anomaly.training.setup import Say
from inspection.errors import InputError
from inspection.files.archives import check_network
from inspection.files.writing import atomic_path
from inspection.models import backbones, weights
from inspection.models.published import PUBLISHED
from inspection.progress import StageProgress, silent


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


def new_method(
    kind: type[Method],
    settings: AnomalySettings,
    normals: Source,
    say: Say,
    on_progress: StageProgress,
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
    on_progress: StageProgress = silent,
) -> tuple[keras.Model, tuple[str, ...]]:
    """The backbone that the settings ask for, and its middle stages, finest first.

    `self` trains a small one on the normal images, and keeps it for the next run on the same
    images; its one stage is its embedding.

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
        weights.fill_backbone(backbone, choice)
    if choice == "none":
        say("FEATURES OF A RANDOM NETWORK: --weights none is for comparison only.")
    return backbone, stages


def _settled(settings: AnomalySettings) -> str:
    if settings.backbone in PUBLISHED:
        try:
            weights.fetch_imagenet(settings.backbone, weights.AUTO_SECONDS)
        except InputError as error:
            raise InputError(
                f"{error} Or give --backbone resnet18 --weights self, which trains a small "
                "backbone on your normal images."
            ) from error
        return "imagenet"
    return "self"


def _own_backbone(
    settings: AnomalySettings, normals: Source, say: Say, on_progress: StageProgress
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
            say(f"Backbone trained before on these images: {path}.")
            return backbone
    say("NO PRETRAINED WEIGHTS: a small backbone is trained on your normal images first.")
    backbone = pretrain(normals, Pretraining(steps), seed, on_progress)
    with atomic_path(path) as temporary:
        backbone.save(temporary)
    return backbone
