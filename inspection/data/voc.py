"""labelImg's Pascal-VOC XML, in and out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from lxml import etree
from numpy.typing import ArrayLike

from inspection.data.boxes import as_boxes
from inspection.errors import MOST_ECHOED, InputError
from inspection.files.writing import atomic_path

MAX_BYTES = 16 * 2**20
"""A file of 100,000 boxes stays below this; what is larger is no annotation of one image."""

# The origins, see `seal`, of files that no person has saved.
PROPOSAL = "proposed by inspection"
PREDICTION = "predicted by inspection"
FITTED = "fitted by inspection"
GUESSES = {PROPOSAL: "a proposal", PREDICTION: "a prediction"}
"""Those whose boxes a program guessed, which are no labels, and what such a file is called."""


@dataclass(frozen=True)
class VocObject:
    """One `<object>`: a class name and the edges of its box in pixels, as written."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False
    line: int = field(default=0, compare=False)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge in pixels."""
        return self.xmin, self.ymin, self.xmax, self.ymax


@dataclass(frozen=True)
class VocFile:
    """One XML file.

    Args:
        path: Where the file lies.
        filename: The `<filename>` element, or "".
        image_path: The `<path>` element, or ""; often stale, so nothing relies on it.
        width: Image width in pixels, 0 where absent.
        height: Image height in pixels, 0 where absent.
        depth: Channels, 0 where absent.
        objects: The boxes in file order.
        database: The `<source><database>` element, or "".
    """

    path: Path
    filename: str
    image_path: str
    width: int
    height: int
    depth: int
    objects: tuple[VocObject, ...]
    database: str = ""

    @property
    def xyxy(self) -> np.ndarray:
        """(N, 4) float32 edges in pixels."""
        return as_boxes([item.xyxy for item in self.objects])


def read_voc(
    path: str | Path, one_based: bool = False, problems: list[str] | None = None
) -> VocFile:
    """Reads one annotation file; numbers are taken as written, zero-sized boxes included.

    Nothing outside the file is ever opened: document types and entities are refused.

    Args:
        path: The XML file.
        one_based: True for files of the VOC devkit, whose first pixel is 1: both minima are
            lowered by 1. labelImg's files are not such.
        problems: Takes a sentence for each field that is missing or wrong, and the objects that
            hold one are left out; without it such a file is an error.

    Returns:
        The file's content.

    Raises:
        InputError: The file is missing, too large, not XML, or a field is missing or is not a
            number; every such field is one problem with its line.
    """
    path = Path(path)
    root = _parse(path)
    found: list[str] = []
    width, height, depth = (_size(path, root, name, found) for name in _SIZE_FIELDS)
    objects = [_object(path, element, one_based, found) for element in root.iterfind("object")]
    if found:
        if problems is None:
            raise InputError(found)
        problems += found
    return VocFile(
        path=path,
        filename=_text(root.find("filename")),
        image_path=_text(root.find("path")),
        width=width,
        height=height,
        depth=depth,
        objects=tuple(item for item in objects if item is not None),
        database=_text(root.find("source/database")),
    )


def write_voc(
    path: str | Path,
    image: str,
    size: tuple[int, int, int],
    xyxy: ArrayLike,
    label: Sequence[str],
    difficult: Sequence[bool] | np.ndarray | None = None,
    folder: str = "",
    image_path: str | Path | None = None,
    database: str = "Unknown",
) -> None:
    """Writes an annotation as labelImg does: same elements, same order, whole numbers.

    Edges are rounded as `whole_boxes` says; a minimum of 0 stays 0.

    Args:
        path: The XML file to write, atomically.
        image: The image's file name; folders before it are left out, as labelImg does.
        size: (width, height, channels) of the image.
        xyxy: (N, 4) edges in pixels.
        label: N class names.
        difficult: N flags; none set where left out.
        folder: The `<folder>` element.
        image_path: The `<path>` element; left out where None.
        database: The `<source><database>` element.

    Raises:
        InputError: A name holds characters that XML cannot carry.
        ValueError: The numbers of boxes, names and flags differ.
    """
    width, height, depth = (int(value) for value in size)
    boxes = as_boxes(xyxy)
    flags = [False] * len(boxes) if difficult is None else [bool(flag) for flag in difficult]
    if not len(boxes) == len(label) == len(flags):
        raise ValueError(f"{len(boxes)} boxes, {len(label)} labels, {len(flags)} flags")
    root = etree.Element("annotation")
    try:
        _add(root, "folder", folder)
        _add(root, "filename", PurePosixPath(image).name)
        if image_path is not None:
            _add(root, "path", str(image_path))
        _add(_add(root, "source"), "database", database)
        element = _add(root, "size")
        for name, value in zip(_SIZE_FIELDS, (width, height, depth), strict=True):
            _add(element, name, str(value))
        _add(root, "segmented", "0")
        for box, name, flag in zip(whole_boxes(boxes, width, height), label, flags, strict=True):
            _add_object(root, box.tolist(), name, flag, (width, height))
    except ValueError as error:
        raise InputError(
            f"{path}: the annotation of {image} cannot be written as XML ({error}); rename the "
            "image or class so that it holds no control characters"
        ) from error
    etree.indent(root, "\t")
    with atomic_path(path) as temporary:
        temporary.write_bytes(etree.tostring(root, encoding="utf-8") + b"\n")


def whole_boxes(xyxy: ArrayLike, width: int, height: int) -> np.ndarray:
    """Boxes as labelImg can store them: whole numbers, no box thinner than a pixel.

    Edges are rounded, where labelImg truncates: rounding moves no box on average.

    Args:
        xyxy: (N, 4) edges in pixels.
        width: Image width in pixels; 0 where unknown.
        height: Image height in pixels; 0 where unknown.

    Returns:
        (N, 4) int64.
    """
    boxes = as_boxes(xyxy).astype(np.float64)
    whole = np.floor(boxes + 0.5).astype(np.int64)
    for axis, limit in ((0, width), (1, height)):
        thin = whole[:, axis + 2] <= whole[:, axis]
        low = np.floor(boxes[:, axis]).astype(np.int64)
        whole[thin, axis] = (np.minimum(low, limit - 1) if limit else low)[thin]
        whole[thin, axis + 2] = whole[thin, axis] + 1
    return whole


_SIZE_FIELDS = ("width", "height", "depth")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def seal(
    origin: str, edges: np.ndarray, label: Sequence[str], difficult: Sequence[bool] = ()
) -> str:
    """A `<database>` text that says who wrote a file, and breaks when a human changes it.

    Args:
        origin: What wrote it.
        edges: (N, 4) whole edges as they are written.
        label: N class names.
        difficult: N flags, where any could be set.
    """
    content = json.dumps([edges.tolist(), list(label), [int(flag) for flag in difficult]])
    return f"{origin} {hashlib.sha256(content.encode()).hexdigest()[:16]}"


def is_sealed(path: str | Path, origin: str) -> bool:
    """Whether a file is as `origin` wrote it; a damaged one counts as a human's."""
    try:
        voc = read_voc(path)
    except InputError:
        return False
    label = [item.name for item in voc.objects]
    difficult = [item.difficult for item in voc.objects]
    return voc.database == seal(origin, voc.xyxy.astype(np.int64), label, difficult)


