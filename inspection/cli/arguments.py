"""What a verb is given, looked at before anything that takes seconds to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inspection.errors import InputError


def refuse(problems: Sequence[str]) -> None:
    """Raises where there are problems.

    Raises:
        InputError: With all of them.
    """
    if problems:
        raise InputError(problems)


def choice_problems(flag: str, value: str, choices: Iterable[str]) -> list[str]:
    """A sentence where a value is none of its choices."""
    choices = tuple(choices)
    if value in choices:
        return []
    wanted = " or ".join(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
    return [f"{flag} {value}: must be {wanted}"]
