"""Labels, anchors and augmented samples as images in one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.dataset import without_difficult
from detection.models.anchors import AnchorGrid, AnchorSettings, best_possible_recall
from detection.settings import TrainSettings
from detection.show.anchor_reach import Matched, Reach, match_image, reach_figures
from detection.training.batches import Batches, FittedImages
from detection.training.samples import class_colours, draw_sample
from detection.training.shown_boxes import ShownBoxes, find_shown_boxes
from inspection.data.boxes import ImageLabels
from inspection.data.images import read_image
from inspection.data.letterbox import Image8, fit_for
from inspection.decisions.rates import percent
from inspection.errors import InputError
from inspection.files.writing import write_text_atomic
from inspection.report.drawing import DrawnBox, draw_view
from inspection.report.page import image_uri, png_uri, render_page
from inspection.report.palette import HIT, LABELLED, TRUTH, WRONG, css

TEMPLATE = Path(__file__).with_name("page.html.jinja")


def show(
    labels: Sequence[ImageLabels],
    settings: TrainSettings,
    classes: Sequence[str],
    output: str | Path,
    limit: int = 12,
) -> Path:
    """Draws what a training would learn from, before hours are spent on it.

    Args:
        labels: The labelled images.
        settings: Images' folder, size, fit, bits, crop, augmentation, anchors and seed of the
            training.
        classes: Class names.
        output: The HTML file to write, atomically.
        limit: Images to draw; they are chosen so that every class and normal images come up.

    Returns:
        Path of the page.

    Raises:
        InputError: There is no image, a label's class is unknown, or no image can be read.
    """
    labels = list(labels)
    _check(labels, classes)
    shown = find_shown_boxes(labels, settings)
    anchors = shown.choose_anchors(settings.anchors)
    reach = Reach(shown, anchors, settings.seed)
    chosen = choose_images(labels, limit, settings.seed)
    artist = _Artist(labels, settings, classes, anchors)
    cards = [artist.card(index) for index in chosen]
    if cards and all(card is None for card in cards):
        raise InputError(list(dict.fromkeys(artist.problems)))
    page = render_page(
        TEMPLATE,
        title="Labels, anchors and augmented samples",
        subtitle=f"{settings.images} · {len(labels)} images · {datetime.now():%Y-%m-%d %H:%M}",
        notes=[*dict.fromkeys(artist.problems), *reach.notes],
        tiles=_tiles(labels, classes, shown, reach),
        rows=_class_rows([without_difficult(item) for item in labels], classes, shown, reach),
        figures=[(name, png_uri(png)) for name, png in reach_figures(reach)],
        colours=[(name, css(rgb)) for name, rgb in artist.colours.items()],
        cards=[card for card in cards if card is not None],
        sampled=(reach.images, len(shown.images)),
        images=len(labels),
        how=shown.how,
        settings=settings,
        anchors=anchors,
    )
    write_text_atomic(output, page)
    return Path(output)


def choose_images(labels: Sequence[ImageLabels], limit: int, seed: int = 0) -> list[int]:
    """Indices of at most `limit` images in which every class, and normal images, come up.

    One after the other, the image is taken whose rarest class was taken least so far.
    """
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    shown: Counter[str | None] = Counter()
    chosen: list[int] = []
    while order and len(chosen) < limit:
        best = min(order, key=lambda index: min(shown[kind] for kind in _kinds(labels[index])))
        order.remove(best)
        chosen.append(best)
        shown.update(_kinds(labels[best]))
    return chosen


def _kinds(item: ImageLabels) -> set[str | None]:
    return set(item.label) or {None}


def _check(labels: Sequence[ImageLabels], classes: Sequence[str]) -> None:
    if not labels:
        raise InputError("there is no labelled image to show; label some, or add normal images.")
    unknown = Counter(name for item in labels for name in item.label if name not in classes)
    if unknown:
        raise InputError(
            [
                f"the class {name!r} of {count} boxes is not among {', '.join(classes) or 'none'}; "
                "correct the labels or the list of classes."
                for name, count in unknown.items()
            ]
        )


class _Artist:
    """Draws the images of one image's card."""

    def __init__(
        self,
        labels: Sequence[ImageLabels],
        settings: TrainSettings,
        classes: Sequence[str],
        anchors: AnchorSettings,
    ) -> None:
        self.problems: list[str] = []
        self.colours = class_colours(classes)
        self._labels, self._images_dir, self._settings = labels, settings.images, settings
        self._classes, self._anchors, self._seed = tuple(classes), anchors, settings.seed
        self._grid = AnchorGrid(anchors, settings.size, settings.size)
        images = FittedImages(
            labels, settings.images, classes, settings.size, settings.fit, settings.bits
        )
        self._batches = Batches(
            images,
            anchors,
            settings.batch_size or 1,
            settings.crop,
            settings.augment,
            settings.seed,
        )

    def card(self, index: int) -> dict[str, Any] | None:
        """Values for the template; None and a problem where the image cannot be read."""
        item = self._labels[index]
        try:
            rgb = read_image(self._images_dir / item.image, self._settings.bits)
            samples = [self._sample(index, turn) for turn in range(2)]
        except InputError as error:
            self.problems.extend(error.problems)
            return None
        height, width = rgb.shape[:2]
        return {
            "file": item.image,
            "text": f"{width} x {height} px, {_counted(item.label)}",
            "annotated": image_uri(draw_view(rgb, self._annotations(item), None, 720, 21)),
            "samples": samples,
            **self._anchored(rgb, item),
        }

    def _annotations(self, item: ImageLabels) -> list[DrawnBox]:
        flags = zip(item.xyxy, item.label, item.difficult, strict=True)
        return [
            DrawnBox(box, self.colours[name], f"{name} (difficult)" if hard else name, 4)
            for box, name, hard in flags
        ]

    def _anchored(self, rgb: Image8, item: ImageLabels) -> dict[str, Any]:
        """The fitted image with its positive anchors, whole and around the hardest box."""
        size = self._settings.size
        fit = fit_for(rgb.shape[1], rgb.shape[0], size, self._settings.fit)
        fitted, boxes = fit.apply(rgb), fit.to_fitted(item.xyxy)
        if not len(boxes):
            text = "Normal image: every anchor is background."
            return {"anchors": image_uri(fitted_view(fitted)), "detail": None, "matched": text}
        matched = match_image(self._grid, boxes)
        drawn = _drawn_anchors(boxes, matched)
        best = np.zeros(len(boxes))
        np.maximum.at(best, matched.box, matched.iou)
        x1, y1, x2, y2 = boxes[best.argmin()].tolist()
        side = min(max(2.5 * max(x2 - x1, y2 - y1), 48), size)
        left, top = (min(max(0, (a + b - side) / 2), size - side) for a, b in ((x1, x2), (y1, y2)))
        region = (left, top, left + side, top + side)
        # Thinner in the whole image, where a small box's anchors lie close together.
        plain = [DrawnBox(box.xyxy, box.colour, width=max(1, box.width - 1)) for box in drawn]
        return {
            "anchors": image_uri(fitted_view(fitted, plain)),
            "detail": image_uri(draw_view(fitted, drawn, region, 560, 21)),
            "matched": _matched_text(matched),
        }

    def _sample(self, index: int, turn: int) -> str:
        """An augmented sample; the first one is around a box where there are crops."""
        windows = [window for window in self._batches.windows if window.image == index]
        around = [window for window in windows if window.box >= 0]
        windows = around if around and not turn else windows
        window = windows[
            int(np.random.default_rng([self._seed, index, turn]).integers(len(windows)))
        ]
        sample = self._batches.sample(window, 2 * index + turn)
        return image_uri(draw_sample(sample, self._classes, self._anchors))


