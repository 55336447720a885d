"""Images in; scores, decisions and heat maps out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from anomaly.models.decision import Decider, Finding
from anomaly.models.heat import overlay
from anomaly.settings import ROOM
from inspection.data.images import read_image, write_image
from inspection.data.preparation import Prepared
from inspection.errors import InputError
from inspection.prediction.folder import Answer, Predictor, settings_of
from inspection.prediction.journal import Line
from inspection.report.drawing import thumbnail

HEAT_MAPS = "heat_maps"

_LONGEST = 1024


class HeatLine(Line):
    """An image, and whether its heat map was drawn."""

    decision: Literal["OK", "review", "NG", "not decided"]
    heat_map: bool = False


@dataclass(frozen=True)
class _Image:
    path: Path
    prepared: Prepared


class HeatPredictor(Predictor[_Image, HeatLine]):
    """What anomaly adds to `predict_folder`.

    Args:
        model: Trained or exported, with its operating point.
        heat_maps: Draw each image with its score map over it.

    Raises:
        InputError: The model has no threshold.
    """

    room = ROOM
    line = HeatLine
    columns = ("heat_map",)
    drawings: Mapping[str, str] = {HEAT_MAPS: ".jpg"}

    def __init__(self, model: Decider, heat_maps: bool = True) -> None:
        if model.operating_point is None:
            raise InputError(
                "the model holds no threshold; train it again, or set one in `simulate`"
            )
        self.model = model
        self.wanted = tuple(self.drawings) if heat_maps else ()
        self.settings = settings_of(model.operating_point)

    def read(self, path: Path) -> _Image:
        return _Image(path, self.model.preparation(path))

    def decide(self, images: Sequence[_Image]) -> list[Answer]:
        found = self.model.decide([image.prepared for image in images])
        values = {"heat_map": bool(self.wanted)}
        return [
            Answer(one.decision, one.score, values, partial(self._draw, image.path, one))
            for image, one in zip(images, found, strict=True)
        ]

    def _draw(self, path: Path, found: Finding, places: Mapping[str, Path]) -> None:
        rgb = read_image(path, self.model.preparation.bits)
        heat = overlay(rgb, found.score_map, self.model.normal)
        write_image(places[HEAT_MAPS], thumbnail(heat, _LONGEST))

    def cells(self, line: HeatLine) -> Sequence[object]:
        """The heat map's path in the folder."""
        return (f"{HEAT_MAPS}/{line.stem}.jpg" if line.heat_map else "",)
