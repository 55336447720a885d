"""However a command ends: one line, a status, and no traceback on the screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from inspection.cli.console import reports_errors
from inspection.cli.last_handler import reported, run
from inspection.errors import InputError
from tests.places import ROOT

ENTRY_POINTS = (
    ["train_retinanet.py"],
    ["evaluate_map.py"],
    ["classification/train.py"],
    ["-m", "detection", "check"],
    ["-m", "classification", "plan"],
    ["-m", "anomaly", "plan"],
    ["-m", "examples.wafers.demo"],
)


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "기록"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def verb(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @reports_errors
    def fails() -> None:
        raise error

    return app


def broken_text() -> Exception:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    return Broken()


@pytest.mark.parametrize(
    "error",
    [
        KeyError("부품"),
        RecursionError("deep"),
        MemoryError(),
        NotImplementedError(),
        ValueError("[/]"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_foresaw_is_one_line_and_a_file(error, logs):
    result = CliRunner().invoke(verb(error), [])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    (log,) = logs.iterdir()
    assert str(log) in result.output
    text = log.read_text(encoding="utf-8")
    assert all(word in text for word in ("Traceback", "command:", "python:", "numpy:"))


def test_an_error_without_a_text_is_told_too(logs, capsys):
    assert reported(broken_text()) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(list(logs.iterdir())) == 1


def test_input_errors_leave_no_file(logs):
    result = CliRunner().invoke(verb(InputError(["a: wrong", "b: wrong"])), [])
    assert (result.exit_code, result.output) == (2, "Error: a: wrong\nError: b: wrong\n")
    assert CliRunner().invoke(verb(KeyboardInterrupt()), []).exit_code == 130
    assert not list(logs.iterdir())


def test_a_place_where_nothing_can_be_written_is_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    assert reported(KeyError("x")) == 2
    assert "could not be written" in capsys.readouterr().err


def test_a_missing_package_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as ended:
        run("detection.no_such_module", "app")
    assert ended.value.code == 2
    assert "is not installed" in capsys.readouterr().err


# What a process does that is started as each entry point is, with a fault put into its way.
FAULT = """
import runpy, sys
fault = {fault}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("typer", "detection.data.dataset"):
            raise fault
sys.meta_path.insert(0, Finder())
sys.argv = {argv!r}
sys.path.insert(0, {root!r})
target = sys.argv[0]
if target == "-m":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(target, run_name="__main__")
"""


@pytest.mark.parametrize("argv", ENTRY_POINTS, ids=" ".join)
def test_every_entry_point_has_the_handler(argv, tmp_path):
    argv = [str(ROOT / argv[0]) if argv[0].endswith(".py") else argv[0], *argv[1:]]
    code = FAULT.format(fault="ZeroDivisionError('planted')", argv=argv, root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "planted" in done.stderr
    assert "Traceback" in Path(done.stderr.split("Details: ")[1].strip()).read_text("utf-8")


def test_a_reader_who_leaves_ends_it_quietly(tmp_path):
    code = (
        "import sys, types\n"
        "module = types.ModuleType('chatty')\n"
        "module.talk = lambda: [print('x' * 1000) for _ in range(1000)]\n"
        "sys.modules['chatty'] = module\n"
        "from inspection.cli.last_handler import run\n"
        "run('chatty', 'talk')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1