def guess(voc: VocFile) -> str:
    """What a file is whose boxes a program guessed, see `GUESSES`; "" where a person saved it."""
    found = (origin for origin in GUESSES if voc.database.startswith(origin))
    return next((GUESSES[origin] for origin in found if is_sealed(voc.path, origin)), "")


def _parse(path: Path) -> etree._Element:
    """The root element, after everything that could make parsing unsafe was refused."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    if len(content) > MAX_BYTES:
        raise InputError(
            f"{path}: is larger than {MAX_BYTES // 2**20} MB, which no annotation of one image "
            "is; remove it from the annotations folder"
        )
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    doctype = b"<!DOCTYPE" in content.upper()
    try:
        root = None if doctype else etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = str(getattr(error, "msg", None) or error).splitlines()[0:1]
        raise InputError(
            f"{path}, line {line}: is not well-formed XML ({''.join(reason)}); label the image "
            "again in labelImg or restore the file (text must be UTF-8)"
        ) from error
    # The test above sees ASCII-compatible encodings only; UTF-16 shows after parsing.
    if root is None or root.getroottree().docinfo.doctype:
        raise InputError(
            f"{path}: has a document type declaration, which is refused as unsafe; remove the "
            "<!DOCTYPE ...> part"
        )
    if root.tag != "annotation":
        raise InputError(
            f"{path}, line {root.sourceline}: the outermost element is <{root.tag}>, not "
            "<annotation>; only Pascal-VOC files as labelImg writes them belong here"
        )
    return root


def _object(
    path: Path, element: etree._Element, one_based: bool, problems: list[str]
) -> VocObject | None:
    before = len(problems)
    line = element.sourceline or 0
    name = _text(element.find("name"))
    if not name.strip():
        problems.append(f"{path}, line {line}: the object has no <name>; give it a class name")
    elif len(name) > MOST_ECHOED:
        problems.append(
            f"{path}, line {line}: the class name has {len(name)} characters; give it one of at "
            f"most {MOST_ECHOED}"
        )
    box = element.find("bndbox")
    if box is None:
        problems.append(f"{path}, line {line}: the object has no <bndbox>; draw its box again")
        return None
    edges = [_number(path, box, edge, problems) for edge in _EDGES]
    flag = element.find("difficult")
    difficult = _number(path, element, "difficult", problems) if _text(flag) else 0.0
    if len(problems) > before:
        return None
    shift = 1.0 if one_based else 0.0
    xmin, ymin, xmax, ymax = edges
    return VocObject(name, xmin - shift, ymin - shift, xmax, ymax, bool(difficult), line)


def _size(path: Path, root: etree._Element, name: str, problems: list[str]) -> int:
    parent = root.find("size")
    if parent is None or not _text(parent.find(name)):
        return 0
    value = _number(path, parent, name, problems)
    if value < 0 or value > 2**31 or value != int(value):
        line = parent.find(name).sourceline
        problems.append(
            f"{path}, line {line}: <{name}> is {value:g}; it must be a whole number of pixels"
        )
        return 0
    return int(value)


def _number(path: Path, parent: etree._Element, name: str, problems: list[str]) -> float:
    element = parent.find(name)
    text = _text(element).strip()
    line = (parent if element is None else element).sourceline
    if not text:
        problems.append(f"{path}, line {line}: <{name}> is missing or empty; draw the box again")
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # Beyond float32's range a box would turn infinite later, far from the file that says so.
    if not abs(value) < 1e9:
        problems.append(
            f"{path}, line {line}: <{name}> is {text[:40]!r}; it must be a number of pixels"
        )
        return 0.0
    return value


def _text(element: etree._Element | None) -> str:
    """Text without the line breaks and tabs of an indented file; spaces are the writer's."""
    return "" if element is None else (element.text or "").strip("\r\n\t")


def _add_object(
    root: etree._Element,
    edges: list[int],
    name: str,
    difficult: bool,
    size: tuple[int, int],
) -> None:
    element = _add(root, "object")
    _add(element, "name", name)
    _add(element, "pose", "Unspecified")
    # labelImg calls a box truncated that touches an edge as it writes edges: from 1 to the size.
    touches = min(edges[:2]) <= 1 or edges[2] >= size[0] or edges[3] >= size[1]
    _add(element, "truncated", str(int(touches)))
    _add(element, "difficult", str(int(difficult)))
    box = _add(element, "bndbox")
    for edge, value in zip(_EDGES, edges, strict=True):
        _add(box, edge, str(value))


def _add(parent: etree._Element, name: str, text: str | None = None) -> etree._Element:
    element = etree.SubElement(parent, name)
    element.text = text
    return element
