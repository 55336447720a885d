"""What an image that `resize` wrote says of its making, in a text chunk of the PNG file."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

_RECORD = b"inspection-fit"
"""Keyword of the PNG text chunk that says what the image was made from."""

_HEADER_END = 33
"""Bytes of a PNG file's signature and header chunk."""


def same_result(before: dict[str, object] | None, record: dict[str, object]) -> bool:
    """Whether an image was made from this content by these settings, wherever it lay."""
    decisive = ("sha256", "source", "size", "mode", "bits")
    return before is not None and all(before.get(key) == record[key] for key in decisive)


def with_record(png: bytes, record: dict[str, object]) -> bytes:
    """A PNG file with the record as a text chunk behind its header (PNG 1.2, section 4.2.3)."""
    body = b"tEXt" + _RECORD + b"\0" + json.dumps(record).encode("ascii")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_HEADER_END] + chunk + png[_HEADER_END:]


def read_record(path: Path) -> dict[str, object] | None:
    """The record of a PNG file that `resize` wrote, else None."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_END + 4096)
    except OSError:
        return None
    start, prefix = _HEADER_END + 8, _RECORD + b"\0"
    if head[start - 4 : start + len(prefix)] != b"tEXt" + prefix:
        return None
    (length,) = struct.unpack(">I", head[start - 8 : start - 4])
    try:
        record = json.loads(head[start + len(prefix) : start + length])
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