def fitted_view(fitted: Image8, boxes: Sequence[DrawnBox] = ()) -> Image8:
    """A whole fitted image at the page's size."""
    return draw_view(fitted, boxes, longest=720, font_size=21)


def _drawn_anchors(boxes: np.ndarray, matched: Matched) -> list[DrawnBox]:
    forced = matched.count == 0
    width = 2 if len(matched.anchors) <= 60 else 1  # a large box alone may have a hundred
    drawn = [
        DrawnBox(anchor, HIT if forced[box] else TRUTH, width=width)
        for anchor, box in zip(matched.anchors, matched.box, strict=True)
    ]
    for index, box in enumerate(boxes):
        if forced[index]:
            iou = matched.iou[matched.box == index].max()
            drawn.append(DrawnBox(box, WRONG, f"best IoU {iou:.2f}", 4))
        else:
            drawn.append(DrawnBox(box, LABELLED, width=3))
    return drawn


def _matched_text(matched: Matched) -> str:
    reached = matched.count[matched.count > 0]
    parts = []
    if len(reached):
        low, high = reached.min(), reached.max()
        span = f"{low} to {high}" if low < high else str(low)
        each = " each" if len(reached) > 1 else ""
        boxes = _plural(len(reached), "box", "boxes")
        parts.append(f"{boxes} reached by {span} anchors{each}")
    if forced := int((matched.count == 0).sum()):
        parts.append(f"{_plural(forced, 'box', 'boxes')} only by a forced match")
    return "; ".join(parts)


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _counted(label: Sequence[str]) -> str:
    counts = Counter(label)
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "normal"


