"""Camera images in; boxes out, as tables, labelImg XML and overlays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from detection.models.decision import AnyDetector, image_score
from detection.prediction.output import XML, refuse_annotations
from detection.settings import ROOM
from inspection.data.images import read_image, write_image
from inspection.data.letterbox import Image8
from inspection.errors import InputError
from inspection.files.records import Count, Finite
from inspection.prediction.detections import (
    EDGES,
    Detections,
    box_values,
    overlay,
    write_prediction,
)
from inspection.prediction.folder import Answer, Predictor, settings_of
from inspection.prediction.journal import NOT_DECIDED, Line

TABLE, OVERLAYS = "detections.csv", "overlays"

_DEFAULT_THRESHOLD = 0.5


class _Box(BaseModel):
    model_config = ConfigDict(strict=True)

    xmin: Finite
    ymin: Finite
    xmax: Finite
    ymax: Finite
    label: str
    score: Finite


class BoxesLine(Line):
    """An image and its boxes, the best first.

    Args:
        width: Of the image in pixels; None where it was not decided.
        height: As `width`.
        boxes: Edges in pixels of the image.
    """

    decision: Literal["OK", "review", "NG", "not decided"]
    width: Count | None = None
    height: Count | None = None
    boxes: list[_Box] = Field(default_factory=list)


@dataclass(frozen=True)
class _Image:
    path: Path
    rgb: Image8


class BoxPredictor(Predictor[_Image, BoxesLine]):
    """What detection adds to `predict_folder`.

    Args:
        detector: The model.
        threshold: Boxes of lower scores are not written. The model's operating point where left
            out, else 0.5. The detector itself keeps nothing under 0.05.

    Raises:
        InputError: The threshold is no score.
    """

    room = ROOM
    line = BoxesLine
    columns = ("boxes", "label")
    drawings: Mapping[str, str] = {XML: ".xml", OVERLAYS: ".jpg"}
    wanted = tuple(drawings)
    tables = (TABLE,)

    def __init__(self, detector: AnyDetector, threshold: float | None = None) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(
                f"--threshold {threshold}: must lie within 0 and 1, as scores do; correct it."
            )
        self.detector = detector
        self._is_chosen = not (threshold is None and detector.operating_point is None)
        self._point = point = detector.operating_point if threshold is None else None
        if threshold is None:
            threshold = _DEFAULT_THRESHOLD if point is None else point.threshold
        self.threshold = float(threshold)
        self.settings = settings_of(point, self.threshold)

    def read(self, path: Path) -> _Image:
        return _Image(path, read_image(path, self.detector.bits))

    def decide(self, images: Sequence[_Image]) -> list[Answer]:
        found = self.detector.predict_batch([image.rgb for image in images])
        return [self._answer(image, one) for image, one in zip(images, found, strict=True)]

    def _answer(self, image: _Image, found: Detections) -> Answer:
        score = image_score(found)
        if self._point is None:
            decision = "NG" if score >= self.threshold else "OK"
        else:
            decision = self._point.decide(score)
        height, width = image.rgb.shape[:2]
        boxes = box_values(found.above(self.threshold))
        kept = [_Box(**box) for box in boxes]
        values = {"width": width, "height": height, "boxes": kept}
        return Answer(decision, score, values, partial(self._draw, image, boxes))

    def _draw(self, image: _Image, boxes: list[dict[str, Any]], places: Mapping[str, Path]) -> None:
        edges = [[box[edge] for edge in EDGES] for box in boxes]
        height, width = image.rgb.shape[:2]
        labels = [box["label"] for box in boxes]
        write_prediction(places[XML], image.path, (width, height), edges, labels)
        write_image(places[OVERLAYS], overlay(image.rgb, boxes, self.detector.classes))

    def cells(self, line: BoxesLine) -> Sequence[object]:
        """Number of boxes and the best one's class."""
        if not line.done:
            return "", NOT_DECIDED
        return len(line.boxes), line.boxes[0].label if line.boxes else ""

    def table(self, name: str, lines: Sequence[BoxesLine]) -> Iterator[Sequence[object]]:
        """A row for each box, and for each image without."""
        yield "image", *EDGES, "label", "score"
        for line in lines:
            if not line.boxes:
                yield line.image, *[""] * 4, "" if line.done else NOT_DECIDED, ""
            for box in line.boxes:
                edges = [f"{getattr(box, edge):.10g}" for edge in EDGES]
                yield line.image, *edges, box.label, f"{box.score:.6f}"

    def remarks(self, lines: Sequence[BoxesLine]) -> list[str]:
        """Warns of a threshold that nobody chose."""
        if self._is_chosen:
            return []
        return [
            "Warning: this model has no calibrated threshold; OK and NG were decided at "
            f"{self.threshold:g}, which nobody chose on images. Train longer, or give --threshold."
        ]

    def refuse(self, folder: Path) -> None:
        """Raises as `refuse_annotations`."""
        refuse_annotations(folder)
