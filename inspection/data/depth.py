"""How many bits of its 16 a camera fills: what `--bits` should say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from inspection.data.images import is_deep
from inspection.errors import InputError

_CAMERAS = (8, 10, 12, 14)
_LOOKED_AT = 32  # images


def bits_note(paths: Sequence[Path], bits: int) -> str:
    """A sentence where 16-bit images come out dark, or white, with these bits; "" where not.

    Args:
        paths: The images, of which at most 32 are looked at, evenly spread.
        bits: As `--bits` says.
    """
    spread = paths[:: max(1, len(paths) // _LOOKED_AT)][:_LOOKED_AT]
    values = [value for path in spread if (value := _largest_value(path)) is not None]
    highest = max(values, default=0)
    seen = f"the brightest value in the 16-bit images is {highest} ({len(values)} looked at)"
    if highest >= 2**bits:
        return f"{seen}, more than --bits {bits} takes: what lies above comes out white"
    fits = next((few for few in _CAMERAS if highest < 2**few), 16)
    if not highest or fits >= bits:
        return ""
    return f"{seen}: they come out {2 ** (bits - fits)} times too dark; give --bits {fits}"


def _largest_value(path: Path) -> int | None:
    """The largest sample of an image of 16 bits; None for any other file."""
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8) if is_deep(path) else None
    except (InputError, OSError):
        return None
    samples = None if content is None else cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return int(samples.max()) if samples is not None and samples.dtype == np.uint16 else None
