"""The page of an evaluation: figures, worst cases with what the model looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classification.cam.maps import Explainer
from classification.evaluation.figures import Measures
from classification.evaluation.measure import Evaluation
from classification.models.classifier import Prediction
from inspection.decisions.operating_point import percent
from inspection.errors import InputError
from inspection.files.writing import write_text_atomic
from inspection.report.heat import heat_overlay, thumbnail
from inspection.report.page import figure_png, image_uri, png_uri, rate_tile, render_page, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WORST = 24
_SIDE = 320
_TEMPLATE = Path(__file__).with_name("report.html.jinja")


def worst_cases(found: Evaluation) -> list[int]:
    """Wrong pictures: defects passed as normal first, then by the share of the true class."""
    normal = found.model.card.normal
    numbers = [
        index
        for index, (item, one) in enumerate(zip(found.scored.items, found.predictions, strict=True))
        if one.label != item.kind
    ]

    def rank(index: int) -> tuple[bool, float]:
        item, one = found.scored.items[index], found.predictions[index]
        escaped = normal is not None and item.kind != normal and one.label == normal
        return not escaped, one.probability[item.kind]

    return sorted(numbers, key=rank)


def write_report(found: Evaluation, folder: Path, method: str = "grad-cam") -> Path:
    """Writes `report.html`, self-contained.

    Args:
        found: What was measured.
        folder: Where to.
        method: Of the maps of the worst cases.

    Returns:
        The page's path.
    """
    measures, model = found.measures, found.model
    wrong = worst_cases(found)
    point = model.card.operating_point
    page = render_page(
        _TEMPLATE,
        title=f"{model.card.provenance.run or model.card.architecture}: {found.part} part",
        subtitle=f"{len(found.scored.items)} pictures, {model.card.architecture}, "
        f"epoch {model.card.provenance.epoch}",
        tiles=_tiles(found),
        notes=[f"Val part, on which the threshold was chosen: {n}" for n in point.notes]
        if point
        else (),
        rows=_rows(measures),
        figures=[
            ("Confusion matrix", png_uri(_confusion_png(measures, model.classes))),
            ("Calibration", png_uri(_calibration_png(measures))),
        ],
        cases=_cards(found, wrong[:_WORST], method),
        wrong=len(wrong),
        method=method,
        facts=_facts(found),
        versions=versions("tensorflow", "keras", "numpy", "albumentations"),
    )
    path = folder / "report.html"
    write_text_atomic(path, page)
    return path


def _tiles(found: Evaluation) -> list[dict[str, str]]:
    measures = found.measures
    low, high = measures.macro_f1_interval
    tiles = [
        {
            "name": "Macro F1",
            "value": f"{measures.macro_f1:.3f}",
            "hint": f"95 %: {low:.3f} to {high:.3f}",
        }
    ]
    rates = (("Miss", measures.miss), ("Overkill", measures.overkill), ("Review", measures.review))
    for name, rate in rates:
        if rate is not None:
            tiles.append({"name": name, **rate_tile(rate)})
    tiles.append(
        {
            "name": "Accuracy",
            "value": percent(measures.accuracy.value),
            "hint": "says little where one class is rare",
        }
    )
    tiles.append(
        {
            "name": "Calibration error",
            "value": f"{measures.calibration_error:.3f}",
            "hint": "mean distance of share and frequency (ECE)",
        }
    )
    return tiles


def _rows(measures: Measures) -> list[list[str]]:
    def rate(one: Any) -> str:
        if not one.total:
            return "–"
        low, high = one.interval
        return f"{one.value:.3f} ({low:.2f} to {high:.2f})"

    rows = []
    for one in measures.classes:
        low, high = one.f1_interval
        f1 = "–" if one.f1 != one.f1 else f"{one.f1:.3f} ({low:.2f} to {high:.2f})"
        rows.append([one.label, str(one.recall.total), rate(one.precision), rate(one.recall), f1])
    return rows


def _facts(found: Evaluation) -> dict[str, str]:
    card = found.model.card
    point = card.operating_point
    facts = {"model": str(found.model.path), "classes": ", ".join(card.classes)}
    facts |= card.preparation.facts()
    if point is not None:
        facts |= {
            "threshold": f"{point.threshold:.4g} on 1 - share of {card.normal}",
            "rule": point.rule,
            "on the val part": f"miss {point.miss}; overkill {point.overkill}",
        }
    facts["pictures"] = str(found.pictures.root)
    facts["milliseconds a picture"] = f"{found.ms:.0f}"
    return facts


def _cards(found: Evaluation, numbers: Sequence[int], method: str) -> list[dict[str, Any]]:
    """Each wrong picture with the map of the class it was taken for, and of its own."""
    model = found.model
    try:
        explainer = Explainer(model)
    except InputError:  # a model without a map still has a report
        explainer = None
    cards = []
    for number in numbers:
        item, one = found.scored.items[number], found.predictions[number]
        view = model.prepare(item.path)
        pictures = [("picture", image_uri(thumbnail(view.rgb, _SIDE)))]
        for name in (one.label, item.kind) if explainer else ():
            maps = explainer(view.rgb[None], model.classes.index(name), method)
            cam = explainer.place(maps.scaled(), view.rgb.shape[:2])[0]
            shown = thumbnail(heat_overlay(view.rgb, cam), _SIDE)
            pictures.append((f"why {name}?", image_uri(shown)))
        normal = model.card.normal
        cards.append(
            {
                "file": item.image,
                "pictures": pictures,
                "escape": normal is not None and item.kind != normal and one.label == normal,
                "text": f"is {item.kind} ({percent(one.probability[item.kind])}), taken for "
                f"{one.label} ({percent(one.probability[one.label])}){_because(found, one)}",
            }
        )
    return cards


def _because(found: Evaluation, one: Prediction) -> str:
    """Why the class is not the likeliest one: the threshold decides before the shares do."""
    point = found.model.card.operating_point
    if point is None or one.label == max(one.probability, key=one.probability.__getitem__):
        return ""
    side = "under" if one.label == found.model.card.normal else "at or over"
    return f": its score {one.score:.3f} is {side} the threshold {point.threshold:.3f}"


def _confusion_png(measures: Measures, classes: Sequence[str]) -> bytes:
    table = measures.confusion
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(table.shape):
            colour = "white" if share[row, column] > 0.55 else "#17202a"
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color=colour)
        names = [name.replace("$", r"\$") for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="decided", ylabel="truth", title="Confusion matrix")
        axes.tick_params(length=0)

    return figure_png(draw, 5.2, 4.0)


def _calibration_png(measures: Measures) -> bytes:
    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], ":", color="#8a97a3")
        shares, hits, counts = zip(*measures.calibration, strict=True)
        axes.plot(shares, hits, "o-", color="#1f5f99")
        for share, hit, count in zip(shares, hits, counts, strict=True):
            axes.annotate(str(count), (share, hit), (4, -10), textcoords="offset points")
        axes.set(xlim=(0, 1.03), ylim=(0, 1.05), xlabel="share of the likeliest class")
        axes.set(ylabel="how often it is right", title="Calibration (pictures at each point)")

    return figure_png(draw, 5.2, 4.0)
