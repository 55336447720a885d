"""What an evaluation leaves behind in every room: `evaluation.json`, `evaluation.html`, a table."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.data.split import PARTS
from inspection.decisions.rates import Rate, grouped_interval, percent
from inspection.files.sheets import sheet_text
from inspection.files.writing import write_json_atomic, write_text_atomic
from inspection.report.page import (
    number_text,
    png_uri,
    point_facts,
    rate_tile,
    render_page,
    versions,
)

if TYPE_CHECKING:
    from inspection.decisions.operating_point import OperatingPoint

RECORD, PAGE, IMAGES = "evaluation.json", "evaluation.html", "images.csv"
COLUMNS = ("image", "truth", "score", "decision")
"""What the table of images begins with in every room."""

_USUAL = ("best", "model")
_PACKAGES = (
    *("tensorflow", "tensorflow-cpu", "keras", "keras-cv", "numpy", "scikit-learn"),
    *("albumentations", "pycocotools", "faster-coco-eval"),
)


def evaluation_folder(model: Path, part: str) -> Path:
    """Where the results of a part go: beside the model.

    Args:
        model: The model's file. The results of another one than a run's best bear its name.
        part: Of the split, or `all`.
    """
    own = "" if model.stem in _USUAL else f"_{model.stem}"
    return model.parent / f"evaluation_{part}{own}"


def forget_evaluations(model: Path, earlier: Sequence[str] = ()) -> None:
    """Removes what evaluations of a model that stood in a place before left beside it.

    Args:
        model: The place of the model's file.
        earlier: Names of files that an earlier program's evaluations wrote beside it.
    """
    for folder in (evaluation_folder(model, part) for part in (*PARTS, "all")):
        for name in (RECORD, IMAGES, PAGE):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds something else
            folder.rmdir()
    for name in earlier:
        model.with_name(name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is reported alike of a model in every room.

    Args:
        room: The package whose model it is.
        run: Name of the run; empty where it is not known.
        model: The model's file.
        model_hash: SHA-256 of what was measured; empty where there is no file.
        part: Of the split, or `all`.
        images: How many were measured.
        miss: Defects decided OK; None where no class is the normal one.
        overkill: Normal images decided NG; None likewise.
        accuracy: Decided rightly among those decided.
        review: What goes to review; None without a review band.
        miss_by_group: 95 % interval over groups of images of one part; None without groups.
        overkill_by_group: The same of overkill.
        auroc: Of the images' scores; NaN where there are not both kinds.
        operating_point: Where it was decided; None where the model holds none.
        ms: Milliseconds for an image, from the file to the decision: the mean over all, at as
            many images in a pass as the room takes here (detection by its batch size).
        data: Where the images lie.
        data_hash: Of what was measured.
        notes: What a reader must know.
        command: That makes the same again.
    """

    room: str
    run: str
    model: Path
    model_hash: str
    part: str
    images: int
    miss: Rate | None
    overkill: Rate | None
    accuracy: Rate
    review: Rate | None
    miss_by_group: tuple[float, float] | None = None
    overkill_by_group: tuple[float, float] | None = None
    auroc: float
    operating_point: OperatingPoint | None
    ms: float
    data: str
    data_hash: str
    notes: Sequence[str] = ()
    command: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, with the names that every room has."""
        point = self.operating_point
        return {
            "room": self.room,
            "run": self.run,
            "part": self.part,
            "images": self.images,
            "miss": _rate(self.miss),
            "overkill": _rate(self.overkill),
            "accuracy": _rate(self.accuracy),
            "review": _rate(self.review),
            "miss_by_group_95": self.miss_by_group,
            "overkill_by_group_95": self.overkill_by_group,
            "auroc": self.auroc,
            "threshold": point and point.threshold,
            "review_threshold": point and point.review_threshold,
            "operating_point": point and point.to_dict(),
            "ms_per_image": self.ms,
            "model": str(self.model.resolve()) if self.model_hash else "",
            "model_hash": self.model_hash,
            "data": self.data,
            "data_hash": self.data_hash,
            "notes": list(self.notes),
            "command": self.command,
        }

    def rate_lines(self) -> dict[str, str]:
        """The decisions in words, each with its interval."""
        lines = {}
        if self.operating_point is not None:
            point = self.operating_point
            lines["threshold"] = f"{point.threshold:.4g} ({point.rule})"
        for name, rate, by_group in (
            ("miss rate", self.miss, self.miss_by_group),
            ("overkill rate", self.overkill, self.overkill_by_group),
            ("accuracy", self.accuracy, None),
            ("review load", self.review, None),
        ):
            if rate is not None:
                lines[name] = f"{rate}{_over_groups(rate, by_group)}"
        return lines | {"AUROC over images": number_text(self.auroc, 4, "not measurable")}


def write_evaluation(
    summary: Summary,
    folder: Path,
    template: Path,
    *,
    more: Mapping[str, Any],
    table: Sequence[Sequence[object]],
    tiles: Sequence[Mapping[str, str]] = (),
    figures: Mapping[str, bytes] | None = None,
    origin: Mapping[str, object] | None = None,
    rates: Mapping[str, str] | None = None,
    **values: Any,
) -> Path:
    """Writes an evaluation's three files; the JSON comes last and says that all are there.

    Args:
        summary: What every room tells.
        folder: Made where missing.
        template: Of the room; extends `evaluation.html.jinja`.
        more: The room's own figures in the JSON.
        table: Header and rows of the table of images; begins with `COLUMNS`.
        tiles: The room's own tiles before miss and overkill.
        figures: Title to PNG.
        origin: The room's own lines of where it came from.
        rates: The room's own lines of decisions.
        **values: What the room's template names.

    Returns:
        The page.
    """
    record = summary.to_dict()
    now = datetime.now().astimezone()
    used = versions(*_PACKAGES)
    page = render_page(
        template,
        title=f"{summary.run or summary.model.stem or summary.room}: {_part_name(summary.part)}",
        subtitle=f"{summary.room} · {summary.images} images · {now:%Y-%m-%d %H:%M}",
        tiles=[*tiles, *_tiles(summary)],
        notes=list(summary.notes),
        figures=[(name, png_uri(png)) for name, png in (figures or {}).items()],
        rates={**summary.rate_lines(), **(rates or {})},
        point=summary.operating_point and point_facts(summary.operating_point),
        origin={
            name: text
            for name, text in {
                "run": summary.run,
                "model": record["model"],
                "model's SHA-256": record["model_hash"],
                "images": summary.data,
                "hash of what was measured": summary.data_hash,
                **{name: _text(value) for name, value in (origin or {}).items()},
                "made again by": summary.command,
            }.items()
            if text
        },
        versions=used,
        **values,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # an old one would speak for a new table
    write_text_atomic(folder / IMAGES, sheet_text(table))
    write_text_atomic(folder / PAGE, page)
    date = now.isoformat(timespec="seconds")
    write_json_atomic(folder / RECORD, {**record, **more, "versions": used, "date": date})
    return folder / PAGE


def group_interval(
    wrong: np.ndarray, among: np.ndarray, images: Sequence[str], groups: Mapping[str, str] | None
) -> tuple[float, float] | None:
    """95 % interval of a rate over groups of images; None where every image is its own group.

    Args:
        wrong: (N,) bool.
        among: (N,) bool, what counts.
        images: N names.
        groups: Name to group; an image it does not hold is a group of its own.
    """
    names = [groups.get(image, image) for image in images] if groups else []
    if not names or not among.any() or len(set(names)) == len(names):
        return None
    own = [name for name, counts in zip(names, among, strict=True) if counts]
    return grouped_interval(wrong[among], own)


def _tiles(summary: Summary) -> list[dict[str, str]]:
    tiles = [
        {"name": name, **rate_tile(rate)}
        for name, rate in (
            ("Miss rate", summary.miss),
            ("Overkill rate", summary.overkill),
            ("Review load", summary.review),
            ("Accuracy", summary.accuracy),
        )
        if rate is not None
    ]
    if summary.auroc == summary.auroc:
        tiles.append({"name": "AUROC", "value": f"{summary.auroc:.3f}", "hint": "over images"})
    if summary.ms == summary.ms:
        hint = "an image, from the file to the decision"
        tiles.append({"name": "Time", "value": f"{summary.ms:.0f} ms", "hint": hint})
    return tiles


def _part_name(part: str) -> str:
    return "all images" if part == "all" else f"{part} part"


def _rate(rate: Rate | None) -> dict[str, Any] | None:
    return None if rate is None else rate.to_dict()


def _over_groups(rate: Rate, interval: tuple[float, float] | None) -> str:
    if interval is None or not rate.total:
        return ""
    low, high = interval
    span = f"at most {percent(high)}" if low == 0 else f"{percent(low)} to {percent(high)}"
    return f"; over whole parts {span}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return "–" if value is None else str(value)
