"""Makes the API reference of all packages from their docstrings, and refuses broken references.

`python docs/reference.py [FOLDER]`, `build/docs` where no folder is given; start at `index.html`.
Refused are a module that cannot be imported, a name of this project in backticks that does not
exist, and an argument or field in a docstring's `Args:` that there is none of.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("inspection", "detection", "classification", "anomaly")

_REFERENCE = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")
_SECTION = re.compile(r"^Args:\n((?:(?:    .*)?\n?)*)", re.MULTILINE)
_ARGUMENTS = re.compile(r"^    ([\w*]+(?:, [\w*]+)*):", re.MULTILINE)
# Importing these starts them.
_SCRIPTS = (r"!.*\.__main__", r"!classification\.(train|cam_dashboard)$")


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            fields = getattr(value, "model_fields", {}) | getattr(value, "__annotations__", {})
            if not hasattr(value, part):
                return part in fields
            value = getattr(value, part)
        return True
    return False


def problems(path: Path) -> Iterator[str]:
    """What is wrong with the docstrings of a file, one line each."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        text = ast.get_docstring(node) or ""
        place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
        for name in _REFERENCE.findall(text):
            if not exists(name):
                yield f"{place}: there is no `{name}`"
        if isinstance(node, ast.Module) or (section := _SECTION.search(text)) is None:
            continue
        known = _fields(node) if isinstance(node, ast.ClassDef) else _parameters(node)
        for names in _ARGUMENTS.findall(section[1]):
            for name in names.replace("*", "").split(", "):
                if name not in known:
                    yield f"{place}: `Args:` names {name}, which {node.name} does not have"


def _parameters(node: ast.FunctionDef) -> set[str]:
    taken = node.args
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    return {one.arg for one in every if one is not None}


def _fields(node: ast.ClassDef) -> set[str]:
    found = set()
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found.add(item.target.id)
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            found |= _parameters(item)
    return found


def main(folder: Path) -> int:
    """Writes the reference; 1 where something is broken."""
    import pdoc

    # Whatever pdoc cannot import or read is an error; what libraries say while imported is not.
    warnings.filterwarnings("error", module=r"pdoc")
    # Pydantic annotates its dataclasses with a name that type checkers alone can import.
    warnings.filterwarnings("ignore", message=".*PydanticDataclass", module=r"pdoc")
    found = [
        line
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in problems(path)
    ]
    for line in found:
        print(line, file=sys.stderr)
    if found:
        return 1
    for package in map(importlib.import_module, PACKAGES):
        for name in getattr(package, "__all__", ()):  # imported when they are asked for
            vars(package)[name] = getattr(package, name)
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*PACKAGES, *_SCRIPTS, output_directory=folder)
    print(folder / "index.html")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"))
