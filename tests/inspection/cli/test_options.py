"""Flags made of settings: each room's `train` takes every setting, and says what it is."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import typer
from pydantic import BaseModel, Field
from typer.main import get_command
from typer.testing import CliRunner

from anomaly.settings import AnomalySettings
from classification.settings import ClassificationSettings
from detection.settings import TrainSettings
from inspection.cli.console import reports_errors
from inspection.cli.options import Config, settings_of, takes_settings
from inspection.fields import DATA, RUN, Fit, Flag, Fractions, Roi, Seed, TargetMiss
from inspection.settings import read_settings
from tests.inspection.cli.test_arguments import HEAVY
from tests.places import ROOT

ROOMS = {
    "detection": TrainSettings,
    "classification": ClassificationSettings,
    "anomaly": AnomalySettings,
}
ONLY_IN_A_FILE = {"options"}
NEEDED = {"data"}  # without a default, and so without a flag


def parameters(room: str, verb: str) -> dict[str, Any]:
    command = get_command(importlib.import_module(f"{room}.cli").app).commands[verb]
    return {parameter.name: parameter for parameter in command.params}


@pytest.mark.parametrize("room", ROOMS)
def test_every_setting_is_a_flag_that_says_what_it_is_and_its_default(room):
    flags, settings = parameters(room, "train"), settings_of(ROOMS[room])
    for name, field in ROOMS[room].model_fields.items():
        if name in ONLY_IN_A_FILE or (name in NEEDED and field.is_required()):
            continue
        flag = flags[name]
        assert f"--{name.replace('_', '-')}" in flag.opts
        assert len(flag.help) > 10, name
        assert flag.help == settings[name].help
        assert flag.help.endswith("."), name
        words, default = flag.show_default, field.default
        if isinstance(words, str):
            assert words, name
        elif isinstance(default, tuple):
            assert flag.default == ",".join(map(str, default))
        else:
            assert default is not None, f"{name}: its Flag says no default"
            assert str(flag.default) == str(default)


def test_what_rooms_share_has_the_same_words():
    told: dict[str, set[str]] = {}
    for kind in ROOMS.values():
        for name in ("seed", "size", "fit", "bits", "group_by", "target_miss", "target_overkill"):
            if name in kind.model_fields:
                told.setdefault(name, set()).add(settings_of(kind)[name].help)
    assert all(len(texts) == 1 for texts in told.values()), told


def test_choices_are_those_that_are_there():
    from anomaly.models.scores import AGGREGATIONS
    from classification.cam.methods import METHODS, SMOOTHINGS

    aggregation = AnomalySettings.model_fields["aggregation"].annotation
    assert get_args(aggregation) == ("auto", *AGGREGATIONS)
    for verb in ("cam", "boxes"):
        flags = parameters("classification", verb)
        assert all(name in flags["method"].help for name in METHODS)
        assert all(name in flags["smooth"].help for name in SMOOTHINGS)


def test_the_names_of_run_and_runs_work_in_every_room():
    for room in ROOMS:
        flags = {name for one in parameters(room, "train").values() for name in one.opts}
        assert {"--run", "--name", "--runs", "--snapshots"} <= flags


CODE = """
import importlib, json, sys
from typer.main import get_command
from typer.testing import CliRunner
heavy = json.loads(sys.argv[1])
found = []
for room in ("detection", "classification", "anomaly"):
    app = importlib.import_module(f"{room}.cli").app
    for verb in get_command(app).commands:
        result = CliRunner().invoke(app, [verb, "--help"])
        found.append([room, verb, result.exit_code, result.output])
loaded = [name for name in (*heavy, "numpy", "cv2") if name in sys.modules]
print(json.dumps([found, loaded]))
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_help_of_every_verb_is_light_and_fits(columns):
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(HEAVY)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, loaded = json.loads(done.stdout)
    assert loaded == []
    assert len(found) == 28
    for room, verb, status, text in found:
        assert status == 0, (room, verb, text)
        assert max(map(len, text.splitlines())) <= columns, (room, verb)
        assert "…" not in text, (room, verb, text)  # a flag that did not fit


