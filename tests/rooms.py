"""A model of each room that decides by how red an image is, without a network.

    python -m tests.rooms ROOM IMAGES OUTPUT KILL_AT

predicts IMAGES and is killed while the line of so many images is written.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.models.decision import Decider
from anomaly.prediction.files import HeatPredictor
from classification.models.classifier import Classifier
from classification.prediction.files import LabelPredictor
from detection.prediction.files import BoxPredictor
from inspection.data.images import write_image
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import OperatingPoint, fixed_threshold
from inspection.finite import check_finite
from inspection.prediction.detections import Detections
from inspection.prediction.folder import Predictor, predict_folder
from inspection.prediction.journal import JOURNAL, Journal, Owner
from tests.cards import classifier_card

OK, NG, NO_NUMBER = 0, 180, 255
"""Red of an image that is good, of one that is not, and of one without a finite answer."""

ROOMS = ("detection", "classification", "anomaly")
BOX = [2.25, 3.0, 12.5, 13.0]


class FakeDetector:
    """Finds one box with the score red / 200, and a weak one; a black image holds nothing."""

    classes = ("긁힘", "dust")
    bits = 16

    def __init__(self, operating_point: OperatingPoint | None = None) -> None:
        self.operating_point = operating_point
        self.batches: list[int] = []

    def predict_batch(self, pictures):
        self.batches.append(len(pictures))
        return [self._detections(image) for image in pictures]

    def _detections(self, picture):
        assert picture.dtype == np.uint8
        red = int(picture[0, 0, 0])
        check_finite(logits=np.nan if red == NO_NUMBER else 0.0)
        if not red:
            return Detections([], [], ())
        return Detections([BOX, [0, 0, 5, 5]], [red / 200, 0.1], self.classes)


class FakeNetwork:
    """Logits of a good part and a scratched one."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict_on_batch(self, views: np.ndarray) -> np.ndarray:
        self.batches.append(len(views))
        red = views[:, 0, 0, 0]
        scratched = np.where(red == NO_NUMBER, np.nan, (red - 100) / 50)
        return np.stack([np.zeros_like(red), scratched], axis=1)


@dataclass(eq=False)
class FakeDecider(Decider):
    """A score map that is the red of the image."""

    preparation: Preparation = field(default_factory=lambda: Preparation(size=32))
    aggregation: str = "max"
    normal: tuple[float, float] = (0.0, 0.5)
    operating_point: OperatingPoint | None = field(default_factory=lambda: fixed_threshold(0.5))
    reference: None = None
    batches: list[int] = field(default_factory=list)

    def weighted_views(self, views):
        self.batches.append(len(views))
        red = views[:, ::8, ::8, 0].astype(np.float32)
        return np.where(red == NO_NUMBER, np.nan, red / 200), None


def fake(room: str) -> tuple[Predictor[Any, Any], list[int]]:
    """A room's predictor and the sizes of the batches that its model will have seen."""
    if room == "detection":
        detector = FakeDetector()
        return BoxPredictor(detector), detector.batches
    if room == "classification":
        card = classifier_card(("normal", "긁힘"), "normal", 32)
        card.operating_point = fixed_threshold(0.5)
        network = FakeNetwork()
        return LabelPredictor(Classifier(network, card)), network.batches
    decider = FakeDecider()
    return HeatPredictor(decider), decider.batches


def owner_of(room: str, model: str = "ab") -> Owner:
    """Whose results they are."""
    return Owner(room=room, model_hash=model * 32, run="밤")


_DRAWN = {"detection": {"xml": ".xml", "overlays": ".jpg"}, "anomaly": {"heat_maps": ".jpg"}}


class Place:
    """A folder of images and an output folder of a room."""

    def __init__(self, room: str, root: Path) -> None:
        self.room, self.raw, self.out = room, root / "사진", root / "결과"
        self.drawn = _DRAWN.get(room, {})

    def image(self, name: str, red: int = NG, size: tuple[int, int] = (40, 30)) -> Path:
        rgb = np.zeros((size[1], size[0], 3), np.uint8)
        rgb[..., 0] = red
        write_image(self.raw / name, rgb)
        return self.raw / name

    def predict(self, *paths: Path, model: str = "ab", by=None, **options):
        predictor = by or fake(self.room)[0]
        return predict_folder(
            predictor, paths or [self.raw], self.out, owner_of(self.room, model), **options
        )

    @property
    def rows(self) -> list[dict[str, str]]:
        with (self.out / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def lines(self) -> list[dict]:
        return [json.loads(text) for text in (self.out / JOURNAL).read_text("utf-8").splitlines()]

    @property
    def content(self) -> dict[str, bytes]:
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {path.relative_to(self.out).as_posix(): path.read_bytes() for path in files}

    def drawings(self, *stems: str) -> set[str]:
        return {f"{name}/{stem}{suffix}" for name, suffix in self.drawn.items() for stem in stems}

    @property
    def all_drawn(self) -> set[str]:
        return {name for name in self.content if name.partition("/")[0] in self.drawn}


def _die_at(count: int) -> None:
    """Kills this process in the middle of a line, as `kill -9` may."""
    add, written = Journal.add, []

    def dying(self, line):
        written.append(line)
        if len(written) == count:
            self._file.buffer.write('{"image": "반'.encode()[:-1])
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        add(self, line)

    Journal.add = dying


if __name__ == "__main__":
    _die_at(int(sys.argv[4]))
    room, images, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    predict_folder(fake(room)[0], [images], output, owner_of(room))
