"""Where a classifier looks in the images of a folder: overlays, figures, boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from classification.cam.boxes import BoxRule, Proposal, boxes_of, mask_boxes, match
from classification.cam.maps import Explainer
from classification.cam.measures import (
    energy_inside,
    mask_iou,
    pointing_game,
    randomisation_check,
    road,
)
from classification.models.classifier import Classifier, Prediction
from inspection.data.images import read_image, write_image
from inspection.data.labelled import LabelledImage
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.files.writing import file_hash, write_json_atomic, write_text_atomic
from inspection.prediction.detections import Detections
from inspection.progress import StageProgress, silent
from inspection.report.drawing import boxes_view, draw_view, heat_overlay

TARGETS = ("predicted", "known")
_BATCH = 8
_LONGEST = 900
_RANDOMISED = 16  # images
_COLUMNS = (
    *("image", "truth", "decision", "explained", "share", "strength"),
    *("pointing", "energy", "iou", "road"),
)


@dataclass(frozen=True)
class Explained:
    """One image and where the model looked.

    Args:
        item: Its file, class and mask.
        prediction: What the model says.
        target: The class that is explained.
        cam: (H, W) float32 from 0 to 1 in the image's own pixels.
        strength: What 1 stands for, in the layer's units.
        boxes: Objects of the map.
        figures: `pointing`, `energy`, `iou` where there is a mask, `road` where asked for.
    """

    item: LabelledImage
    prediction: Prediction
    target: str
    cam: np.ndarray
    strength: float
    boxes: Detections
    figures: dict[str, float]


@dataclass(frozen=True)
class ExplainRequest:
    """How images are explained.

    Args:
        method: See `classification.cam.maps.Explainer`.
        layer: See there.
        smooth: See there.
        target: `predicted`, `known` (the folder's class, where it names one), or a class.
        rule: How maps become boxes.
        road: Measure ROAD too, which takes eight passes more an image.
        randomise: Compare with the maps of the same network with its weights shuffled.
    """

    method: str = "grad-cam"
    layer: str | None = None
    smooth: str = "none"
    target: str = "predicted"
    rule: BoxRule = field(default_factory=BoxRule)
    road: bool = False
    randomise: bool = False


def explain(
    model: Classifier,
    images: Sequence[LabelledImage],
    request: ExplainRequest,
    each: Callable[[Explained], None],
    on_progress: StageProgress = silent,
) -> list[str]:
    """Explains images one after the other, in batches.

    Args:
        model: The classifier.
        images: Which.
        request: How.
        each: Called with each one, so that not all maps have to be kept.
        on_progress: Called with what is done, images done and in all.

    Returns:
        A sentence for each image that could not be read.

    Raises:
        InputError: The request names an unknown layer, method or class.
    """
    if request.target not in (*TARGETS, *model.classes):
        raise InputError(
            f"--target {request.target}: must be one of {', '.join((*TARGETS, *model.classes))}"
        )
    explainer = Explainer(model, request.layer)
    problems: list[str] = []
    for start in range(0, len(images), _BATCH):
        views, read, masks = [], [], []
        for one in images[start : start + _BATCH]:
            try:
                view = model.prepare(one.path)
                mask = one.read_mask()
            except InputError as error:
                problems += error.problems
                continue
            views.append(view)
            masks.append(mask)
            read.append(one)
        if not views:
            continue
        batch = np.stack([view.rgb for view in views])
        told = model.decide(model.probabilities(batch))
        targets = [_target(request.target, *pair) for pair in zip(read, told, strict=True)]
        numbers = [model.classes.index(name) for name in targets]
        found = explainer(batch, numbers, request.method, request.smooth)
        seen = explainer.place(found.scaled(), batch.shape[1:3])
        for index, view in enumerate(views):
            top = float(found.maps[index].max())
            cam = view.to_source(seen[index])
            boxes = boxes_of(cam, request.rule, targets[index])
            figures = _figures(cam, masks[index], request.rule)
            if request.road:
                figures["road"] = road(model.probabilities, view.rgb, seen[index], numbers[index])
            each(Explained(read[index], told[index], targets[index], cam, top, boxes, figures))
        on_progress("explaining", min(start + _BATCH, len(images)), len(images))
    return problems


def _target(wanted: str, image: LabelledImage, told: Prediction) -> str:
    if wanted == "known":
        return image.kind or told.label
    return told.label if wanted == "predicted" else wanted


def _figures(cam: np.ndarray, mask: np.ndarray | None, rule: BoxRule) -> dict[str, float]:
    if mask is None or not mask.any():
        return {}
    return {
        "pointing": float(pointing_game(cam, mask)),
        "energy": energy_inside(cam, mask),
        "iou": mask_iou((cam >= rule.level(cam)) & (cam > 0), mask),
    }


def image_with_cam(one: Explained, mask: np.ndarray | None = None) -> np.ndarray:
    """The image beside itself with map, boxes red and the mask's boxes green.

    Args:
        one: What was found.
        mask: (H, W) bool, where the defect is.

    Returns:
        (h, 2 w, 3) uint8.
    """
    rgb = read_image(one.item.path)
    true = mask_boxes(mask) if mask is not None and mask.any() else ()
    longest = min(_LONGEST, max(rgb.shape[:2]) * 2)
    views = (
        draw_view(rgb, longest=longest),
        boxes_view(heat_overlay(rgb, one.cam), one.boxes.xyxy, true, longest),
    )
    return np.concatenate(views, axis=1)


def explain_folder(
    model: Classifier,
    images: Sequence[LabelledImage],
    output: Path,
    request: ExplainRequest,
    on_progress: StageProgress = silent,
) -> tuple[dict[str, Any], list[str]]:
    """Writes an overlay for each image, `figures.csv` and `summary.json`.

    Args:
        model: The classifier.
        images: Which.
        output: Folder of the results.
        request: How.
        on_progress: As `explain`.

    Returns:
        The summary, and a sentence for each image that could not be read.

    Raises:
        InputError: As `explain`.
    """
    rows: list[dict[str, Any]] = []
    boxes: list[Detections] = []
    truths: list[np.ndarray] = []
    readable: list[LabelledImage] = []

    def keep(one: Explained) -> None:
        readable.append(one.item)
        mask = one.item.read_mask()
        place = output / "overlays" / Path(one.item.image).with_suffix(".png")
        write_image(place, image_with_cam(one, mask))
        rows.append(
            {
                "image": one.item.image,
                "truth": one.item.kind or "",
                "decision": one.prediction.label,
                "explained": one.target,
                "share": one.prediction.probability[one.target],
                "strength": one.strength,
                **one.figures,
            }
        )
        if mask is not None and mask.any():
            boxes.append(one.boxes)
            truths.append(mask_boxes(mask))

    problems = explain(model, images, request, keep, on_progress)
    summary = {
        "method": request.method,
        "layer": Explainer(model, request.layer).layer,
        "smooth": request.smooth,
        "target": request.target,
        "threshold": request.rule.threshold,
        "pictures": len(rows),
        "empty_maps": sum(row["strength"] <= 0 for row in rows),
        "with_masks": len(truths),
        "model": str(model.path),
        "model_hash": file_hash(model.path) if model.path else "",
    }
    for name in ("pointing", "energy", "iou", "road"):
        values = [row[name] for row in rows if name in row]
        # A map without any value points nowhere; it counts as 0, else it would flatter.
        summary[name] = float(np.nan_to_num(values).mean()) if values else None
    if request.randomise:
        summary["alike_with_shuffled_weights"] = _alike_with_shuffled(model, readable, request)
    for iou in (0.3, 0.5) if truths else ():
        found = match(boxes, truths, iou)
        summary[f"boxes_at_iou_{iou}"] = {"recall": found.recall, "precision": found.precision}
    _write_rows(output / "figures.csv", rows)
    write_json_atomic(output / "summary.json", summary)
    return summary, problems


def _alike_with_shuffled(
    model: Classifier, readable: Sequence[LabelledImage], request: ExplainRequest
) -> float:
    """See `randomisation_check`; NaN where there is no image to compare on."""
    chosen = readable[:_RANDOMISED]
    if not chosen:
        return float("nan")
    views = np.stack([model.prepare(one.path).rgb for one in chosen])
    return randomisation_check(model.model, views, request.method, request.layer)


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines: list[Sequence[object]] = [_COLUMNS]
    for row in rows:
        cells = [row.get(name, "") for name in _COLUMNS]
        lines.append([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    write_text_atomic(path, sheet_text(lines))


def propose(
    model: Classifier,
    images: Sequence[LabelledImage],
    request: ExplainRequest,
    on_progress: StageProgress = silent,
) -> tuple[list[Proposal], list[str]]:
    """Boxes of every image that is no good; a normal one gets none.

    Args:
        model: The classifier.
        images: Which.
        request: How.
        on_progress: As `explain`.

    Returns:
        One proposal an image, and a sentence for each image that could not be read.
    """
    found: list[Proposal] = []

    def keep(one: Explained) -> None:
        height, width = one.cam.shape
        nothing = Detections([], [], ())
        boxes = nothing if one.target == model.card.normal else one.boxes
        # A map's own maximum is 1 however faint it is; the class's share says how sure it is.
        share = one.prediction.probability[one.target]
        boxes = Detections(boxes.xyxy, boxes.score * share, boxes.label)
        found.append(Proposal(one.item.image, one.item.path, (width, height), boxes))

    problems = explain(model, images, request, keep, on_progress)
    return found, problems
