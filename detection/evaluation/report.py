"""An evaluation on the terminal, as files, and as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.evaluation.average_precision import FALSE_POSITIVE, Matches
from detection.evaluation.result import BACKGROUND, Evaluation
from inspection.data.boxes import box_iou
from inspection.decisions.rates import escape_ppm, percent
from inspection.errors import InputError
from inspection.report.drawing import DrawnBox, draw_view, lies_wide
from inspection.report.evaluation import COLUMNS, Summary, write_evaluation
from inspection.report.figures import (
    Curve,
    confusion_figure,
    confusion_size,
    curves_figure,
    score_histogram,
)
from inspection.report.page import figure_png, image_uri, number_text, write_bytes
from inspection.report.palette import HIT, TRUTH, WRONG

CARDS = 24
TEMPLATE = Path(__file__).with_name("report.html.jinja")
ReadImage = Callable[[str], np.ndarray]


def print_evaluation(evaluation: Evaluation, console: Any) -> None:
    """Prints the table per class, the AP lines, and the image-level rates."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def say(line: str, style: str = "") -> None:
        # As Text: a class named [red] is a name, and long lines stay one line for grep.
        console.print(Text(line, style), soft_wrap=True, highlight=False)

    # Tight enough for 80 columns, which is what a log file gets.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    table.add_column("class", overflow="fold", min_width=12)
    for name in (
        "images",
        "boxes",
        evaluation.ap_name,
        "COCO.5",
        ".75",
        ".5:.95",
        "prec.",
        "rec.",
        "F1",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for label, *figures in table_rows(evaluation):
        table.add_row(Text(label), *figures)
    console.print(table)
    for entry in evaluation.classes:
        if entry.boxes:
            say(
                f"{entry.boxes} instances of class {entry.label} "
                f"with average precision: {entry.ap:.4f}"
            )
        else:
            say(f"no boxes of class {entry.label}: average precision not measurable", "yellow")
    say(f"mAP: {number_text(evaluation.mean_ap, 4, 'not measurable (no boxes)')}", "bold")
    say("")
    for name, value in {**evaluation.summary().rate_lines(), **escape_lines(evaluation)}.items():
        say(f"{name}: {value}")
    for note in evaluation.notes:
        say(f"Note: {note}", "yellow")


def write_report(
    evaluation: Evaluation,
    folder: str | Path,
    read_image: ReadImage,
    summary: Summary | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the evaluation's files and its three figures.

    Args:
        evaluation: What was measured.
        folder: Made where missing.
        read_image: From `ImageLabels.image` to (H, W, 3) uint8 RGB; may raise InputError.
        summary: Of which model and images it is; of none where left out.
        settings: Shown on the page and stored in the JSON.

    Returns:
        Path of the page.
    """
    folder, settings = Path(folder), dict(settings or {})
    summary = summary or evaluation.summary()
    figures = _figures(evaluation)
    misses, alarms = worst_misses(evaluation), worst_false_alarms(evaluation)
    page = write_evaluation(
        summary,
        folder,
        TEMPLATE,
        more={**evaluation.to_dict(), "settings": settings},
        table=_images_table(evaluation),
        tiles=_tiles(evaluation),
        figures=figures,
        origin=settings,
        rates=escape_lines(evaluation),
        evaluation=evaluation,
        rows=[
            [*row, f"{entry.missed_images.count} of {entry.missed_images.total}" if entry else ""]
            for row, entry in zip(table_rows(evaluation), [*evaluation.classes, None], strict=True)
        ],
        misses=[_card(evaluation, fault, read_image, "escape") for fault in misses[:CARDS]],
        alarms=[_card(evaluation, fault, read_image, "overkill") for fault in alarms[:CARDS]],
        miss_images=len(misses),
        alarm_images=len(alarms),
    )
    for name, png in figures.items():
        write_bytes(folder / f"{name.lower().replace(' ', '_')}.png", png)
    return page


def _figures(evaluation: Evaluation) -> dict[str, bytes]:
    """Title to PNG; the files' names are made of the titles."""
    counted = [entry for entry in evaluation.images if entry.truth != "difficult"]
    is_defect = np.array([entry.truth == "defective" for entry in counted], bool)
    scores = np.array([entry.score for entry in counted], float)
    point = evaluation.operating_point
    names = (*evaluation.names, BACKGROUND)
    drawn: dict[str, tuple[Callable[[Any], None], tuple[float, float]]] = {
        "PR curves": (
            lambda figure: curves_figure(
                _pr_curves(evaluation),
                figure,
                title=f"Precision and recall at IoU {evaluation.iou:g}",
                x="recall",
                y="precision",
            ),
            (5.6, 4.2),
        ),
        "Score histogram": (
            lambda figure: score_histogram(
                scores, is_defect, point, figure, called="image score (highest box score)"
            ),
            (5.6, 4.2),
        ),
        "Confusion matrix": (
            lambda figure: confusion_figure(
                evaluation.confusion,
                names,
                figure,
                title=f"Boxes at threshold {point.threshold:.3f}",
                decided="detected as",
                without_last=True,
            ),
            confusion_size(len(names)),
        ),
    }
    return {name: figure_png(draw, *size) for name, (draw, size) in drawn.items()}


def _pr_curves(evaluation: Evaluation) -> list[Curve]:
    """Precision over recall of each class with boxes, a dot where the operating point stands."""
    curves = []
    for curve, row in zip(evaluation.curves.classes, evaluation.classes, strict=True):
        if not curve.boxes:
            continue
        recall, precision = np.zeros(1), np.zeros(1)
        if curve.recall.size:
            recall = np.concatenate([[0.0], curve.recall])
            precision = np.concatenate([curve.precision[:1], curve.precision])
        known = not (math.isnan(row.recall) or math.isnan(row.precision))
        dot = (row.recall, row.precision) if known else None
        curves.append(Curve(f"{curve.label}  {curve.ap:.3f}", recall, precision, dot))
    return curves


def table_rows(evaluation: Evaluation) -> list[list[str]]:
    """The table's cells, a row per class and one of means (unweighted, where measurable)."""
    rows, figures = [], []
    for entry in evaluation.classes:
        values = [entry.ap, entry.coco_ap50, entry.coco_ap75, entry.coco_ap]
        values += [entry.precision, entry.recall, entry.f1]
        rows.append([entry.label, str(entry.images), str(entry.boxes), *map(number_text, values)])
        if entry.boxes:
            figures.append(values)
    columns = np.array(figures, float).reshape(-1, 7)
    means = [column[~np.isnan(column)] for column in columns.T]
    means = [number_text(float(column.mean()) if column.size else math.nan) for column in means]
    boxes = sum(entry.boxes for entry in evaluation.classes)
    return [*rows, ["mean", str(len(evaluation.images)), str(boxes), *means]]


def escape_lines(evaluation: Evaluation) -> dict[str, str]:
    """Escapes in PPM where it is known how many defective parts are made."""
    if evaluation.prevalence is None or not evaluation.miss.total:
        return {}
    estimate, bound = escape_ppm(evaluation.miss, evaluation.prevalence)
    text = f"at most {bound:.0f} PPM (one-sided 95 %) at {percent(evaluation.prevalence)}"
    if evaluation.miss.count:
        text = f"{estimate:.0f} PPM, {text}"
    return {"escapes": f"{text} defective parts"}


@dataclass(frozen=True, eq=False)
class Fault:
    """One image that stands in the report, and the box that puts it there.

    Args:
        image: Index into the evaluation's images.
        worst: xyxy of the missed box, or of the false alarm.
        text: What went wrong, in words.
        whole: The image's decision is wrong, not just a box.
    """

    image: int
    worst: np.ndarray
    text: str
    whole: bool


def worst_misses(evaluation: Evaluation) -> list[Fault]:
    """Images with missed boxes: escapes first, then by how little was seen of a box."""
    matches = evaluation.matches
    missed = ~matches.found_at(evaluation.operating_point.threshold) & ~matches.difficult
    seen = _best_score_on(matches)
    faults = []
    for image in np.unique(matches.truth_image[missed]):
        rows = np.flatnonzero(missed & (matches.truth_image == image))
        result = evaluation.images[image]
        worst = rows[np.argmin(seen[rows])]
        name = evaluation.names[matches.truth_class[worst]]
        score = seen[worst]
        box = evaluation.labels[image].xyxy[matches.truth_index[worst]]
        near = f"best score on it {score:.2f}" if score > 0 else _taken_for(evaluation, image, box)
        text = f"{len(rows)} of {result.boxes} boxes missed; {name}: {near}"
        whole = result.decision == "OK"
        faults.append((not whole, float(score), -len(rows), Fault(int(image), box, text, whole)))
    return [entry[-1] for entry in sorted(faults, key=lambda entry: entry[:3])]


def worst_false_alarms(evaluation: Evaluation) -> list[Fault]:
    """Images with false alarms: normal images first, then by the alarm's score."""
    matches = evaluation.matches
    false = matches.outcome == FALSE_POSITIVE
    rows = np.flatnonzero(false & (matches.score >= evaluation.operating_point.threshold))
    images, first = np.unique(matches.detection_image[rows], return_index=True)
    faults = []
    for image, row in zip(images, rows[first], strict=True):  # rows go by descending score
        result = evaluation.images[image]
        name = evaluation.names[matches.detection_class[row]]
        box = evaluation.detections[image].xyxy[matches.detection_index[row]]
        count = f"{result.false_alarms} false alarm{'s' if result.false_alarms > 1 else ''}"
        text = f"{count}; {name} {matches.score[row]:.2f}: {_lies_on(evaluation, image, row, box)}"
        whole = result.truth == "normal"
        faults.append((not whole, -matches.score[row], Fault(int(image), box, text, whole)))
    return [entry[-1] for entry in sorted(faults, key=lambda entry: entry[:2])]


def _best_score_on(matches: Matches) -> np.ndarray:
    """(G,) highest score of a detection of the class that overlaps a box by half, else 0."""
    best = np.zeros(matches.truth_class.shape)
    rows = np.flatnonzero((matches.truth >= 0) & (matches.iou >= 0.5))
    np.maximum.at(best, matches.truth[rows], matches.score[rows])
    return best


def _taken_for(evaluation: Evaluation, image: int, box: np.ndarray) -> str:
    found = evaluation.detections[image].above(evaluation.operating_point.threshold)
    overlap = box_iou(box[None], found.xyxy)[0]
    if not overlap.size or overlap.max() < evaluation.iou:
        return "nothing found on it"
    best = int(overlap.argmax())
    return f"taken for {found.label[best]} {found.score[best]:.2f}"


def _lies_on(evaluation: Evaluation, image: int, row: int, box: np.ndarray) -> str:
    labels, matches = evaluation.labels[image], evaluation.matches
    if matches.iou[row] >= evaluation.iou:
        return "a second hit on one box"
    overlap = box_iou(box[None], labels.xyxy)[0]
    if not overlap.size or overlap.max() == 0:
        return "nothing is labelled there"
    best = int(overlap.argmax())
    return f"IoU {overlap[best]:.2f} with a box of {labels.label[best]}"


def _card(
    evaluation: Evaluation, fault: Fault, read_image: ReadImage, wrong: str
) -> dict[str, Any]:
    result = evaluation.images[fault.image]
    decided = f"{result.truth} image, decided {result.decision} at score {result.score:.3f}"
    card: dict[str, Any] = {
        "file": result.image,
        "tag": wrong if fault.whole else "",
        "lines": [fault.text, decided],
    }
    try:
        rgb = read_image(result.image)
    except (InputError, OSError) as error:
        # One file that vanished since must not cost the whole report.
        return card | {"lines": [*card["lines"], f"The image cannot be read: {error}"]}
    boxes = _drawn_boxes(evaluation, fault.image)
    x1, y1, x2, y2 = (float(edge) for edge in fault.worst)
    # Three times the box, and enough around a tiny one to see what it lies on.
    side = min(max(3 * max(x2 - x1, y2 - y1), 64), max(rgb.shape[:2]))
    height, width = rgb.shape[:2]
    left = min(max(0, (x1 + x2 - side) / 2), max(0, width - side))
    top = min(max(0, (y1 + y2 - side) / 2), max(0, height - side))
    region = (left, top, left + side, top + side)
    # Where the detail is the whole image already, the other one shows it bare.
    covered = side >= 0.9 * max(height, width)
    plain = [DrawnBox(box.xyxy, box.colour, width=3) for box in boxes if not covered]
    # A card shows them at about half this size.
    crop = draw_view(rgb, boxes, region, longest=400, font_size=23)
    wide = lies_wide(rgb)
    whole = draw_view(rgb, plain, longest=800 if wide else 400)
    images = [("Detail", image_uri(crop)), ("Whole image", image_uri(whole))]
    return card | {"images": images, "wide": wide}


def _drawn_boxes(evaluation: Evaluation, image: int) -> list[DrawnBox]:
    labels, detections = evaluation.labels[image], evaluation.detections[image]
    matches, threshold = evaluation.matches, evaluation.operating_point.threshold
    missed = ~matches.found_at(threshold) & ~matches.difficult
    missed_here = set(matches.truth_index[missed & (matches.truth_image == image)].tolist())
    boxes = []
    for index, (xyxy, name) in enumerate(zip(labels.xyxy, labels.label, strict=True)):
        # A found box's name stands on its detection.
        absent = index in missed_here
        boxes.append(DrawnBox(xyxy, TRUTH, name if absent else "", 6 if absent else 3))
    here = (matches.detection_image == image) & (matches.score >= threshold)
    for row in np.flatnonzero(here)[::-1]:  # the highest score is drawn last, on top
        index = int(matches.detection_index[row])
        colour = WRONG if matches.outcome[row] == FALSE_POSITIVE else HIT
        text = f"{detections.label[index]} {matches.score[row]:.2f}"
        boxes.append(DrawnBox(detections.xyxy[index], colour, text, 4))
    return boxes


def _tiles(evaluation: Evaluation) -> list[dict[str, str]]:
    return [
        {
            "name": f"m{evaluation.ap_name} (VOC)",
            "value": number_text(evaluation.mean_ap, 4),
            "hint": f"mean over {sum(1 for e in evaluation.classes if e.boxes)} classes",
        },
        {
            "name": "COCO AP@[.5:.95]",
            "value": number_text(evaluation.coco.mean_ap),
            "hint": f"AP@.5 {number_text(evaluation.coco.mean_ap50)}, "
            f"AP@.75 {number_text(evaluation.coco.mean_ap75)}",
        },
    ]


def _images_table(evaluation: Evaluation) -> list[Sequence[object]]:
    columns = (*COLUMNS, "boxes", "found", "missed", "false_alarms", "labels")
    rows: list[Sequence[object]] = [columns]
    for entry in evaluation.images:
        row = {name: getattr(entry, name) for name in columns}
        row["score"], row["labels"] = f"{entry.score:.6f}", ";".join(entry.labels)
        rows.append(list(row.values()))
    return rows
