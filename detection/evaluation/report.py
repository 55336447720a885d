"""An evaluation on the terminal, as files, and as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from detection.evaluation.average_precision import FALSE_POSITIVE, Matches
from detection.evaluation.figures import confusion_figure, pr_figure, score_figure
from detection.evaluation.result import Evaluation
from inspection.data.boxes import box_iou
from inspection.decisions.rates import Rate, escape_ppm, percent
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.files.writing import write_json_atomic, write_text_atomic
from inspection.report.page import (
    GREEN,
    ORANGE,
    RED,
    DrawnBox,
    draw_view,
    figure_png,
    image_uri,
    lies_wide,
    png_uri,
    point_facts,
    rate_tile,
    render_page,
    versions,
    write_bytes,
)

CARDS = 24
PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "keras-cv",
    "numpy",
    "pycocotools",
    "faster-coco-eval",
)
TEMPLATE = Path(__file__).with_name("report.html.jinja")
ReadImage = Callable[[str], np.ndarray]


def print_tables(evaluation: Evaluation, console: Any) -> None:
    """See `detection.evaluation.measure.print_evaluation`."""
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
    say(f"mAP: {figure_text(evaluation.mean_ap, 4, 'not measurable (no boxes)')}", "bold")
    say("")
    for name, value in rate_lines(evaluation):
        say(f"{name}: {value}")
    for note in evaluation.notes:
        say(f"Note: {note}", "yellow")


def write_report(
    evaluation: Evaluation, folder: Path, read_image: ReadImage, settings: dict[str, Any]
) -> Path:
    """See `detection.evaluation.measure.write_evaluation`."""
    found_versions = versions(*PACKAGES)
    record = {**evaluation.to_dict(), "settings": settings, "versions": found_versions}
    write_json_atomic(folder / "metrics.json", record)
    _write_images_csv(evaluation, folder / "images.csv")
    kinds = len(evaluation.classes) + 1
    side = min(12.0, max(4.2, 1.4 + 0.4 * kinds))
    figures = {
        "pr_curves.png": figure_png(lambda figure: pr_figure(evaluation, figure), 5.6, 4.2),
        "score_histogram.png": figure_png(
            lambda figure: score_figure(evaluation, figure), 5.6, 4.2
        ),
        "confusion_matrix.png": figure_png(
            lambda figure: confusion_figure(evaluation, figure), max(5.6, 1.2 * side), side
        ),
    }
    for name, png in figures.items():
        write_bytes(folder / name, png)
    misses, alarms = worst_misses(evaluation), worst_false_alarms(evaluation)
    page = render_page(
        TEMPLATE,
        title=str(settings.get("title", "Detection report")),
        subtitle=_subtitle(evaluation, settings),
        evaluation=evaluation,
        tiles=_tiles(evaluation),
        rows=table_rows(evaluation),
        rates=dict(rate_lines(evaluation)),
        figures=[(name, png_uri(png)) for name, png in figures.items()],
        misses=[_card(evaluation, fault, read_image) for fault in misses[:CARDS]],
        alarms=[_card(evaluation, fault, read_image) for fault in alarms[:CARDS]],
        miss_images=len(misses),
        alarm_images=len(alarms),
        point_facts=point_facts(evaluation.operating_point)
        | {"data of this report": evaluation.data_hash},
        settings={key: _setting_text(value) for key, value in settings.items()},
        versions=found_versions,
    )
    path = folder / "report.html"
    write_text_atomic(path, page)
    return path


def figure_text(value: float, decimals: int = 3, missing: str = "-") -> str:
    """A figure, or `missing` for NaN."""
    return missing if math.isnan(value) else f"{value:.{decimals}f}"


def table_rows(evaluation: Evaluation) -> list[list[str]]:
    """The table's cells, a row per class and one of means (unweighted, where measurable)."""
    rows, figures = [], []
    for entry in evaluation.classes:
        values = [entry.ap, entry.coco_ap50, entry.coco_ap75, entry.coco_ap]
        values += [entry.precision, entry.recall, entry.f1]
        rows.append([entry.label, str(entry.images), str(entry.boxes), *map(figure_text, values)])
        if entry.boxes:
            figures.append(values)
    columns = np.array(figures, float).reshape(-1, 7)
    means = [column[~np.isnan(column)] for column in columns.T]
    means = [figure_text(float(column.mean()) if column.size else math.nan) for column in means]
    boxes = sum(entry.boxes for entry in evaluation.classes)
    return [*rows, ["mean", str(len(evaluation.images)), str(boxes), *means]]


