"""A PC on the line: what `requirements-line.txt` installs, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.places import ROOT

# Where the environment of requirements-line.txt is not at hand, this one without the rest.
_SMALLER = """
import runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
room, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(room, run_name="__main__", alter_sys=True)
"""
_IMPORTED_AS = {
    "faster-coco-eval": "faster_coco_eval",
    "keras-cv": "keras_cv",
    "scikit-learn": "sklearn",
}


def _names(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    names = {line.partition("==")[0] for line in lines if "==" in line and line[0] != "#"}
    return {_IMPORTED_AS.get(name, name) for name in names}


def on_the_line(room: str, *arguments: object) -> str:
    """What a verb prints there; it must succeed."""
    command = [sys.executable, "-c"]
    missing = {*_names("requirements.txt"), "PyQt5", "jax"} - _names("requirements-line.txt")
    command.append(_SMALLER.format(names=sorted(missing)))
    if "INSPECTION_LINE_PYTHON" in os.environ:
        command = [os.environ["INSPECTION_LINE_PYTHON"], "-m"]
    done = subprocess.run(
        [*command, room, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
