"""Notices of TensorFlow are dropped, everything else that was written is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from inspection.models.keras_import import without_notices
from tests.places import ROOT


def test_notices_are_dropped_and_the_rest_is_told(capfd):
    with without_notices():
        os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on. You may ...\n")
        os.write(2, b"I0000 cudart_stub.cc:31] Could not find cuda drivers on your machine\n")
        os.write(2, b"E0000 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error\n")
        os.write(2, "그래픽 카드가 없다\n".encode())
    assert capfd.readouterr().err == "그래픽 카드가 없다\n"


def test_an_error_does_not_swallow_what_was_written(capfd):
    with pytest.raises(ImportError), without_notices():
        os.write(2, b"libcudart is missing\n")
        raise ImportError
    assert capfd.readouterr().err == "libcudart is missing\n"
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_nothing_is_said_of_a_missing_graphics_card(tmp_path):
    """A first operation looks for one, long after TensorFlow was imported."""
    code = "import detection, keras\nkeras.ops.ones(2)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("TF_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
