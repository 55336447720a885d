"""A run of the anomaly room that is killed while it is written is finished by the same command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from anomaly.settings import AnomalySettings
from anomaly.training.loop import train
from inspection.errors import InputError
from inspection.settings import read_settings


class Killed(BaseException):
    """What a process sees of kill -9 is nothing; here it ends the code."""


def test_a_run_killed_while_it_is_written_is_finished_by_the_same_command(
    runs, shared_product, tmp_path, monkeypatch
):
    """The model comes last: before it there is no run that would stand in the way."""
    copy = shutil.copytree(runs, tmp_path / "runs")
    settings = read_settings(AnomalySettings, copy / "patchcore/settings.yaml", {})
    settings = settings.model_copy(update={"runs": copy, "run": "new"})
    replace, unlink, written = os.replace, os.unlink, []

    def dying(source, target):
        if Path(target).parent.name == "new":
            written.append(Path(target).name)
            if written[-1] == "model.anomaly":
                raise Killed
        replace(source, target)

    def dead(path, **options):
        if Path(path).parent.name != "new":
            unlink(path, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", dying)
        patch.setattr(os, "unlink", dead)
        train(settings, say=lambda line: None)
    names = {"settings.yaml", "calibration.csv", "split.csv", "record.json"}
    assert set(written) == {*names, "model.anomaly"}
    assert written[-1] == "model.anomaly"
    assert [path.suffix for path in (copy / "new").glob(".model.*")] == [".anomaly"]
    (copy / "new" / "test.json").write_text("{}")  # of a model that stood there before
    train(settings, say=lambda line: None)
    assert {path.name for path in (copy / "new").iterdir()} == {*names, "model.anomaly"}
    with pytest.raises(InputError, match="exists already; give another --run"):
        train(settings, say=lambda line: None)
