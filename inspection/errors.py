"""The one exception that means: the input is wrong, and here is what to mend."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(Exception):
    """Input that a user can mend; command lines print it and exit with status 2.

    Args:
        problems: One sentence each, naming the file, the line or field, and the mend.
            A single string is taken as one problem.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough to stand inside a sentence."""
    try:
        text = str(error).strip()
    except Exception:  # its own text cannot be made
        text = ""
    return text.splitlines()[0] if text else type(error).__name__
