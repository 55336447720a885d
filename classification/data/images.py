"""Labelled images of two classes or more, one of which may be that of good parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from inspection.cli.commands import command_line
from inspection.cli.console import counted
from inspection.data.labelled import LabelledImages, find_labelled
from inspection.data.masks import NORMAL_NAMES, header_problems
from inspection.errors import InputError

_LEAST = 3  # images of a class: one for each part


def open_images(source: str | Path, normal: str | None = None) -> LabelledImages:
    """Finds the images of all classes; the layouts are those of `find_labelled`.

    Args:
        source: The folder or the CSV file.
        normal: The class of good parts; where left out, one that is named so, see
            `inspection.data.masks.NORMAL_NAMES`.

    Raises:
        InputError: There are fewer than two classes, a class is empty or too small, or
            images, masks or lines cannot be used; all of them are named.
    """
    problems: list[str] = []
    found = find_labelled(source, problems)
    if not found.items and not problems:
        raise InputError(
            [f"{source}: holds no folder with images; make one for each class", *found.notes]
        )
    names = sorted(found.kinds)
    if normal is not None and normal not in names:
        problems.append(f"--normal {normal}: there is no such class; there are {', '.join(names)}")
    if normal is None:
        normal = next((name for name in names if name.casefold() in NORMAL_NAMES), None)
    problems += header_problems(found.items)
    if len(names) < 2:
        problems.append(
            f"{source}: holds the images of {counted(len(names), 'class')} only; telling classes "
            f"apart takes two, and for normal images alone there is `{command_line('anomaly')}`"
        )
    problems += [
        f"{source}: the class {name!r} holds {counted(found.kinds[name], 'image')}; it takes at "
        f"least {_LEAST}, one to learn from, one to calibrate and one to test on: add images, or "
        "join it to another class"
        for name in names
        if found.kinds[name] < _LEAST
    ]
    if problems:
        raise InputError(problems)
    return replace(found, normal=normal)
