"""Letters for what is drawn into images: Latin and Korean always, others where installed."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from inspection.cli.console import say

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_SHIPPED = Path(__file__).parent / "fonts" / "NotoSansCJKkr-Hangul.otf"
_LATIN = "DejaVu Sans"  # ships with matplotlib
_INSTALLED = (
    *("Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans KR", "Malgun Gothic"),
    *("Apple SD Gothic Neo", "NanumGothic", "Yu Gothic", "Microsoft YaHei", "PingFang SC"),
)


def families() -> list[str]:
    """Font families for matplotlib, which takes each letter from the first that has it."""
    return list(_fonts())


def font_of(text: str, size: int) -> FreeTypeFont:
    """The font that draws a whole text, for Pillow.

    Where no font has all of its letters this is said once, and they are drawn as boxes.

    Args:
        text: What is to be drawn, see `composed`.
        size: In pixels.
    """
    fonts = _fonts()
    for family, (_, letters) in fonts.items():
        if all(ord(letter) in letters for letter in text):
            return _loaded(fonts[family][0], size)
    lacking = [
        letter for letter in text if all(ord(letter) not in known for _, known in fonts.values())
    ]
    warn_of_boxes("".join(dict.fromkeys(lacking)) or text)
    return _loaded(str(_SHIPPED), size)


def composed(text: str) -> str:
    """The text with whole syllables: file names from a Mac hold them in parts, as fonts do not."""
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=64)
def warn_of_boxes(letters: str) -> None:
    """Says which letters no font has; the same ones once.

    Args:
        letters: As they stand in the text.
    """
    say(
        f"No installed font has {letters[:20]}: drawn as boxes in images. Install one that has, "
        "for instance the Debian package fonts-noto-cjk."
    )


@lru_cache(maxsize=1)
def _fonts() -> dict[str, tuple[str, frozenset[int]]]:
    """File and letters by family, in the order in which they are asked."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    manager = font_manager.fontManager
    manager.addfont(_SHIPPED)
    installed = {entry.name for entry in manager.ttflist}
    files = {_LATIN: manager.findfont(_LATIN), FT2Font(str(_SHIPPED)).family_name: str(_SHIPPED)}
    for family in _INSTALLED:
        if family in installed:
            files.setdefault(family, manager.findfont(family))
    return {name: (file, frozenset(FT2Font(file).get_charmap())) for name, file in files.items()}


@lru_cache(maxsize=16)
def _loaded(path: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)