def _tiles(
    labels: Sequence[ImageLabels], classes: Sequence[str], shown: ShownBoxes, reach: Reach
) -> list[dict[str, str]]:
    normal = sum(item.is_normal for item in labels)
    recall, paper, median, forced = "-", "-", "-", "-"
    if len(reach.boxes):
        recall, paper = percent(reach.recall), percent(reach.paper_recall)
    if len(reach.count):
        median = f"{np.median(reach.count):g}"
        forced = percent(float((reach.count == 0).mean()))
    kinds = _plural(len(classes), "class", "classes")
    tiles = (
        ("Images", str(len(labels)), f"{normal} of them normal"),
        ("Boxes", str(sum(map(len, labels))), kinds),
        ("Best possible recall", recall, f"at IoU .5, {shown.how}; the paper's anchors: {paper}"),
        ("Anchors per box", median, "median, at IoU .5 and over"),
        ("Only by force", forced, "of boxes; no anchor answers at IoU .5"),
    )
    return [{"name": name, "value": value, "hint": hint} for name, value, hint in tiles]


def _class_rows(
    labels: Sequence[ImageLabels], classes: Sequence[str], shown: ShownBoxes, reach: Reach
) -> list[list[str]]:
    names = np.array([name for item in labels for name in item.label], dtype=object)
    shown_names = np.array([name for entry in shown.names for name in entry], dtype=object)
    rows = []
    for name in classes:
        here = names == name
        images = sum(name in item.label for item in labels)
        if not here.any():
            rows.append([name, "0", "0", *["-"] * 4])
            continue
        side = shown.labelled[here, 2:] - shown.labelled[here, :2]
        iou = reach.iou[shown_names == name]
        low, high = (
            f"{value:.0f}" for value in np.quantile(np.sqrt(side.prod(axis=1)), (0.05, 0.95))
        )
        width, height = (f"{value:.0f}" for value in np.median(side, axis=0))
        rows.append(
            [
                *(
                    name,
                    str(images),
                    str(int(here.sum())),
                    f"{width} x {height}",
                    f"{low} to {high}",
                ),
                percent(best_possible_recall(iou)) if len(iou) else "-",
                f"{iou.mean():.2f}" if len(iou) else "-",
            ]
        )
    return rows
