"""A run's folder: its name, who holds it, what its settings allow when it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspection.errors import InputError
from inspection.training.run import RUN_LOCK, held_run


def held(parent: Path, name: str | None = None, resume: bool = False):
    return held_run(parent, name, "usual", resume)


def test_equal_names_within_a_second_are_two_folders(tmp_path):
    with held(tmp_path) as first, held(tmp_path) as second:
        assert first != second
        (first / "a").touch()
        (second / "a").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"usual", "usual_1"}


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
