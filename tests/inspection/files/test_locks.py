"""A lock tells who holds it, and nothing that a kill leaves behind holds anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from inspection.errors import InputError
from inspection.files.locks import locked
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