class Small(BaseModel):
    """Of each kind a field."""

    data: Annotated[Path, Flag(DATA, "Where the images are.")] = Path("here")
    fit: Fit = "stretch"
    roi: Roi = None
    fractions: Fractions = (0.5, 0.25, 0.25)
    seed: Seed = 0
    quick: Annotated[bool, Flag(RUN, "Be quick.")] = False
    log: Annotated[bool, Flag(RUN, "Write a log.", typed=True)] = False
    share: Annotated[TargetMiss, Flag(DATA, "A share.", also=("part",))] = 0.1
    deep_down: Annotated[int | None, Field(ge=1), Flag(DATA, "How deep.", "all")] = None
    unseen: int = 3


@pytest.fixture
def typed():
    """Types a verb that takes all of `Small`; its status, output, settings and what was given."""
    seen: list[Any] = []
    app = typer.Typer()

    @app.command()
    @reports_errors
    @takes_settings(Small, positional=("data",))
    def verb(
        given: dict[str, Any], extra: Annotated[str, typer.Option()] = "", config: Config = None
    ):
        """Does nothing."""
        seen[:] = [given, read_settings(Small, config, given), extra]

    def run(*words: object) -> tuple[Any, ...]:
        seen.clear()
        result = CliRunner().invoke(app, [str(word) for word in words])
        return (result.exit_code, result.output, *seen)

    return run


def test_only_what_was_typed_is_given(typed):
    assert typed()[2:] == ({}, Small(), "")
    status, _, given, settings, extra = typed(
        *("there", "--roi", "1,2,30,40", "--fractions", "0.6/0.2/0.2", "--quick", "--log", "True"),
        *("--part", ".2", "--deep-down", 4, "--seed", 0, "--extra", "one"),
    )
    assert status == 0
    assert settings == Small(
        data=Path("there"),
        roi=(1, 2, 30, 40),
        fractions=(0.6, 0.2, 0.2),
        quick=True,
        log=True,
        share=0.2,
        deep_down=4,
    )
    assert extra == "one"
    assert given["seed"] == 0, "typed, though it is the default"
    assert set(given) == {
        *("data", "roi", "fractions", "quick", "log", "share", "deep_down", "seed")
    }


def test_flags_win_over_the_file(typed, tmp_path):
    config = tmp_path / "설정.yaml"
    config.write_text("quick: true\nseed: 7\nfit: letterbox\nunseen: 4\nlog: true\n")
    found = typed("--config", config)[3]
    assert (found.quick, found.seed, found.fit, found.unseen, found.log) == (
        *(True, 7, "letterbox", 4, True),
    )
    found = typed("--config", config, "--no-quick", "--seed", 0, "--log", "False")[3]
    assert (found.quick, found.seed, found.fit, found.log) == (False, 0, "letterbox", False)


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("--fit crop", "--fit: must be 'letterbox' or 'stretch' (given: 'crop')"),
        ("--roi 1,2", "--roi 1,2: give 4 numbers with commas between them"),
        ("--roi 1,2,x,4", "--roi 1,2,x,4: give 4 numbers"),
        ("--fractions nan,1,1", "--fractions: must be a number below"),
        ("--log perhaps", "--log: must be True or False (given: 'perhaps')"),
        ("--share 2", "--share: "),
        ("--part nan", "--share: "),
        ("--deep-down 0", "--deep-down: "),
        ("--deep-down much", "--deep-down"),
        ("--unseen 4", "--unseen"),
        ("there --data here", "--data: is given with this flag and without"),
    ],
)
def test_a_wrong_value_is_named_by_its_flag(typed, words, flag):
    status, output, *seen = typed(*words.split())
    assert status == 2
    assert flag in output
    assert not seen
