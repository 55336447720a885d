"""Before anything is learnt: the images that the settings name, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from anomaly.data.dataset import Data, open_data
from anomaly.features.extractor import Source
from anomaly.settings import AnomalySettings
from inspection.data.depth import bits_note
from inspection.data.images import colour_channels, list_images
from inspection.data.labelled import LabelledImage
from inspection.decisions.rates import percent
from inspection.errors import InputError

CACHE = "features"
_MOST_GENERATED = 0.5
Say = Callable[[str], None]


def data_of(settings: AnomalySettings, say: Say, own: Path | None = None) -> Data:
    """The images and the split that the settings name; see `anomaly.data.dataset.open_data`."""
    data = open_data(
        settings.data,
        settings.runs,
        fractions=settings.fractions,
        seed=settings.seed,
        group_by=settings.group_by,
        own=own,
        say=say,
    )
    if note := bits_note([item.path for item in data.images.items], settings.bits):
        say(f"Warning: {note}.")
    return data


def normals_of(data: Data, settings: AnomalySettings, say: Say) -> Source:
    """What is learnt: normal images of the train part, changed copies, generated images."""
    source = source_of(data.normals, settings)
    paths = source.paths + generated_paths(settings, len(source.paths), say)
    return replace(source, paths=paths, augmentation=settings.augmentation, seed=settings.seed)


def generated_paths(settings: AnomalySettings, real: int, say: Say) -> tuple[Path, ...]:
    """Generated images to learn beside the real ones, up to their share of all.

    They join the train part only; calibration and test never see one.
    """
    if settings.generated is None:
        return ()
    found = list_images(settings.generated)
    if not found:
        raise InputError(f"{settings.generated}: holds no image; give the folder `generated`")
    share = settings.generated_share
    most = int(real * share / (1 - share) + 1e-9)
    if share > _MOST_GENERATED:
        say(
            f"WARNING: UP TO {percent(share)} OF WHAT IS LEARNT IS GENERATED. A model that learns "
            "a generator's images finds the generator's mistakes normal; keep --generated-share "
            f"at {percent(_MOST_GENERATED)} or less."
        )
    if len(found) > most:
        say(
            f"{len(found)} generated images are more than --generated-share {share:g} allows "
            f"beside {real} real ones: the first {most} are taken."
        )
    return tuple(found[:most])


def channels_of(data: Data) -> int | None:
    """1 or 3 where all that is learnt agrees, else None."""
    found = {colour_channels(item.path) for item in data.normals}
    return found.pop() if len(found) == 1 else None


def source_of(items: Sequence[LabelledImage], settings: AnomalySettings) -> Source:
    """Images as the methods read them, with their cache of features."""
    paths = tuple(item.path for item in items)
    return Source(paths, settings.preparation, settings.kept_in / CACHE)
