"""The page of an evaluation: figures, worst cases with what the model looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classification.cam.maps import Explainer
from classification.evaluation.figures import Measures
from classification.evaluation.measure import Evaluation
from classification.models.classifier import Classifier, Prediction
from inspection.data.labelled import LabelledImage
from inspection.decisions.rates import percent
from inspection.errors import InputError
from inspection.report.drawing import heat_overlay, thumbnail
from inspection.report.evaluation import COLUMNS, write_evaluation
from inspection.report.figures import confusion_figure, confusion_size, plain, score_histogram
from inspection.report.page import figure_png, image_uri
from inspection.report.palette import FAINT, MAIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WORST = 24
_SIDE = 320
_ALIKE = ("miss", "overkill", "review", "accuracy")  # stand in every room's summary
_TEMPLATE = Path(__file__).with_name("report.html.jinja")


def worst_cases(found: Evaluation) -> list[int]:
    """Wrong images: defects passed as normal first, then by the share of the true class."""
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


def write_report(
    found: Evaluation, folder: Path, method: str = "grad-cam", command: str = ""
) -> Path:
    """Writes the evaluation's files.

    Args:
        found: What was measured.
        folder: Where to.
        method: Of the maps of the worst cases.
        command: That makes the same again.

    Returns:
        The page.
    """
    import keras

    measures, model, scored = found.measures, found.model, found.scored
    wrong = worst_cases(found)
    return write_evaluation(
        replace(found.summary, command=command),
        folder,
        _TEMPLATE,
        more={
            **{k: v for k, v in measures.to_dict().items() if k not in _ALIKE},
            "backend": keras.backend.backend(),
        },
        table=_table(found),
        tiles=_tiles(measures),
        figures=_figures(found),
        origin={
            "architecture": f"{model.card.architecture}, epoch {model.card.provenance.epoch}",
            "classes": ", ".join(model.card.classes),
            **model.card.preparation.facts(),
        },
        rows=_rows(measures),
        cases=_cards(found, wrong[:_WORST], method),
        wrong=len(wrong),
        method=method,
        score=f"1 - share of {model.card.normal}" if scored.normal is not None else "",
    )


def _table(found: Evaluation) -> list[list[str]]:
    classes = found.model.classes
    rows = [[*COLUMNS, "label", *classes]]
    for item, one in zip(found.scored.items, found.predictions, strict=True):
        shares = [f"{one.probability[name]:.6f}" for name in classes]
        score = "" if one.score != one.score else f"{one.score:.6f}"
        rows.append([item.image, item.kind, score, one.decision, one.label, *shares])
    return rows


def _figures(found: Evaluation) -> dict[str, bytes]:
    measures, scored, classes = found.measures, found.scored, found.model.classes
    drawn: dict[str, tuple[Callable[[Figure], None], tuple[float, float]]] = {
        "Confusion matrix": (
            lambda figure: confusion_figure(measures.confusion, classes, figure),
            confusion_size(len(classes)),
        ),
        "Calibration": (lambda figure: _draw_calibration(measures, figure), (5.6, 4.2)),
    }
    if scored.normal is not None:
        drawn["Image scores"] = (
            lambda figure: score_histogram(
                scored.score,
                scored.truth != scored.normal,
                found.summary.operating_point,
                figure,
                called=f"score: 1 - share of {plain(classes[scored.normal])}",
            ),
            (5.6, 4.2),
        )
    return {name: figure_png(draw, *size) for name, (draw, size) in drawn.items()}


def _tiles(measures: Measures) -> list[dict[str, str]]:
    low, high = measures.macro_f1_interval
    return [
        {
            "name": "Macro F1",
            "value": f"{measures.macro_f1:.3f}",
            "hint": f"95 %: {low:.3f} to {high:.3f}",
        },
        {
            "name": "Calibration error",
            "value": f"{measures.calibration_error:.3f}",
            "hint": "mean distance of share and frequency (ECE)",
        },
    ]


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


def _cards(found: Evaluation, numbers: Sequence[int], method: str) -> list[dict[str, Any]]:
    """Each wrong image with the map of the class it was taken for, and of its own."""
    model = found.model
    try:
        explainer = Explainer(model)
    except InputError:  # a model without a map still has a report
        explainer = None
    cards = []
    for number in numbers:
        item, one = found.scored.items[number], found.predictions[number]
        normal = model.card.normal
        escape = normal is not None and item.kind != normal and one.label == normal
        line = (
            f"is {item.kind} ({percent(one.probability[item.kind])}), taken for {one.label} "
            f"({percent(one.probability[one.label])}){_because(found, one)}"
        )
        cards.append(
            {
                "file": item.image,
                "captions": True,
                "tag": "escape" if escape else "",
                **_shown(model, item, one, explainer, method, line),
            }
        )
    return cards


def _shown(
    model: Classifier,
    item: LabelledImage,
    one: Prediction,
    explainer: Explainer | None,
    method: str,
    line: str,
) -> dict[str, Any]:
    try:
        rgb = model.prepare(item.path).rgb
    except InputError as error:  # one file that vanished since must not cost the page
        return {"lines": [line, str(error)]}
    images = [("image", image_uri(thumbnail(rgb, _SIDE)))]
    for name in (one.label, item.kind) if explainer else ():
        maps = explainer(rgb[None], model.classes.index(name), method)
        cam = explainer.place(maps.scaled(), rgb.shape[:2])[0]
        images.append((f"why {name}?", image_uri(thumbnail(heat_overlay(rgb, cam), _SIDE))))
    return {"images": images, "lines": [line]}


def _because(found: Evaluation, one: Prediction) -> str:
    """Why the class is not the likeliest one: the threshold decides before the shares do."""
    point = found.model.card.operating_point
    if point is None or one.label == max(one.probability, key=one.probability.__getitem__):
        return ""
    side = "under" if one.label == found.model.card.normal else "at or over"
    return f": its score {one.score:.3f} is {side} the threshold {point.threshold:.3f}"


def _draw_calibration(measures: Measures, figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], ":", color=FAINT)
    shares, hits, counts = zip(*measures.calibration, strict=True)
    axes.plot(shares, hits, "o-", color=MAIN)
    for share, hit, count in zip(shares, hits, counts, strict=True):
        axes.annotate(str(count), (share, hit), (4, -10), textcoords="offset points")
    axes.set(xlim=(0, 1.03), ylim=(0, 1.05), xlabel="share of the likeliest class")
    axes.set(ylabel="how often it is right", title="Calibration (images at each point)")