def rate_lines(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Image-level figures in words, each with its interval."""
    point = evaluation.operating_point
    lines = [
        ("threshold", f"{point.threshold:.4f} ({point.rule})"),
        ("miss rate", _with_parts(evaluation.miss, evaluation.miss_by_part)),
        ("overkill rate", _with_parts(evaluation.overkill, evaluation.overkill_by_part)),
        ("accuracy", str(evaluation.accuracy)),
    ]
    if evaluation.review is not None:
        lines.append(("review load", str(evaluation.review)))
    if evaluation.prevalence is not None and evaluation.miss.total:
        estimate, bound = escape_ppm(evaluation.miss, evaluation.prevalence)
        text = f"at most {bound:.0f} PPM (one-sided 95 %) at {percent(evaluation.prevalence)}"
        if evaluation.miss.count:
            text = f"{estimate:.0f} PPM, {text}"
        lines.append(("escapes", f"{text} defective parts"))
    return lines


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


def _card(evaluation: Evaluation, fault: Fault, read_image: ReadImage) -> dict[str, Any]:
    result = evaluation.images[fault.image]
    card: dict[str, Any] = {
        "file": result.image,
        "text": fault.text,
        "whole": fault.whole,
        "decision": result.decision,
        "truth": result.truth,
        "score": f"{result.score:.3f}",
        "crop": None,
        "wide": False,
        "problem": "",
    }
    try:
        rgb = read_image(result.image)
    except (InputError, OSError) as error:
        # One file that vanished since must not cost the whole report.
        card["problem"] = f"The picture cannot be read: {error}"
        return card
    boxes = _drawn_boxes(evaluation, fault.image)
    x1, y1, x2, y2 = (float(edge) for edge in fault.worst)
    # Three times the box, and enough around a tiny one to see what it lies on.
    side = min(max(3 * max(x2 - x1, y2 - y1), 64), max(rgb.shape[:2]))
    height, width = rgb.shape[:2]
    left = min(max(0, (x1 + x2 - side) / 2), max(0, width - side))
    top = min(max(0, (y1 + y2 - side) / 2), max(0, height - side))
    region = (left, top, left + side, top + side)
    # Where the detail is the whole picture already, the other one shows it bare.
    covered = side >= 0.9 * max(height, width)
    plain = [DrawnBox(box.xyxy, box.colour, width=3) for box in boxes if not covered]
    # A card shows them at about half this size.
    card["crop"] = image_uri(draw_view(rgb, boxes, region, longest=400, font_size=23))
    card["wide"] = lies_wide(rgb)
    card["whole_picture"] = image_uri(draw_view(rgb, plain, longest=800 if card["wide"] else 400))
    return card


def _drawn_boxes(evaluation: Evaluation, image: int) -> list[DrawnBox]:
    labels, detections = evaluation.labels[image], evaluation.detections[image]
    matches, threshold = evaluation.matches, evaluation.operating_point.threshold
    missed = ~matches.found_at(threshold) & ~matches.difficult
    missed_here = set(matches.truth_index[missed & (matches.truth_image == image)].tolist())
    boxes = []
    for index, (xyxy, name) in enumerate(zip(labels.xyxy, labels.label, strict=True)):
        # A found box's name stands on its detection.
        absent = index in missed_here
        boxes.append(DrawnBox(xyxy, GREEN, name if absent else "", 6 if absent else 3))
    here = (matches.detection_image == image) & (matches.score >= threshold)
    for row in np.flatnonzero(here)[::-1]:  # the highest score is drawn last, on top
        index = int(matches.detection_index[row])
        colour = RED if matches.outcome[row] == FALSE_POSITIVE else ORANGE
        text = f"{detections.label[index]} {matches.score[row]:.2f}"
        boxes.append(DrawnBox(detections.xyxy[index], colour, text, 4))
    return boxes


def _tiles(evaluation: Evaluation) -> list[dict[str, str]]:
    point = evaluation.operating_point
    return [
        {
            "name": f"m{evaluation.ap_name} (VOC)",
            "value": figure_text(evaluation.mean_ap, 4),
            "hint": f"mean over {sum(1 for e in evaluation.classes if e.boxes)} classes",
        },
        {
            "name": "COCO AP@[.5:.95]",
            "value": figure_text(evaluation.coco.mean_ap),
            "hint": f"AP@.5 {figure_text(evaluation.coco.mean_ap50)}, "
            f"AP@.75 {figure_text(evaluation.coco.mean_ap75)}",
        },
        {"name": "Miss rate", **rate_tile(evaluation.miss)},
        {"name": "Overkill rate", **rate_tile(evaluation.overkill)},
        {"name": "Threshold", "value": f"{point.threshold:.3f}", "hint": point.rule},
    ]


def _subtitle(evaluation: Evaluation, settings: dict[str, Any]) -> str:
    known = [str(settings[key]) for key in ("snapshot", "model", "split") if settings.get(key)]
    counted = f"{len(evaluation.images)} images"
    return " · ".join([*known, counted, datetime.now().strftime("%Y-%m-%d %H:%M")])


def _setting_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_setting_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting_text, value))
    return "-" if value is None else str(value)


def _with_parts(rate: Rate, by_part: Sequence[float] | None) -> str:
    if by_part is None or not rate.total:
        return str(rate)
    low, high = by_part
    span = f"at most {percent(high)}" if low == 0 else f"{percent(low)} to {percent(high)}"
    return f"{rate}; over whole parts {span}"


def _write_images_csv(evaluation: Evaluation, path: Path) -> None:
    columns = ("image", "truth", "score", "decision", "boxes", "found", "missed")
    columns = (*columns, "false_alarms", "labels")
    rows: list[Sequence[object]] = [columns]
    for entry in evaluation.images:
        row = {name: getattr(entry, name) for name in columns}
        row["score"], row["labels"] = f"{entry.score:.6f}", ";".join(entry.labels)
        rows.append(list(row.values()))
    write_text_atomic(path, sheet_text(rows))
