"""A small network, a labelled set, and a run of both that tests share."""

from __future__ import annotations

import pytest

from tests.conftest import SmallSet, write_small_set


@pytest.fixture
def light():
    """A network that builds and runs in a moment."""
    from tests.detection.small_runs import light_network

    with light_network():
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> SmallSet:
    """Not to be changed."""
    return write_small_set(tmp_path_factory.mktemp("현장 자료"))


@pytest.fixture(scope="session")
def unbroken(data, tmp_path_factory):
    """A run that nothing happened to: its folder, and what it told."""
    from detection.training.loop import train
    from tests.detection.small_runs import EPOCHS, STEPS, Recorder, light_network, settings_for

    snapshots = tmp_path_factory.mktemp("unbroken")
    log = Recorder()
    with light_network():
        best = train(settings_for(data, snapshots), log=log)
    assert best == snapshots / "run" / "best.keras"
    assert len(log.losses) == EPOCHS * STEPS
    return snapshots / "run", log
