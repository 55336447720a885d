"""Pictures in; a table and heat maps out; what cannot be read is told and the rest goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly.heat import overlay
from anomaly.methods.base import Progress, silent
from anomaly.model import AnomalyModel
from inspection.errors import InputError
from inspection.finite import NotFinite
from inspection.heat import thumbnail
from inspection.images import list_images, read_image, write_image
from inspection.listing import name_problems
from inspection.runs import write_text_atomic
from inspection.sheets import sheet_text

HEAT_MAPS = "heat_maps"
NOT_DECIDED = "not decided"
_LONGEST = 1024


@dataclass(frozen=True)
class PredictResult:
    """What was decided.

    Args:
        table: `predictions.csv`.
        decisions: How many pictures are OK, review, NG and not decided.
        problems: One sentence for each file that could not be looked at.
    """

    table: Path
    decisions: Counter[str]
    problems: tuple[str, ...]


def predict_files(
    model: AnomalyModel,
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    heat_maps: bool = True,
    on_progress: Progress = silent,
) -> PredictResult:
    """Scores pictures and writes `predictions.csv` and, if wanted, heat maps beside them.

    Args:
        model: With its operating point.
        paths: Picture files, and folders that are searched recursively.
        output: Folder of the results.
        heat_maps: Write a picture with its score map over it for each.
        on_progress: Called after each picture.

    Raises:
        InputError: There is no picture at all, names are not UTF-8, results stand there, or the
            model has no threshold; then nothing is scored.
    """
    if model.operating_point is None:
        raise InputError("the model holds no threshold; train it again, or set one in `simulate`")
    output, problems = Path(output), []
    table = output / "predictions.csv"
    if table.exists():
        raise InputError(f"{table}: is there already; give another --output, or remove that folder")
    listed = _listed(paths, output, problems)
    if not listed:
        raise InputError(problems or "no picture was given; name image files or folders")
    rows: list[tuple[str, str, str]] = []
    decisions: Counter[str] = Counter()
    taken: set[str] = set()
    for index, path in enumerate(listed):
        try:
            found = model.predict(path)
            if heat_maps:
                rgb = read_image(path, model.preparation.bits)
                picture = thumbnail(overlay(rgb, found.score_map, model.normal), _LONGEST)
                write_image(output / HEAT_MAPS / _free_name(path, taken), picture)
        except NotFinite as error:  # the image is good, the answer is not: a reject
            problems += error.problems
            decisions["NG"] += 1
            rows.append((str(path), "NG", ""))
        except InputError as error:
            problems += error.problems
            decisions[NOT_DECIDED] += 1
            rows.append((str(path), NOT_DECIDED, ""))
        else:
            decisions[found.decision] += 1
            rows.append((str(path), found.decision, f"{found.score:.9g}"))
        on_progress("looking at pictures", index + 1, len(listed))
    write_text_atomic(table, sheet_text([("image", "decision", "score"), *rows]))
    return PredictResult(table, decisions, tuple(problems))


def _listed(paths: Sequence[str | Path], output: Path, problems: list[str]) -> list[Path]:
    """Every picture once, in the order given; results of an earlier call are none."""
    found: dict[Path, None] = {}
    own = (output / HEAT_MAPS).resolve()
    names: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [p for p in list_images(path, names) if own not in p.resolve().parents]
            if not inside:
                problems.append(f"{path}: holds no picture; give a folder with pictures")
            found.update(dict.fromkeys(inside))
        else:
            found[path] = None
    if names := [*names, *name_problems(found)]:
        raise InputError(names)
    return list(found)


def _free_name(path: Path, taken: set[str]) -> str:
    """`<stem>.jpg`; where another picture has that name, with the folder's before it."""
    name, part = f"{path.stem}.jpg", path
    while name.casefold() in taken and part.parent.name:
        part = part.parent
        name = f"{part.name}_{name}"
    number = 2
    while name.casefold() in taken:
        name = f"{path.stem}_{number}.jpg"
        number += 1
    taken.add(name.casefold())
    return name
