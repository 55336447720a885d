"""A classifier with all it needs to decide on a raw image, in one `.keras` file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classification.settings import ROOM
from inspection.data.preparation import Prepared
from inspection.errors import InputError
from inspection.files.archives import Hostile, check_network, read_safely
from inspection.files.graphs import is_exported
from inspection.files.writing import atomic_path
from inspection.finite import check_finite, check_weights, names_file
from inspection.models.card import ModelCard, read_card
from inspection.models.keras_import import without_notices
from inspection.training.run import BEST, model_file

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of an image.

    Args:
        label: Its class: `normal` where the score is under the threshold, else the likeliest
            other one; the likeliest of all where there is no normal class or threshold.
        probability: Share of each class, summing to 1.
        score: 1 minus the normal class's share; NaN where there is no normal class.
        decision: `OK`, `review` or `NG`; the label where there is no normal class.
    """

    label: str
    probability: dict[str, float]
    score: float
    decision: str


class Decider(ABC):
    """Decides on raw images, trained or exported.

    Args:
        card: What travels with it.
        path: The file it came from.
    """

    card: ModelCard
    path: Path | None

    @abstractmethod
    def logits(self, views: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 views to (B, K) float32."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.card.classes

    def prepare(self, image: str | Path | np.ndarray) -> Prepared:
        """What the network sees of an image; raises as `Preparation`."""
        return self.card.preparation(image)

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 views to (B, K) float64 shares.

        Raises:
            NotFinite: A logit is no finite number.
        """
        logits = self.logits(views)
        check_finite(logits=logits)
        return softmax(logits.astype(np.float64))

    def decide(self, probability: np.ndarray) -> list[Prediction]:
        """(B, K) shares to predictions."""
        normal = self.card.normal
        point = self.card.operating_point
        found = []
        for row, label in zip(
            probability, self.labels(probability, point and point.threshold), strict=True
        ):
            shares = dict(zip(self.classes, map(float, row), strict=True))
            score = float("nan") if normal is None else 1 - shares[normal]
            if normal is None:
                decision = label
            elif point is not None:
                decision = point.decide(score)
            else:
                decision = "OK" if label == normal else "NG"
            found.append(Prediction(label, shares, score, decision))
        return found

    def labels(self, probability: np.ndarray, threshold: float | None) -> list[str]:
        """The class of each row of shares, see `Prediction.label`."""
        chosen = decided(probability, self.classes, self.card.normal, threshold)
        return [self.classes[index] for index in chosen]

    def predict(self, image: str | Path | np.ndarray) -> Prediction:
        """Decides on one image.

        Args:
            image: A file, or an array as `inspection.data.images.as_rgb` takes it.

        Raises:
            InputError: The image cannot be read.
            NotFinite: The network gives something that is no finite number.
        """
        view = self.prepare(image)
        with names_file(image):
            return self.decide(self.probabilities(view.rgb[None]))[0]


class Classifier(Decider):
    """A trained classifier.

    Args:
        model: From (B, S, S, 3) to (B, K) logits.
        card: What travels with it.
        path: The file it came from.
    """

    def __init__(self, model: keras.Model, card: ModelCard, path: Path | None = None) -> None:
        self.model, self.card, self.path = model, card, path

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """Loads a `.keras` file, or the best one of a run's folder.

        Raises:
            InputError: The file is missing, no classifier of ours, or an exported one.
        """
        path = model_file(path, BEST)
        card = read_card(path, ROOM)
        if is_exported(path):
            raise InputError(
                f"{path}: is exported and decides only; this needs the .keras file it was made of"
            )
        with read_safely(path, "cannot be loaded", "copy or train it again"):
            check_network(path)
            with without_notices():
                import keras

                model = keras.saving.load_model(path, compile=False)
            if model.output_shape[-1] != len(card.classes):
                raise Hostile("its card is of other classes than its network")
            with names_file(path):
                check_weights(model)
            return cls(model, card, path)

    def logits(self, views: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict_on_batch(np.asarray(views, np.float32)))

    def save(self, path: str | Path) -> None:
        """Writes weights and card atomically."""
        with atomic_path(path) as temporary:
            self.model.save(temporary)
            self.card.write_into(temporary)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(B, K) logits to shares."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def decided(
    probability: np.ndarray,
    classes: Sequence[str],
    normal: str | None,
    threshold: float | None,
) -> np.ndarray:
    """(B,) index of each image's class, by the threshold on 1 - normal's share if there is one.

    Args:
        probability: (B, K) shares.
        classes: K names.
        normal: The class of good parts, or None.
        threshold: Parts whose score is at or over it are no good; None decides by the largest
            share.
    """
    if normal is None or threshold is None:
        return probability.argmax(axis=1)
    place = list(classes).index(normal)
    others = probability.copy()
    others[:, place] = -1
    is_defect = (1 - probability[:, place]) >= threshold
    return np.where(is_defect, others.argmax(axis=1), place)
