"""Exported models in use: with OpenVINO or ONNX Runtime, without Keras and TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from detection.models.decision import Image, decided
from detection.models.decoding import MAX_DETECTIONS, MIN_SCORE
from detection.settings import ROOM
from inspection.data.images import as_rgb
from inspection.errors import InputError
from inspection.export.runtimes import Run, open_exported
from inspection.finite import check_finite, names_file
from inspection.models.card import ModelCard
from inspection.prediction.detections import Detections


class ExportedDetector:
    """An exported model with the interface of `detection.models.detector.Detector`.

    Args:
        card: What the file says of itself.
        run: The compiled graph.

    Example:
        >>> detector = ExportedDetector.load("part.xml")   # doctest: +SKIP
        >>> detector.predict("part.png").xyxy              # doctest: +SKIP
    """

    def __init__(self, card: ModelCard, run: Run) -> None:
        self.card, self._run = card, run
        self.classes, self.operating_point = card.classes, card.operating_point
        self.size, self.bits = card.preparation.size, card.preparation.bits
        self.fit = card.preparation.fit

    @classmethod
    def load(cls, path: str | Path) -> ExportedDetector:
        """Loads an exported `.xml` (with its `.bin` beside it) or `.onnx` file.

        Raises:
            InputError: The file is missing, damaged or not of this tool, or its runtime is not
                installed.
            NotFinite: It holds a weight that is no finite number.
        """
        # The graph holds an infinity of its own: the score of a reject.
        return cls(*open_exported(path, ROOM, limits=True))

    @overload
    def predict(self, image: Image, **options: float) -> Detections: ...
    @overload
    def predict(self, image: Sequence[Image], **options: float) -> list[Detections]: ...
    def predict(self, image, min_score=MIN_SCORE, max_detections=MAX_DETECTIONS):
        """Finds defects in one image of any size, or in each of a list; as `Detector.predict`.

        Args:
            image: As `Detector.predict` takes it.
            min_score: Lower scores are dropped; not below the bound inside the file.
            max_detections: The best so many are kept; not above the bound inside the file.

        Returns:
            Boxes in pixels of the image, best first, with the decision by the operating point;
            for a list one each.

        Raises:
            InputError: The file cannot be read, or a bound is passed.
            NotFinite: The graph gives something that is no finite number.
        """
        if min_score < MIN_SCORE or max_detections > MAX_DETECTIONS:
            raise InputError(
                f"an exported model keeps at most {MAX_DETECTIONS} boxes of score {MIN_SCORE} and "
                f"more; {max_detections} of {min_score:g} and more need the .keras snapshot."
            )
        if isinstance(image, list | tuple):
            return [self.predict(one, min_score, max_detections) for one in image]
        if isinstance(image, np.ndarray):
            image = as_rgb(image, self.bits)
        seen = self.card.preparation(image)
        outputs = self._run(seen.rgb[None])
        boxes, score, label = (outputs[name] for name in ("boxes", "scores", "labels"))
        with names_file(image):
            check_finite(scores=score, edges=boxes)
        boxes = seen.fit.to_source(boxes)
        # In a letterbox's border there is no image: what lies there alone has no area left.
        real = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        names = tuple(self.classes[index] for index in label[real])
        every = Detections(boxes[real], score[real], names)
        return decided(self, image, every, min_score, max_detections)

    def predict_batch(self, images: Sequence[Image], **options: float) -> list[Detections]:
        """Finds defects in several images, one after the other; as `predict` for each."""
        return [self.predict(image, **options) for image in images]
