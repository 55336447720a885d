"""The rule of the house: what CONTRIBUTING.md and docs/ say about the tree is so."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest
import typer

from tests.places import ROOT

ROOMS = ("detection", "classification", "anomaly")
PACKAGES = ("inspection", *ROOMS)
MOST_ENTRIES, MOST_LINES, MOST_TEST_LINES = 15, 400, 500
# What Python asks for is no entry that anybody reads.
UNCOUNTED = {"__init__.py", "__main__.py", "py.typed"}
MANY_ENTRIES = {"anomaly/methods"}  # one file a method


def tracked(*folders: str) -> list[str]:
    """Paths that git knows or would take, sorted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no checkout", allow_module_level=True)
    return sorted(path for path in done.stdout.splitlines() if (ROOT / path).is_file())


def modules() -> dict[str, str]:
    """Path to source of every module of the packages."""
    paths = [path for path in tracked(*PACKAGES) if path.endswith(".py")]
    return {path: (ROOT / path).read_text(encoding="utf-8") for path in paths}


def imports(source: str) -> set[str]:
    """Names of what a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_no_folder_is_crowded():
    entries = defaultdict(set)
    for path in map(Path, tracked(*PACKAGES, "tests", "examples", "benchmarks", "docs")):
        for parent in path.parents[:-1]:
            entries[parent.as_posix()].add(path.relative_to(parent).parts[0])
    crowded = {
        folder: len(names - UNCOUNTED)
        for folder, names in entries.items()
        if len(names - UNCOUNTED) > MOST_ENTRIES and folder not in MANY_ENTRIES
    }
    assert not crowded


def test_no_file_is_long_without_a_reason():
    """A longer one says in its docstring why it is one."""
    long = {}
    for path in tracked(*PACKAGES, "tests", "examples", "benchmarks", "docs"):
        if path.endswith(".py"):
            source = (ROOT / path).read_text(encoding="utf-8")
            most = MOST_TEST_LINES if path.startswith("tests/") else MOST_LINES
            reason = f"over {most} lines" in (ast.get_docstring(ast.parse(source)) or "")
            if source.count("\n") > most and not reason:
                long[path] = source.count("\n")
    assert not long


def test_a_name_says_what_a_module_is_for():
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [path for path in tracked() if Path(path).name in vague]


def test_imports_point_down():
    upward = [
        f"{path}: {name}"
        for path, source in modules().items()
        for name in imports(source)
        for room in ("examples", "benchmarks", "tests", *ROOMS)
        if name.split(".")[0] == room and room != path.split("/")[0]
    ]
    assert not upward


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_a_room_form_no_circle(package):
    """What lies in the room's own folder stands beside the folders, each file for itself."""

    def place(name: str) -> str:
        parts = name.split(".")
        return parts[1] if len(parts) > 1 else "__init__"

    needs = defaultdict(set)
    for path, source in modules().items():
        if path.startswith(f"{package}/"):
            here = place(path.removesuffix(".py").replace("/", "."))
            named = {name for name in imports(source) if name.split(".")[0] == package}
            needs[here] |= {place(name) for name in named} - {here}
    list(graphlib.TopologicalSorter(needs).static_order())


@functools.cache
def verbs(room: str) -> dict[str, set[str]]:
    """Verb to its flags."""
    command = typer.main.get_command(import_module(f"{room}.cli").app)
    return {
        name: {flag for one in verb.params for flag in (*one.opts, *one.secondary_opts)}
        | {"--help"}
        for name, verb in command.commands.items()
    }


PAGES = [*tracked("README.md", "CONTRIBUTING.md", "docs", "benchmarks")]
TYPED = re.compile(
    r"(?:python -m (?P<room>detection|classification|anomaly) (?P<verb>[a-z]\w*)"
    r"|python (?P<script>train_retinanet|evaluate_map|classification/train)\.py)(?P<rest>[^\n`#|]*)"
)
SCRIPTS = {
    "train_retinanet": ("detection", "train"),
    "evaluate_map": ("detection", "evaluate"),
    "classification/train": ("classification", "train"),
}


@pytest.mark.parametrize("page", [path for path in PAGES if path.endswith(".md")])
def test_every_command_that_is_documented_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    known = {room: verbs(room) for room in ROOMS}
    wrong = []
    for found in TYPED.finditer(text):
        room, verb = SCRIPTS[found["script"]] if found["script"] else (found["room"], found["verb"])
        flags = known[room].get(verb)
        if flags is None:
            wrong.append(found[0])
            continue
        given = re.findall(r"(?<![\w-])--[a-z][\w-]*", found["rest"])
        wrong += [f"{found[0]}: {flag}" for flag in given if flag not in flags]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    typed = re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)
    wrong += [f"make {target}" for target in typed if target not in targets]
    for module in re.findall(r"python -m ((?:benchmarks|examples)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        if not (path.with_suffix(".py").is_file() or path.is_dir()):
            wrong.append(f"python -m {module}")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        if not (ROOT / page).parent.joinpath(link).exists():
            wrong.append(f"link to {link}")
    assert not wrong


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs/guide").glob("*.md")))
def test_every_flag_of_a_guide_page_exists(page):
    """A room's page names flags of this room, or whose room the same line or code names."""
    text = (ROOT / "docs" / "guide" / page).read_text(encoding="utf-8")
    own = [page.removesuffix(".md")] if page.removesuffix(".md") in ROOMS else ROOMS
    wrong = []
    for line in text.splitlines():
        rooms = [*own, *(room for room in ROOMS if room in line.lower())]
        flags = set.union(*(each for room in rooms for each in verbs(room).values()))
        for code in re.findall(r"`([^`]+)`", line):
            wrong += [
                f"{flag}: {line}"
                for flag in re.findall(r"(?<![\w.-])--[a-z][\w-]*", code)
                if flag not in flags and not code.startswith("--server.")
            ]
    assert not wrong
