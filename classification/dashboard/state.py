"""What the dashboard computes: kept, so that only what is new takes time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from classification.cam.maps import Explainer
from classification.evaluation.measure import part_of_run
from classification.evaluation.scored import Scored, score_images
from classification.models.classifier import Classifier
from classification.models.layers import map_layers
from classification.settings import ROOM
from classification.training.augment import Augmenter
from inspection.cli.pages import Stamp, stamp
from inspection.data.images import read_image
from inspection.data.labelled import LabelledImage
from inspection.data.letterbox import Image8
from inspection.data.preparation import Preparation
from inspection.errors import InputError
from inspection.models.card import read_card
from inspection.training.run import BEST, RUN_SPLIT, SETTINGS

_KEPT_MODELS, _KEPT_MAPS = 6, 512


@dataclass(frozen=True)
class ModelFile:
    """A snapshot as it is now: another training of the same name is another model."""

    path: Path
    written: Stamp

    @classmethod
    def of(cls, path: Path) -> ModelFile:
        return cls(path, stamp(path))


@dataclass(frozen=True)
class Run:
    """A run as it was trained last; what a page keeps of another training is not shown for it.

    Args:
        path: Its folder.
        trained: When its settings and its split were written.
    """

    path: Path
    trained: tuple[Stamp, Stamp]

    @classmethod
    def of(cls, path: Path) -> Run:
        return cls(path, (stamp(path / SETTINGS), stamp(path / RUN_SPLIT)))

    def key(self, what: str) -> str:
        """Key of a widget whose choices are those of this run: its classes, layers, images."""
        return f"{what} {self.path} {self.trained}"


@dataclass(frozen=True)
class Look:
    """Everything that decides what is shown of an image.

    Args:
        model: The snapshot.
        layer: Whose map is shown.
        method: See `classification.cam.maps.Explainer`.
        smooth: See there.
        preparation: How the image is brought to the network.
        recipe: Augmentation put onto it first.
        seed: Of the augmentation.
    """

    model: ModelFile
    layer: str
    method: str
    smooth: str
    preparation: Preparation
    recipe: str = "none"
    seed: int = 0


@dataclass(frozen=True)
class Shown:
    """What was found out about an image.

    Args:
        view: (S, S, 3) uint8, what the network saw.
        cam: (H, W) float32 in the image's own pixels, in the layer's units.
        logits: (K,) of all classes.
        shares: (K,) of all classes.
    """

    view: Image8
    cam: np.ndarray
    logits: np.ndarray
    shares: np.ndarray


def runs_below(folder: Path) -> list[str]:
    """Names of the runs of classifiers in a folder, the newest first."""
    found = [path.parent for path in folder.glob(f"*/{SETTINGS}")]
    found = [path for path in found if (path / BEST).is_file() and _is_ours(path)]
    return [p.name for p in sorted(found, key=lambda p: -(p / BEST).stat().st_mtime)]


def _is_ours(run: Path) -> bool:
    try:
        read_card(run / BEST, ROOM)
    except InputError:
        return False
    return True


def snapshots(run: Path) -> list[Path]:
    """`best.keras`, then the epochs in their order."""
    return [run / BEST, *sorted(run.glob("epoch_*.keras"))]


@st.cache_resource(max_entries=_KEPT_MODELS, show_spinner="Loading the model …")
def load_model(model: ModelFile) -> Classifier:
    """A model, loaded once for all visitors."""
    return Classifier.load(model.path)


@st.cache_data(max_entries=64, show_spinner=False)
def layer_names(model: ModelFile) -> list[str]:
    """The layers that can be explained, the last first."""
    return list(map_layers(load_model(model).model))[::-1]


@st.cache_resource(max_entries=4 * _KEPT_MODELS, show_spinner=False)
def explainer(model: ModelFile, layer: str) -> Explainer:
    """Compiled once for a layer."""
    return Explainer(load_model(model), layer)


@st.cache_resource(max_entries=4, show_spinner="Reading the images …")
def part_of(run: Run, part: str) -> list[LabelledImage]:
    """The images of a part of a run's split."""
    return list(part_of_run(run.path, part)[0].items)


def scored(model: ModelFile, run: Run, part: str, most: int) -> Scored:
    """What a model says of a part's images."""
    items = part_of(run, part)
    return _scored(model, run, part, tuple(stamp(one.path) for one in items[:most]))


@st.cache_resource(max_entries=32, show_spinner=False)
def _scored(model: ModelFile, run: Run, part: str, written: tuple[Stamp, ...]) -> Scored:
    items = part_of(run, part)
    with st.spinner(f"Looking at {len(written)} images …"):
        return score_images(load_model(model), items[: len(written)])


@st.cache_data(max_entries=_KEPT_MAPS, show_spinner=False)
def explain(look: Look, path: Path, written: Stamp, target: int) -> Shown:
    """One image's map of one class.

    Args:
        look: How.
        path: The image.
        written: Its file's stamp.
        target: Index of the class.
    """
    view = look.preparation(path)
    rgb = Augmenter(look.recipe)(view.rgb, look.seed)
    explaining = explainer(look.model, look.layer)
    found = explaining(rgb[None], target, look.method, look.smooth)
    powers = np.exp(found.logits[0] - found.logits[0].max())
    # A turned or shifted view has no place in the image any more.
    moved = look.recipe != "none"
    cam = explaining.place(found.maps, rgb.shape[:2])[0]
    cam = cam if moved else view.to_source(cam)
    return Shown(rgb, cam, found.logits[0], powers / powers.sum())


@st.cache_data(max_entries=128, show_spinner=False)
def picture(path: Path, written: Stamp, bits: int) -> Image8:
    """An image as the camera gave it."""
    return read_image(path, bits)


def with_preparation(model: Classifier, preparation: Preparation) -> Classifier:
    """The same weights with another preparation."""
    card = model.card.model_copy(update={"preparation": preparation})
    return Classifier(model.model, card, model.path)
