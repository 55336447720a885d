"""Exported models as files: which they are, and what stands in them beside the graph.

A file is one graph and, under a key inside it, the model's card. OpenVINO's `.xml` has its weights
beside it in a `.bin`. Neither runtime is needed to read the card.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lxml import etree

SUFFIXES: dict[str, str] = {"openvino": ".xml", "onnx": ".onnx"}
CARD_KEY = "card"

_METADATA = 14  # of an ONNX model: entries of a key (1) and a value (2)
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # protobuf's wire types


def is_exported(path: str | Path) -> bool:
    """Whether a path is named as an exported file is."""
    return Path(path).suffix.lower() in SUFFIXES.values()


def exported_files(path: Path) -> list[Path]:
    """The file, and OpenVINO's weights beside it."""
    return [path, path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path]


def read_metadata(path: Path) -> dict[str, str]:
    """What an exported file holds beside its graph, by key.

    Args:
        path: `.xml` or `.onnx`.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file.
    """
    content = path.read_bytes()
    if path.suffix.lower() == ".onnx":
        entries = [
            dict(message_fields(value))
            for number, value in message_fields(memoryview(content))
            if number == _METADATA and isinstance(value, memoryview)
        ]
        pairs = ((entry.get(1, b""), entry.get(2, b"")) for entry in entries)
        return {_text(key): _text(value) for key, value in pairs}
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"it is no XML: {error}") from error
    return {item.tag: item.get("value", "") for item in root.iterfind("rt_info/*[@value]")}


def _text(value: int | bytes | memoryview) -> str:
    if isinstance(value, int):
        raise ValueError("its metadata are no text")
    return str(value, "utf-8")


def message_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protobuf message.

    Raises:
        ValueError: It is none.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire = key & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, place = _varint(message, place)
        elif wire in (_EIGHT, _FOUR):
            length = 8 if wire == _EIGHT else 4
        else:
            raise ValueError("it is no ONNX file")
        if place + length > len(message):
            raise ValueError("it ends too early")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("it ends too early")
