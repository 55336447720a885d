"""The one exception that means: the input is wrong, and here is how to fix it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

MOST_ECHOED = 200
"""Characters of a user's input that a message repeats at most."""

_MOST = 600  # characters of a whole problem
_QUOTED = re.compile(r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)""")
_WORD = re.compile(rf"\S{{{MOST_ECHOED + 1},}}")
_GROUPED = 5  # equal problems that are still listed one by one
_SHOWN = 3


class InputError(Exception):
    """Input that a user can fix; command lines print it and exit with status 2.

    Each problem is made one line that can be printed anywhere, however hostile the input that it
    repeats: see `one_line`.

    Args:
        problems: One sentence each, naming the file, the line or field, and the fix.
            A single string is taken as one problem.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        listed = (problems,) if isinstance(problems, str) else problems
        self.problems: tuple[str, ...] = tuple(map(one_line, listed))
        super().__init__("\n".join(self.problems))


def one_line(text: str) -> str:
    """A message as one line: control characters escaped, what it repeats of the input bounded.

    Whatever stands in quotes, or without a space in it, is cut to `MOST_ECHOED` characters. A line
    that is longer than 600 all the same loses its middle, so that neither end repeats more: a
    place stands at the start and the fix at the end.
    """
    text = printable(text)
    if len(text) <= MOST_ECHOED:
        return text
    for pattern in (_QUOTED, _WORD):
        text = pattern.sub(lambda found: shortened(found[0]), text)
    return text if len(text) <= _MOST else shortened(text, _MOST // 2)


def printable(text: str) -> str:
    """The text with what does not print, such as bytes of names that are no UTF-8, as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def shortened(text: str, most: int = MOST_ECHOED) -> str:
    """The text, without its middle where it is longer than `most` characters."""
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - tail - 3]}...{text[-tail:]}"


def group_alike(problems: Sequence[str]) -> list[str]:
    """Problems as lines to print, those that differ only in place, name or number in one group.

    Of a group of more than five the first three are listed, and the files of the others named.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        groups[alike(problem)].append(problem)
    lines = []
    for same in groups.values():
        if len(same) <= _GROUPED:
            lines += same
            continue
        places = dict.fromkeys(re.split(r"[/\\]", _place(one))[-1] for one in same[_SHOWN:])
        lines += same[:_SHOWN]
        lines.append(f"... and {len(same) - _SHOWN} more like these: {few(list(places), 10)}")
    return lines


def alike(problem: str) -> str:
    """What problems of one kind share: the sentence without its place, names and numbers."""
    sentence = problem.removeprefix(_place(problem))
    return re.sub(r"\d+", "0", _QUOTED.sub("''", sentence))


def few(names: Sequence[str], most: int = 5) -> str:
    """The first names with commas between them, and `...` where there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough to stand inside a sentence."""
    try:
        text = str(error).strip()
    except Exception:  # its own text cannot be made
        text = ""
    return shortened(text.splitlines()[0]) if text else type(error).__name__


def _place(problem: str) -> str:
    place, colon, _ = problem.partition(": ")
    return place if colon else ""


def _escaped(char: str) -> str:
    code = ord(char)
    # Python reads a byte of a name that is not UTF-8 as one of these 128.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(char)[1:-1]
