"""A run: the files of its folder, its name, its record, its own split, and going on with it.

Nothing here needs Keras, so that a verb can look at a run before it imports anything slow.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from inspection.cli.commands import command_line
from inspection.data.split import Split, load_split, save_split
from inspection.errors import InputError
from inspection.files.locks import locked
from inspection.files.records import Finite, read_json
from inspection.files.writing import copy_atomic, write_json_atomic
from inspection.settings import read_settings, read_yaml, save_settings
from inspection.training.contents import write_contents

SETTINGS = "settings.yaml"
"""The complete settings, from which a run is gone on with."""
RECORD = "record.json"
"""What made the run: settings, versions, hashes of data and split."""
RUN_SPLIT = "split.csv"
"""The run's own copy of the split that it was trained with."""
STATE, BEST = "state.json", "best.keras"
"""How far a training in epochs has come, and the model of its best epoch."""
MODEL = "model.anomaly"
"""The model of a training that is not one of epochs; it is written last."""
LOG, CURVES = "log.csv", "curves.png"
"""The figures of every epoch."""
RUN_LOCK = "run.lock"

_KEPT = (STATE, BEST, MODEL)
# Beside what a room names: how long the run is, and which snapshots stay.
_CHANGED = ("epochs", "keep")
# By which a text is known to name a file: a table of groups, weights.
_FILES = (".csv", ".h5", ".keras")

_Settings = TypeVar("_Settings", bound=BaseModel)


class RunRecord(BaseModel):
    """What a later call asks of `record.json`.

    Args:
        id: Of this run alone, whatever its folder is called; None in records before it.
        settings: The run's complete settings.
        data_hash: Of what it was trained on.
        split_hash: Of the split.
        split_before: Of the split that it takes the place of, should its writing be cut short.
        validated_on: The images that epochs were measured on, where they are part of val.
        minutes: That training took, where it is told.
    """

    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None
    settings: dict[str, Any] = {}
    data_hash: str | None = None
    split_hash: str | None = None
    split_before: str | None = None
    validated_on: list[str] | None = None
    minutes: Finite | None = None


def read_record(folder: Path) -> RunRecord:
    """The record of a run; an empty one where there is none.

    Raises:
        InputError: It is damaged.
    """
    try:
        return read_json(folder / RECORD, RunRecord, "remove it to go on without it")
    except FileNotFoundError:
        return RunRecord()


def begin_record(folder: Path, settings: BaseModel, split: Split, split_path: Path) -> None:
    """Writes what a run can be gone on with from its start: its settings and its own split."""
    save_settings(settings, folder / SETTINGS)
    path = folder / RUN_SPLIT
    if split_path != path:
        copy_atomic(split_path, path)
    elif load_split(path).hash != split.hash:  # images have joined
        save_split(split, path)


def write_record(
    folder: Path,
    settings: BaseModel,
    split: Split,
    split_path: Path,
    *,
    run_id: str | None,
    data_hash: str,
    packages: Sequence[str],
    files: Mapping[str, Path],
    hashes: Mapping[str, str] | None = None,
    more: Mapping[str, Any],
) -> None:
    """Writes what made a run: settings, its copy of the split, its images' contents, the record.

    Of a run that goes on, the contents that it has learnt stay.

    Args:
        folder: The run's.
        settings: Complete.
        split: Which image stands in which part.
        split_path: Where it is stored; the run's own, which it may extend, where a run goes on.
        run_id: Of this run alone.
        data_hash: Of images and labels.
        packages: Whose versions decide the result.
        files: Every image and its file.
        hashes: As for `write_contents`.
        more: What the room has to add.

    Raises:
        InputError: What the run knows of its images is damaged.
    """
    import keras

    from inspection.report.page import versions  # which imports NumPy; the command line does not

    learnt = is_taken(folder)
    write_contents(folder, files, hashes, split if learnt else None)
    before = load_split(folder / RUN_SPLIT).hash if learnt and own_split(folder) else None
    values = settings.model_dump(mode="json")
    record = {
        "id": run_id,
        "settings": values,
        "versions": versions(*packages),
        "backend": keras.backend.backend(),
        "data_hash": data_hash,
        "split_hash": split.hash,
        "split_before": before if before != split.hash else None,
        "images": split.parts,
        "seed": values["seed"],
    }
    write_json_atomic(folder / RECORD, record | dict(more))
    begin_record(folder, settings, split, split_path)


