"""Pictures in; a table and heat maps out; what cannot be read is told and the rest goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.models.decision import Decider
from anomaly.models.heat import overlay
from anomaly.settings import ROOM
from inspection.data.images import list_images, read_image, write_image
from inspection.errors import InputError
from inspection.files.listing import name_problems
from inspection.files.sheets import sheet_text
from inspection.files.writing import write_text_atomic
from inspection.finite import NotFinite
from inspection.prediction.folder import HEAT_MAPS, NOT_DECIDED, TABLE, Owner, Results, claimed
from inspection.report.heat import thumbnail

if TYPE_CHECKING:  # imports Keras, which exported models do without
    from anomaly.methods.fitting import Progress

_LONGEST = 1024


@dataclass(frozen=True)
class PredictResult:
    """What was decided.

    Args:
        table: `predictions.csv`.
        decisions: How many pictures are OK, review, NG and not decided.
        skipped: How many an earlier call had done.
        problems: One sentence for each file that could not be looked at.
    """

    table: Path
    decisions: Counter[str]
    skipped: int
    problems: tuple[str, ...]


def predict_files(
    model: Decider,
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    heat_maps: bool = True,
    restart: bool = False,
    owner: Owner | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> PredictResult:
    """Scores pictures and writes `predictions.csv` and, if wanted, heat maps beside them.

    Killed at any point and called again with the same owner, it goes on where it was; pictures
    that changed since are done again.

    Args:
        model: Trained or exported, with its operating point.
        paths: Picture files, and folders that are searched recursively.
        output: Folder of the results.
        heat_maps: Write a picture with its score map over it for each.
        restart: Do everything in `output` again, which another model asks for.
        owner: Whose results these are; where left out nothing can be gone on with.
        on_progress: Called after each picture.

    Raises:
        InputError: There is no picture at all, names are not UTF-8, `output` holds another
            model's results, or the model has no threshold; then nothing is scored.
    """
    if model.operating_point is None:
        raise InputError("the model holds no threshold; train it again, or set one in `simulate`")
    output, problems = Path(output), []
    listed = _listed(paths, output, problems)
    if not listed:
        raise InputError(problems or "no picture was given; name image files or folders")
    with claimed(output, owner or Owner(room=ROOM), restart) as results:
        return _predict(model, listed, results, heat_maps, problems, on_progress)


def _predict(
    model: Decider,
    listed: Sequence[Path],
    results: Results,
    heat_maps: bool,
    problems: list[str],
    on_progress: Progress,
) -> PredictResult:
    decisions: Counter[str] = Counter()
    taken = {name.removeprefix(f"{HEAT_MAPS}/").casefold() for name in results.pictures}
    skipped = 0
    for index, path in enumerate(listed):
        if known := results.known(path, drawn=heat_maps):
            skipped += 1
            decision = known.row[0]
        else:
            try:
                found = model.predict(path)
                shown = results.picture(path)
                if heat_maps:
                    rgb = read_image(path, model.preparation.bits)
                    picture = thumbnail(overlay(rgb, found.score_map, model.normal), _LONGEST)
                    shown = shown or f"{HEAT_MAPS}/{_free_name(path, taken)}"
                    write_image(results.folder / shown, picture)
            except InputError as error:
                problems += error.problems
                # Of a good image without a finite answer the part is a reject.
                decision = "NG" if isinstance(error, NotFinite) else NOT_DECIDED
                results.add(path, (decision, ""), done=False)
            else:
                decision = found.decision
                results.add(path, (decision, f"{found.score:.9g}"), shown)
        decisions[decision] += 1
        on_progress("looking at pictures", index + 1, len(listed))
    table = results.folder / TABLE
    write_text_atomic(table, sheet_text([("image", "decision", "score"), *results.rows]))
    return PredictResult(table, decisions, skipped, tuple(problems))


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
