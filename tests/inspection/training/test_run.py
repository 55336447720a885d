"""A run's folder: its name, who holds it, what its settings allow when it goes on."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ConfigDict

from inspection.errors import InputError
from inspection.settings import save_settings
from inspection.training import run
from inspection.training.announcement import Ahead, duration
from inspection.training.run import (
    RUN_LOCK,
    held_run,
    place_problems,
    resume_command,
    resumed_settings,
)


def held(parent: Path, name: str | None = None, resume: bool = False):
    return held_run(parent, name, "resnet50", resume)


def test_equal_names_within_a_second_are_two_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "datetime", SimpleNamespace(now=lambda: datetime(2026, 1, 2, 3, 4, 5)))
    with held(tmp_path) as first, held(tmp_path) as second:
        assert first != second
        (first / "a").touch()
        (second / "a").touch()
    name = "2026-01-02_03-04-05_resnet50"
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}_1"}


def test_a_run_is_trained_once_at_a_time(tmp_path):
    with held(tmp_path, "밤") as folder:
        (folder / "state.json").touch()
        for resume in (False, True):
            with pytest.raises(InputError, match=r"밤: is in use by process \d+"):
                held(tmp_path, "밤", resume).__enter__()
    with pytest.raises(InputError, match=r"exists already; add --resume .* another --run"):
        held(tmp_path, "밤").__enter__()
    with held(tmp_path, "밤", resume=True):
        pass


def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path):
    for name in (None, "run"):
        with pytest.raises(InputError), held(tmp_path / "a" / "runs", name) as folder:
            assert (folder / RUN_LOCK).is_file()
            raise InputError("the images cannot be read")
    assert not list(tmp_path.iterdir())


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    data: Path = Path("data")
    runs: Path = Path("runs")
    run: str | None = None
    epochs: int = 30
    lr: float | None = None
    weights: str = "auto"
    aggregation: str = "auto"
    roi_mask: Path | None = None
    group_by: str | None = None


@pytest.fixture
def stored(tmp_path) -> Settings:
    """Of a run that has finished an epoch."""
    settings = Settings(data=tmp_path / "data", runs=tmp_path, run="밤", lr=0.1, weights="none")
    save_settings(settings, tmp_path / "밤/settings.yaml")
    (tmp_path / "밤/state.json").touch()
    return settings


def test_a_resume_takes_what_is_stored_and_what_may_change(stored, tmp_path):
    def resumed(**typed) -> Settings:
        typed = Settings(runs=tmp_path, **typed)
        return resumed_settings(typed, ("data",), resolved=("weights",))

    assert resumed() == resumed(run="밤") == stored
    assert resumed(weights="auto", lr=0.1) == stored, "the same command with --resume"
    # What is a default when it is typed is typed all the same.
    assert resumed(epochs=30).epochs == 30
    changed = resumed(epochs=40, data=Path())
    assert (changed.epochs, changed.data, changed.lr) == (40, Path(), 0.1)
    with pytest.raises(InputError) as caught:
        resumed(lr=0.5, weights="imagenet")
    assert [problem.partition(",")[0] for problem in caught.value.problems] == [
        "--lr 0.5: this run was started with 0.1",
        "--weights imagenet: this run was started with none",
    ]
    assert "--resume changes only --epochs and where data and runs are" in str(caught.value)
    # Of a setting that is stored as it was typed, auto is a choice like any other.
    assert resumed(aggregation="auto") == stored
    save_settings(stored.model_copy(update={"aggregation": "max"}), tmp_path / "밤/settings.yaml")
    with pytest.raises(InputError, match="--aggregation auto: this run was started with max"):
        resumed(aggregation="auto")
    with pytest.raises(InputError, match="absent: there is no such run to resume"):
        resumed(run="absent")
    with pytest.raises(InputError, match="empty: holds no run to resume"):
        resumed_settings(Settings(runs=tmp_path / "empty"), ("data",))
    typed = Settings(runs=tmp_path, run="밤")
    with pytest.raises(InputError, match="밤: is a run of another room"):
        resumed_settings(typed, ("data",), in_epochs=False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "settings.yaml").write_text("run: other\nsnapshots: .\nanchors: auto\n")
    (other / "state.json").touch()
    with pytest.raises(InputError, match="other: is a run of another room") as caught:
        resumed_settings(Settings(runs=tmp_path, run="other"), ("data",))
    assert len(caught.value.problems) == 1
    (tmp_path / "밤/state.json").unlink()
    assert resumed_settings(typed, ("data",), in_epochs=False).lr == stored.lr
    with pytest.raises(InputError, match="no finished epoch to resume from; start it without"):
        resumed_settings(typed, ("data",))


def test_a_resume_finds_its_run_where_the_folder_of_the_runs_is_now(stored, tmp_path):
    moved = tmp_path / "옮김"
    moved.mkdir()
    (tmp_path / "밤").rename(moved / "낮")
    settings = resumed_settings(Settings(runs=moved), ("data",))
    assert (settings.runs, settings.run) == (moved, "낮")
    (problem,) = place_problems(settings, ("data",))
    assert problem.startswith(f"{tmp_path / 'data'}: there is nothing here any more")
    assert problem.endswith("give its place now by --data")
    (tmp_path / "data").mkdir()
    assert not place_problems(settings, ("data",))


def test_a_resume_takes_the_place_that_a_file_of_the_run_has_now(stored, tmp_path):
    places = ("roi_mask", "group_by", "weights")

    def resumed(**typed) -> Settings:
        return resumed_settings(Settings(runs=tmp_path, **typed), places)

    for name, was, now in (
        ("roi_mask", tmp_path / "a.png", tmp_path / "옮김.png"),
        ("group_by", str(tmp_path / "a.csv"), str(tmp_path / "옮김.CSV")),
        ("weights", str(tmp_path / "a.keras"), str(tmp_path / "옮김.h5")),
    ):
        save_settings(stored.model_copy(update={name: was}), tmp_path / "밤/settings.yaml")
        (problem,) = place_problems(resumed(), places)
        assert problem.startswith(f"{was}: there is nothing here any more")
        assert problem.endswith(f"by --{name.replace('_', '-')}")
        Path(now).touch()
        moved = resumed(**{name: now})
        assert getattr(moved, name) == now
        assert not place_problems(moved, places)
    # A file where there was none, or something else in a file's place, is another run.
    for typed in ({"roi_mask": Path("a.png")}, {"group_by": "a.csv"}, {"weights": "auto"}):
        with pytest.raises(InputError, match="this run was started with"):
            resumed(**typed)
    save_settings(stored.model_copy(update={"group_by": "(.+)_"}), tmp_path / "밤/settings.yaml")
    assert not place_problems(resumed(), places), "an expression is nowhere"


def test_the_command_that_goes_on_names_the_runs_only_where_it_must():
    usual = Path("runs")
    assert resume_command("anomaly", usual / "a", usual).endswith("train --run a --resume")
    command = resume_command("anomaly", Path("다른 곳/a"), usual)
    assert command.endswith("train --run a --resume --runs '다른 곳'")


def test_what_is_ahead_is_said_in_minutes_or_hours(tmp_path):
    assert [duration(value) for value in (40, 600, 9000)] == ["40 s", "10 min", "2.5 h"]
    ahead = Ahead(
        *(tmp_path, 80, 10, 8, 1, 4),
        step_seconds=2.0,
        validated=20,
        validation_seconds=10.0,
        validate_every=2,
        snapshot_mb=100.0,
        keep=2,
    )
    run, speed, disk = ahead.lines()
    # Epochs 2 to 4, of which 2 and 4 are validated: 60 + 20 s.
    assert run == f"Run: {tmp_path}, 80 images, 10 steps of 8 images an epoch, about 80 s."
    assert "validation on 20 images 10 s more, every 2 epochs" in speed
    assert "2 snapshots of 100 MB" in disk
    assert not ahead.validates_long
