"""How many images it takes to show a target."""

from __future__ import annotations

import json
from pathlib import Path

from anomaly.evaluation.scored import figures_file
from anomaly.settings import ROOM
from inspection.cli.commands import command_line
from inspection.decisions.rates import Rate, images_needed, more_needed, percent
from inspection.errors import InputError

_ERRORS = (0, 1, 2, 5)


def plan_lines(
    target_miss: float,
    target_overkill: float,
    miss: Rate | None = None,
    overkill: Rate | None = None,
) -> list[str]:
    """What a test needs to hold, and what a measured one still lacks.

    Args:
        target_miss: Miss rate to show, 0 to 1.
        target_overkill: Overkill rate to show, 0 to 1.
        miss: As measured, if it was.
        overkill: As measured, if it was.

    Returns:
        Sentences.
    """
    lines = []
    for name, of, target, rate in (
        ("miss", "defects", target_miss, miss),
        ("overkill", "normal images", target_overkill, overkill),
    ):
        needed = ", ".join(f"{images_needed(target, errors)} with {errors}" for errors in _ERRORS)
        lines.append(
            f"To show {name} <= {percent(target)} at 95 % confidence the test needs this many "
            f"{of}: {needed} decided wrongly."
        )
        if rate is None:
            continue
        more = more_needed(rate, target)
        lines.append(
            f"Measured {name}: {rate}. "
            + (
                f"That shows {percent(target)}."
                if not more
                else f"{more} more {of}, all decided rightly, would show {percent(target)}."
            )
        )
    lines.append("Images of one part count as one: take that many parts, not exposures.")
    return lines


def measured(run: Path) -> tuple[Rate, Rate]:
    """Miss and overkill on a run's test part.

    Raises:
        InputError: It has not been measured.
    """
    path = figures_file(run)
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        miss, overkill = (
            Rate(values["count"], values["total"], values["of"])
            for values in (figures["miss"], figures["overkill"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read; measure the run with `{command_line(ROOM, 'evaluate', run)}`"
        ) from error
    return miss, overkill