def model_file(path: str | Path, name: str) -> Path:
    """A model's file: the path itself, or that of a run's folder, which may not be there yet.

    Args:
        path: A file, or a run's folder.
        name: Of the model in a run's folder: `BEST` or `MODEL`.
    """
    path = Path(path)
    return path / name if path.is_dir() else path


def folder_of(run: Path) -> Path:
    """A run's folder, which may be named by its model."""
    return run.parent if run.is_file() else run


def own_split(run: Path) -> Path | None:
    """Where a run keeps its own copy of its split; None where it has none yet.

    Raises:
        InputError: It is not the split that the run was trained with, or damaged.
    """
    path = run / RUN_SPLIT
    if not path.is_file():
        return None
    record = read_record(run)
    if record.split_hash and load_split(path).hash not in (record.split_hash, record.split_before):
        raise InputError(
            f"{path}: has changed since the run was trained, so that nobody can tell what it has "
            f"learnt; bring back the {RUN_SPLIT} of the training"
        )
    return path


def is_taken(folder: Path) -> bool:
    """Whether a training has saved anything in a folder yet."""
    return any((folder / kept).exists() for kept in _KEPT)


def taken_problems(runs: Path, name: str | None) -> list[str]:
    """A sentence where a new run may not have a name, because a run of any room has it.

    A folder in which no training has saved anything yet is free.

    Args:
        runs: Folder of the runs.
        name: None where the name is not chosen by the user.
    """
    if name is None or not is_taken(runs / name):
        return []
    return [
        f"{runs / name}: this run exists already; add --resume to go on with it, or give another "
        "--run"
    ]


