"""A classifier with all it needs to decide on a raw picture, in one `.keras` file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from inspection.data.preparation import Preparation, Prepared
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.files.archives import check_network, open_archive, read_json, read_safely
from inspection.files.writing import atomic_path
from inspection.finite import check_finite, check_weights, names_file
from inspection.models.keras_import import without_notices

if TYPE_CHECKING:
    import keras

MEMBER = "classification.json"
"""What of a `.keras` file is ours; Keras passes it over."""

VERSION = 1
_INSTEAD = "give a .keras file that `python -m classification train` wrote, or its run's folder"
_Name = Annotated[str, Field(max_length=1000)]


class _CardValues(BaseModel):
    """What a card may hold; whatever is not named here is taken as it is."""

    model_config = ConfigDict(extra="allow")

    architecture: _Name
    classes: Annotated[list[_Name], Field(min_length=2, max_length=1000)]
    normal: _Name | None
    preparation: Preparation
    operating_point: dict[str, Any] | None
    run: _Name
    epoch: Annotated[int, Field(ge=0)]
    data: str
    extra: dict[str, Any]

    @model_validator(mode="after")
    def _normal_is_a_class(self) -> _CardValues:
        if self.normal is not None and self.normal not in self.classes:
            raise ValueError("the class of good parts is none of its classes")
        return self


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a picture.

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


@dataclass
class ModelCard:
    """What travels with the weights.

    Args:
        architecture: Name in `classification.models.architectures`.
        classes: Names in the order of the logits.
        normal: The class of good parts, or None.
        preparation: How pictures are brought to the network.
        operating_point: When a part is NG; None until one is chosen.
        run: Name of the run.
        epoch: Finished epochs.
        data: Where the pictures of the training were.
    """

    architecture: str
    classes: tuple[str, ...]
    normal: str | None
    preparation: Preparation
    operating_point: OperatingPoint | None = None
    run: str = ""
    epoch: int = 0
    data: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """As text for the model file."""
        point = self.operating_point.to_dict() if self.operating_point else None
        values = {
            "version": VERSION,
            "architecture": self.architecture,
            "classes": list(self.classes),
            "normal": self.normal,
            "preparation": self.preparation.to_dict(),
            "operating_point": point,
            "run": self.run,
            "epoch": self.epoch,
            "data": self.data,
            "extra": self.extra,
        }
        return json.dumps(values, ensure_ascii=False, indent=1)

    @classmethod
    def read(cls, path: str | Path) -> ModelCard:
        """From a model file, without its weights.

        Raises:
            InputError: The file is missing, no classifier of ours, or of a newer version.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(
                f"{path}: there is no such model; train one with `python -m classification train`"
            )
        with read_safely(path, "is no classifier of this tool", _INSTEAD):
            with open_archive(path) as archive:
                values = read_json(archive, MEMBER)
            version = values.pop("version")
            if version > VERSION:
                raise InputError(
                    f"{path}: was written by a newer version of this tool (format {version}, this "
                    f"one reads up to {VERSION}); update the tool"
                )
            _CardValues.model_validate(values)
            point = values["operating_point"]
            values["operating_point"] = OperatingPoint.from_dict(point) if point else None
            values["preparation"] = Preparation.from_dict(values["preparation"])
            values["classes"] = tuple(values["classes"])
            return cls(**values)

    def write_into(self, path: Path) -> None:
        """Adds this to a `.keras` file that Keras has just written."""
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(MEMBER, self.to_json())


class Classifier:
    """Decides on raw pictures.

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
            InputError: The file is missing or no classifier of ours.
        """
        path = model_file(path)
        card = ModelCard.read(path)
        with read_safely(path, "cannot be loaded", "copy or train it again"):
            check_network(path)
            with without_notices():
                import keras

                model = keras.saving.load_model(path, compile=False)
        with names_file(path):
            check_weights(model)
        return cls(model, card, path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.card.classes

    def prepare(self, picture: str | Path | np.ndarray) -> Prepared:
        """What the network sees of a picture; raises as `Preparation`."""
        return self.card.preparation(picture)

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 or float views to (B, K) float64 shares.

        Raises:
            NotFinite: A logit is no finite number.
        """
        logits = np.asarray(self.model.predict_on_batch(np.asarray(views, np.float32)))
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

    def predict(self, picture: str | Path | np.ndarray) -> Prediction:
        """Decides on one picture.

        Args:
            picture: A file, or an array as `inspection.data.images.as_rgb` takes it.

        Raises:
            InputError: The picture cannot be read.
            NotFinite: The network gives something that is no finite number.
        """
        view = self.prepare(picture)
        with names_file(picture):
            return self.decide(self.probabilities(view.rgb[None]))[0]

    def save(self, path: str | Path) -> None:
        """Writes weights and card atomically."""
        with atomic_path(path) as temporary:
            self.model.save(temporary)
            self.card.write_into(temporary)


def model_file(path: str | Path) -> Path:
    """A model's file: itself, or `best.keras` of a run's folder."""
    path = Path(path)
    return path / "best.keras" if path.is_dir() else path


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
    """(B,) index of each picture's class, by the threshold on 1 - normal's share if there is one.

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
