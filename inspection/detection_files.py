"""Detections of one image as files: JSON, labelImg XML, the image with the boxes drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inspection.boxes import Detections, Origin
from inspection.errors import InputError
from inspection.images import IMAGE_SUFFIXES, Image8, read_image, write_image
from inspection.report import DrawnBox, draw_view
from inspection.runs import write_json_atomic
from inspection.voc import PREDICTION, seal, whole_boxes, write_voc

EDGES = ("xmin", "ymin", "xmax", "ymax")
# Bright ones that the colour-blind tell apart too (Okabe and Ito 2008), and lighter kin of them.
CLASS_COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 178, 130), (240, 228, 66)),
    *((204, 121, 167), (235, 110, 30), (110, 150, 240), (200, 200, 200)),
)
_SIDES = (640, 4096)


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
            CLASS_COLOURS[place.get(box["label"], 0) % len(CLASS_COLOURS)],
            f"{box['label']} {box['score']:.2f}",
            max(2, round(longest / 450)),
        )
        for box in reversed(boxes)  # the highest score is drawn last, on top
    ]
    return draw_view(rgb, drawn, longest=longest, font_size=max(14, round(longest / 64)))


def write_prediction(
    path: Path, image: Path, size: tuple[int, int], xyxy: np.ndarray, label: Sequence[str]
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