@contextlib.contextmanager
def held_run(runs: Path, name: str | None, what: str, resume: bool) -> Iterator[Path]:
    """The folder of one training, which nobody else trains into meanwhile.

    Args:
        runs: Folder of the runs.
        name: The run; None makes a new folder of date and `what`, with a number where it is taken.
        what: Is trained.
        resume: True takes a run that exists.

    Yields:
        The folder. What was made and is still empty at the end is removed.

    Raises:
        InputError: The run exists, or another process trains it.
    """
    missing = [path for path in (runs, *runs.parents) if not path.exists()]
    runs.mkdir(parents=True, exist_ok=True)
    if name is None:
        folder = _new_folder(runs, f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{what}")
        missing.insert(0, folder)
    else:
        folder = runs / name
        try:
            folder.mkdir()
            missing.insert(0, folder)
        except FileExistsError:
            pass
    try:
        with locked(
            folder / RUN_LOCK,
            "a run is trained by one process at a time: wait for it or stop it, or give this "
            "training another name",
        ):
            if not resume and (problems := taken_problems(runs, folder.name)):
                raise InputError(problems)
            yield folder
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _new_folder(runs: Path, usual: str) -> Path:
    for number in itertools.count():
        folder = runs / (f"{usual}_{number}" if number else usual)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def resumed_settings(
    typed: _Settings,
    places: Sequence[str],
    *,
    name: str = "run",
    runs: str = "runs",
    also: Sequence[str] = (),
    resolved: Sequence[str] = (),
    in_epochs: bool = True,
) -> _Settings:
    """The stored settings of the run to go on with, and of what was typed what may change.

    Args:
        typed: The settings as typed; they name the folder of the runs and maybe the run. What
            is not among its `model_fields_set`, or is None, is not asked for.
        places: The settings that say where the data and other files are; what the run has of
            them may have been moved since.
        name: The setting of the run's name; without it the newest run is meant.
        runs: The setting of the folder of the runs.
        also: Further settings that may be changed.
        resolved: The settings that are stored as what their `auto` came to, so that a typed
            `auto` changes nothing.
        in_epochs: Whether a run has a state, without which there is nothing to go on with.

    Raises:
        InputError: There is no such run, or something else is to be changed; names all of it.
    """
    parent, wanted = getattr(typed, runs), getattr(typed, name)
    folder = parent / wanted if wanted is not None else _newest(parent, in_epochs)
    if not (folder / SETTINGS).is_file():
        raise InputError(f"{folder}: there is no such run to resume; check --run and --runs")
    has_epochs = (folder / STATE).is_file()
    # Stored settings are complete, and each room has its own names for these two.
    if has_epochs > in_epochs or not {name, runs} <= read_yaml(folder / SETTINGS).keys():
        raise InputError(f"{folder}: is a run of another room; check --run and --runs")
    if in_epochs > has_epochs:
        raise InputError(
            f"{folder}: this run has no finished epoch to resume from; start it without --resume"
        )
    stored = read_settings(type(typed), folder / SETTINGS, {})
    changed = [key for key in (*_CHANGED, *also) if key in type(typed).model_fields]
    flags = ", ".join(f"--{key}" for key in changed)
    what = f"{flags} and where data and runs are" if flags else "where data and runs are"
    # In the settings' own order: a set has another in every process.
    typed_keys = [key for key in type(typed).model_fields if key in typed.model_fields_set]
    given = {key: value for key in typed_keys if (value := getattr(typed, key)) is not None}
    moved = [key for key in places if _is_file(getattr(stored, key)) and _is_file(given.get(key))]
    free = {*changed, *moved}
    problems = [
        f"--{key.replace('_', '-')} {value}: this run was started "
        f"{_with(getattr(stored, key))}, and --resume changes only {what}; leave it out, "
        "or start a new run"
        for key, value in given.items()
        if key not in {name, runs, *free}
        and not (key in resolved and value == "auto")
        and value != getattr(stored, key)
    ]
    if problems:
        raise InputError(problems)
    now = {key: given.get(key) for key in free} | {runs: parent, name: folder.name}
    return read_settings(type(typed), folder / SETTINGS, now)


def place_problems(settings: BaseModel, places: Sequence[str]) -> list[str]:
    """A sentence for each file or folder of a run to go on with that is not there any more.

    Args:
        settings: As `resumed_settings` gives them.
        places: As `resumed_settings` takes them.
    """
    fields = type(settings).model_fields
    return [
        f"{path}: there is nothing here any more; if it has been moved, give its place now by "
        f"{key.upper() if fields[key].is_required() else '--' + key.replace('_', '-')}"
        for key in places
        if _is_file(path := getattr(settings, key)) and not Path(path).exists()
    ]


def _is_file(value: Any) -> bool:
    """Whether a setting names a file or folder: it is no word and no expression."""
    return isinstance(value, Path) or str(value).lower().endswith(_FILES)


def _newest(runs: Path, in_epochs: bool) -> Path:
    found = [
        path
        for path in runs.glob(f"*/{STATE if in_epochs else SETTINGS}")
        if (path.parent / SETTINGS).is_file() and (path.parent / STATE).is_file() == in_epochs
    ]
    if not found:
        raise InputError(f"{runs}: holds no run to resume; check --runs")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def _with(value: Any) -> str:
    return "without it" if value is None else f"with {value}"


def resume_command(room: str, folder: Path, usual: Path) -> str:
    """What a user types to go on with a run.

    Args:
        room: The package that is run.
        folder: The run's.
        usual: Folder of the runs where none is typed.
    """
    where = [] if folder.parent == usual else ["--runs", folder.parent]
    return command_line(room, "train", "--run", folder.name, "--resume", *where)
