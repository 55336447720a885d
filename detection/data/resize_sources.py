"""What `resize` is about to take, in words: a folder may hold more than the camera's images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from inspection.cli.console import counted
from inspection.data.depth import bits_note
from inspection.data.images import has_palette_or_alpha, image_size
from inspection.errors import InputError, few

_GROUPS = 6  # that a line names


def describe_sources(
    src: Path, sources: Sequence[Path], labelled: Collection[Path], bits: int
) -> list[str]:
    """Lines that say which images are taken, and which of them a user may not have meant.

    Args:
        src: The folder, or the one image.
        sources: The images.
        labelled: Those that have an XML file.
        bits: As `--bits` says.
    """
    lines = []
    if len(sources) > 1:
        lines.append(f"Taking {counted(len(sources), 'image')} from {src}: {_groups(src, sources)}")
    unlabelled = [path for path in sources if path not in labelled]
    if labelled and unlabelled:
        lines.append(
            f"Note: {len(unlabelled)} of them have no XML file, the others do "
            f"({_names(src, unlabelled)})."
        )
    drawn = [path for path in sources if _is_drawn(path)]
    # A tool may have given every image an alpha channel; a few among others are no photographs.
    if 0 < len(drawn) <= len(sources) / 2:
        lines.append(
            f"Warning: {len(drawn)} of them have a palette or transparency, as charts and "
            f"screenshots do and cameras' images do not ({_names(src, drawn)}); if they do not "
            f"belong here, remove them from {src} and from the results."
        )
    if note := bits_note(sources, bits):
        lines.append(f"Warning: {note}.")
    return lines


def _groups(src: Path, sources: Sequence[Path]) -> str:
    """How many images of which size lie in which folder, the most first."""
    groups: Counter[str] = Counter()
    for path in sources:
        try:
            width, height = image_size(path)
        except InputError:  # named when its turn comes
            groups["unreadable"] += 1
            continue
        folder = path.parent.relative_to(src).as_posix()
        groups[f"{width} x {height}{'' if folder == '.' else f' in {folder}'}"] += 1
    parts = [f"{count} of {name}" for name, count in groups.most_common(_GROUPS)]
    rest = len(sources) - sum(count for _, count in groups.most_common(_GROUPS))
    return ", ".join([*parts, *([f"{rest} of other sizes or folders"] if rest else [])]) + "."


def _names(src: Path, paths: Sequence[Path]) -> str:
    return few([path.relative_to(src).as_posix() for path in paths], 3)


def _is_drawn(path: Path) -> bool:
    try:
        return has_palette_or_alpha(path)
    except InputError:
        return False
