"""What a model finds in an image, and its forms as files: JSON, labelImg XML, boxes drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from inspection.data.boxes import FloatArray, as_boxes
from inspection.data.images import IMAGE_SUFFIXES, read_image, write_image
from inspection.data.letterbox import Image8
from inspection.data.voc import PREDICTION, seal, whole_boxes, write_voc
from inspection.errors import InputError
from inspection.files.writing import write_json_atomic
from inspection.finite import check_finite
from inspection.report.drawing import DrawnBox, draw_view
from inspection.report.palette import class_colour

if TYPE_CHECKING:
    from PIL import Image

EDGES = ("xmin", "ymin", "xmax", "ymax")
_SIDES = (640, 4096)


@dataclass(frozen=True, eq=False)
class Origin:
    """Where detections come from, and what was decided on all of them.

    Args:
        image: The file, or (H, W, 3) uint8 RGB.
        bits: Bits that a 16-bit camera fills.
        classes: The model's class names, whose order gives the colours.
        score: The image's score: its highest box score, 0 where nothing was found.
        decision: `OK`, `review` or `NG`; None where the model has no operating point.
        threshold: Of the operating point; None likewise.
    """

    image: str | Path | np.ndarray
    bits: int
    classes: tuple[str, ...]
    score: float
    decision: str | None
    threshold: float | None


@dataclass(frozen=True, eq=False)
class Detections:
    """What a model finds in one image, the highest score first.

    Two are equal where boxes, scores and names are; where they come from is not compared.

    Args:
        xyxy: (N, 4) float32, edges in pixels of the original image.
        score: (N,) float32 from 0 to 1; given in any order, kept descending.
        label: N class names.
        origin: Image and decision; None where no model stands behind them.

    Raises:
        NotFinite: A score or an edge is no finite number.
        ValueError: The numbers of boxes, scores and names differ.

    Example:
        >>> found = Detections([[0, 0, 4, 4], [2, 2, 8, 8]], [0.2, 0.9], ("dust", "scratch"))
        >>> found.label
        ('scratch', 'dust')
        >>> found.above(0.5).label
        ('scratch',)
    """

    xyxy: FloatArray
    score: FloatArray
    label: tuple[str, ...]
    origin: Origin | None = None

    def __post_init__(self) -> None:
        boxes = as_boxes(self.xyxy)
        score = np.asarray(self.score, np.float32).reshape(-1)
        label = tuple(self.label)
        if not len(boxes) == len(score) == len(label):
            raise ValueError(
                f"{len(boxes)} boxes, {len(score)} scores and {len(label)} labels; "
                "their numbers must be equal"
            )
        check_finite(scores=score, edges=boxes)
        if np.any(score[1:] > score[:-1]):
            order = np.argsort(-score, kind="stable")
            boxes, score = boxes[order], score[order]
            label = tuple(label[index] for index in order)
        object.__setattr__(self, "xyxy", boxes)
        object.__setattr__(self, "score", score)
        object.__setattr__(self, "label", label)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            self.label == other.label
            and np.array_equal(self.xyxy, other.xyxy)
            and np.array_equal(self.score, other.score)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def decision(self) -> str:
        """`OK`, `review` or `NG` by the model's operating point; `above` does not change it.

        Raises:
            InputError: There is no operating point.
        """
        if self.origin is None or self.origin.decision is None:
            raise InputError(
                "no operating point decides here: the model has none (train it longer, or on more "
                "labels), or these boxes do not come from a model; compare .score yourself."
            )
        return self.origin.decision

    def above(self, score: float | None = None) -> Detections:
        """The detections whose score is at least this.

        Args:
            score: From 0 to 1; the model's operating point where left out.

        Raises:
            InputError: It was left out, and there is no operating point.
        """
        threshold = self.origin.threshold if score is None and self.origin else score
        if threshold is None:
            raise InputError(
                "no operating point says which boxes count: the model has none, or these boxes do "
                "not come from a model; give a score, for instance 0.5."
            )
        # In float64: as float32, a score just under the threshold would compare as equal to it.
        count = int(np.count_nonzero(self.score.astype(np.float64) >= threshold))
        return replace(
            self, xyxy=self.xyxy[:count], score=self.score[:count], label=self.label[:count]
        )

    def plot(self, score: float | None = None) -> Image.Image:
        """The image with the boxes of `above(score)`, their classes and scores drawn in.

        Returns:
            A Pillow image, which notebooks display; `.show()` opens it.

        Raises:
            InputError: There is no image, or none can be read, or as `above`.
        """
        from PIL import Image

        return Image.fromarray(drawn(self.above(score)))

    def save(self, path: str | Path, score: float | None = None) -> Path:
        """Writes the boxes of `above(score)`, atomically, in the form that the suffix names.

        Args:
            path: `.json`: image, size, decision, score and boxes, as a line of `predict`'s
                `predictions.jsonl`; `.xml`: what labelImg opens; `.png`, `.jpg`, `.bmp`, `.tif`:
                the image with the boxes drawn in.
            score: As for `above`; 0 for all.

        Returns:
            The path.

        Raises:
            InputError: Another suffix, or as `plot`.
        """
        return save_detections(self.above(score), Path(path))


def box_values(found: Detections) -> list[dict[str, Any]]:
    """Each box as plain values: its edges in pixels of the image, `label` and `score`."""
    return [
        # The fewest digits that read back as the same float32.
        {**{edge: float(str(value)) for edge, value in zip(EDGES, box, strict=True)}}
        | {"label": label, "score": float(score)}
        for box, label, score in zip(found.xyxy, found.label, found.score, strict=True)
    ]


def overlay(rgb: Image8, boxes: Sequence[dict[str, Any]], classes: Sequence[str]) -> Image8:
    """The image at its own size, within bounds, with boxes, names and scores.

    Args:
        rgb: (H, W, 3).
        boxes: As `box_values` gives them, best first.
        classes: The model's, whose order gives the colours.
    """
    low, high = _SIDES
    longest = min(max(low, *rgb.shape[:2]), high)
    place = {name: index for index, name in enumerate(classes)}
    drawn = [
        DrawnBox(
            [box[edge] for edge in EDGES],
            class_colour(place.get(box["label"], 0)),
            f"{box['label']} {box['score']:.2f}",
            max(2, round(longest / 450)),
        )
        for box in reversed(boxes)  # the highest score is drawn last, on top
    ]
    return draw_view(rgb, drawn, longest=longest, font_size=max(14, round(longest / 64)))


def write_prediction(
    path: Path, image: Path, size: tuple[int, int], xyxy: ArrayLike, label: Sequence[str]
) -> None:
    """Writes what labelImg opens, sealed as a prediction that no human has looked at.

    Args:
        path: The XML file, written atomically.
        image: The image, absolute; its name where it is no file.
        size: (width, height) of the image in pixels.
        xyxy: (N, 4) edges in pixels.
        label: N class names.
    """
    edges = whole_boxes(xyxy, *size)
    write_voc(
        path,
        image.name,
        (*size, 3),
        edges,
        label,
        folder=image.parent.name,
        image_path=image,
        database=seal(PREDICTION, edges, label, [False] * len(label)),
    )


def drawn(found: Detections) -> Image8:
    """The image of detections with them drawn in; raises as `Detections.plot`."""
    origin = _origin(found)
    return overlay(_pixels(origin), box_values(found), origin.classes)


def save_detections(found: Detections, path: Path) -> Path:
    """Writes detections as `Detections.save` says."""
    suffix = path.suffix.lower()
    if suffix not in (".json", ".xml", *IMAGE_SUFFIXES):
        raise InputError(
            f"{path}: detections are saved as .json, .xml or, drawn into their image, as "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}; give one of these suffixes."
        )
    origin = _origin(found)
    # An array has no name; what is written is called as the file is.
    image = Path(path.stem) if isinstance(origin.image, np.ndarray) else Path(origin.image)
    if suffix in IMAGE_SUFFIXES:
        if image.exists() and path.exists() and path.samefile(image):
            raise InputError(f"{path}: is the image itself; give another name.")
        write_image(path, drawn(found))
        return path
    height, width = _pixels(origin).shape[:2]
    if suffix == ".xml":
        place = image if isinstance(origin.image, np.ndarray) else image.absolute()
        write_prediction(path, place, (width, height), found.xyxy, found.label)
        return path
    values = {
        "image": str(image),
        "width": width,
        "height": height,
        "decision": origin.decision,
        "score": origin.score,
        "boxes": box_values(found),
    }
    write_json_atomic(path, values)
    return path


def _origin(found: Detections) -> Origin:
    if found.origin is None:
        raise InputError(
            "these boxes do not come from a model, so there is no image to draw or save them with."
        )
    return found.origin


def _pixels(origin: Origin) -> Image8:
    if isinstance(origin.image, np.ndarray):
        return origin.image
    return read_image(origin.image, origin.bits)
