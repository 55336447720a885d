"""Notices of TensorFlow are dropped, everything else that was written is not."""

from __future__ import annotations

import os

import pytest

from inspection.quiet import without_notices


def test_notices_are_dropped_and_the_rest_is_told(capfd):
    with without_notices():
        os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on. You may ...\n")
        os.write(2, "그래픽 카드가 없다\n".encode())
    assert capfd.readouterr().err == "그래픽 카드가 없다\n"


def test_an_error_does_not_swallow_what_was_written(capfd):
    with pytest.raises(ImportError), without_notices():
        os.write(2, b"libcudart is missing\n")
        raise ImportError
    assert capfd.readouterr().err == "libcudart is missing\n"
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"
