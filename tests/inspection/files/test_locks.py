"""A lock tells who holds it, and nothing that a kill leaves behind holds anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inspection.errors import InputError
from inspection.files.locks import RUN_LOCK, held_run, locked
from tests.places import ROOT

HOLD = """
import sys, time
from inspection.files.locks import locked
with locked(sys.argv[1], "wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_a_kill_frees_it(tmp_path):
    path = tmp_path / "런" / "run.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError) as caught, locked(path, "wait for it"):
            pass
        assert f"in use by process {holder.pid} on " in str(caught.value)
        assert "wait for it" in str(caught.value)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert path.is_file(), "a killed process cannot remove it"
    with locked(path, "wait for it"):
        assert f"process {os.getpid()} on" in path.read_text(encoding="utf-8")
    assert not path.exists()


def test_who_waits_comes_after_the_other(tmp_path):
    path, order = tmp_path / "a.lock", []
    inside = threading.Event()

    def second() -> None:
        inside.wait(10)
        with locked(path, "", wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locked(path, ""):
        inside.set()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


def held(parent: Path, name: str | None = None, resume: bool = False):
    return held_run(
        *(parent, name, "usual", resume),
        exists=lambda folder: (folder / "state.json").exists(),
        instead="give another --run",
    )


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
    with pytest.raises(InputError, match="exists already; give another --run"):
        held(tmp_path, "밤").__enter__()
    with held(tmp_path, "밤", resume=True):
        pass


def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path):
    for name in (None, "run"):
        with pytest.raises(InputError), held(tmp_path / "a" / "runs", name) as folder:
            assert (folder / RUN_LOCK).is_file()
            raise InputError("the images cannot be read")
    assert not list(tmp_path.iterdir())
