"""A run of the anomaly room that is killed is finished by the same command, or by --resume."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import anomaly
from anomaly.settings import AnomalySettings
from anomaly.training.loop import train
from inspection.errors import InputError
from inspection.settings import read_settings
from tests.anomaly.conftest import typed


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
    names = {"settings.yaml", "calibration.csv", "split.csv", "contents.csv", "record.json"}
    assert set(written) == {*names, "model.anomaly"}
    assert written[-1] == "model.anomaly"
    assert [path.suffix for path in (copy / "new").glob(".model.*")] == [".anomaly"]
    # Of a model that stood there before:
    (copy / "new" / "test.json").write_text("{}")
    (copy / "new" / "evaluation_test").mkdir()
    (copy / "new" / "evaluation_test/evaluation.json").write_text("{}")
    killed = shutil.copytree(copy, tmp_path / "옮김/runs")
    train(settings, say=lambda line: None)
    assert {path.name for path in (copy / "new").iterdir()} == {*names, "model.anomaly"}
    # So is one that was moved with its data: by its own settings and split.
    split = (killed / "new/split.csv").read_bytes()
    data = shutil.copytree(shared_product, tmp_path / "옮김/제품")
    flags = ("--resume", "--run", "new", "--runs", killed)
    status, text = typed("train", data, *flags, "--size", "96")
    assert status == 2, text
    assert "--size 96: this run was started with 64, and --resume changes only where" in text
    status, text = typed("train", data, *flags)
    assert status == 0, text
    assert {path.name for path in (killed / "new").iterdir()} == {*names, "model.anomaly"}
    assert (killed / "new/split.csv").read_bytes() == split
    one, other = (anomaly.load(runs / "new/model.anomaly") for runs in (copy, killed))
    assert one.operating_point.threshold == other.operating_point.threshold
    status, text = typed("train", *flags)
    assert status == 0, text
    assert "this run is finished" in text
    with pytest.raises(InputError, match="exists already; add --resume"):
        train(settings, say=lambda line: None)
