"""A folder of labelImg's XML and the images it belongs to."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from detection.settings import ROOM
from inspection.cli.commands import command_line
from inspection.data.boxes import ImageLabels, clip_boxes, valid_boxes
from inspection.data.images import image_size, list_images
from inspection.data.voc import VocFile, guess, read_voc, write_voc
from inspection.errors import InputError
from inspection.files.listing import list_files

Unlabelled = Literal["skip", "normal"]

_LOG = logging.getLogger(__name__)


def list_annotations(annotations_dir: str | Path, problems: list[str] | None = None) -> list[Path]:
    """All XML files of a folder and the folders below it; see `listing.list_files`.

    Raises:
        InputError: The folder does not exist, or names are not UTF-8.
    """
    return list_files(annotations_dir, (".xml",), "annotations", problems)


def guess_problem(what: str) -> str:
    """Why an XML of `what`, see `voc.guess`, is no label, and what to do with it."""
    return (
        f"is {what} that nobody has looked at; open it with "
        f"`{command_line(ROOM, 'label', '--proposals', 'FOLDER')}`, correct it and save it, or "
        "remove the file"
    )


class ImageIndex:
    """Finds the image that an annotation means, by name, wherever it lies in the folder.

    Names are compared in Unicode's composed form, since a Mac stores Korean names decomposed,
    and without regard to case only where no exact name is found.

    Args:
        images_dir: The images folder.
        problems: See `inspection.files.listing.list_files`.

    Raises:
        InputError: The folder does not exist, or names are not UTF-8.
    """

    def __init__(self, images_dir: str | Path, problems: list[str] | None = None) -> None:
        self.folder = Path(images_dir)
        self.images = tuple(
            path.relative_to(self.folder).as_posix() for path in list_images(self.folder, problems)
        )
        self._known = frozenset(self.images)
        self._by_path = {_composed(image): image for image in self.images}
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for image in self.images:
            name = _composed(PurePosixPath(image).name)
            self._by_name.setdefault(name, []).append(image)
            # A name that is lower case already must not be entered twice.
            if name.casefold() != name:
                self._by_name.setdefault(name.casefold(), []).append(image)
            stem = _composed(PurePosixPath(image).stem).casefold()
            self._by_stem.setdefault(stem, []).append(image)

    def __contains__(self, image: object) -> bool:
        return image in self._known

    def find(self, name: str, parent: str = "") -> list[str]:
        """Images of this name or relative path; one in the folder `parent` before all others.

        Args:
            name: File name, or path relative to the images folder; any kind of slash.
            parent: Folder relative to the images folder.

        Returns:
            No, one, or several relative paths.
        """
        name = _composed(name.strip().replace("\\", "/"))
        near = (PurePosixPath(parent) / name).as_posix()
        for path in (near, name):
            if path in self._by_path:
                return [self._by_path[path]]
        base = PurePosixPath(name).name
        return self._by_name.get(base) or self._by_name.get(base.casefold()) or []

    def candidates(self, voc: VocFile, annotations_dir: Path) -> list[str]:
        """Images an XML file may belong to: by `<filename>`, else by the XML's own name.

        Args:
            voc: The XML file.
            annotations_dir: The folder it was found in.

        Returns:
            No, one, or several relative paths.
        """
        parent = _parent(voc.path.relative_to(annotations_dir).as_posix())
        found = self.find(voc.filename, parent) if voc.filename.strip() else []
        if not found:
            found = self._by_stem.get(_composed(voc.path.stem).casefold(), [])
            found = [item for item in found if _parent(item) == parent] or found
        return found

    def match(self, voc: VocFile, annotations_dir: Path) -> tuple[str, str]:
        """The one image an XML file belongs to.

        Args:
            voc: The XML file.
            annotations_dir: The folder it was found in.

        Returns:
            The image's relative path and "", or "" and a sentence that says what is wrong.
        """
        found = self.candidates(voc, annotations_dir)
        if len(found) == 1:
            return found[0], ""
        meant = voc.filename or voc.path.stem
        if found:
            return "", (
                f"{voc.path}: the image {meant!r} lies in {self.folder} more than once "
                f"({', '.join(found[:4])}); give the images different names"
            )
        return "", (
            f"{voc.path}: the image {meant!r} is not in {self.folder}; add the image, remove the "
            "XML file, or correct --images"
        )


def read_annotations(
    annotations_dir: str | Path,
    images_dir: str | Path,
    one_based: bool = False,
    unlabelled: Unlabelled = "skip",
    warnings: list[str] | None = None,
) -> list[ImageLabels]:
    """Reads all XML files of a folder.

    An image is found by `<filename>`, else by the XML's own name; `<path>` is ignored, because
    it is stale as soon as a folder moves. A box that reaches outside its image is clipped.

    Args:
        annotations_dir: Folder of XML files, searched recursively.
        images_dir: Folder of images, searched recursively.
        one_based: True for VOC-devkit files, see `inspection.data.voc.read_voc`.
        unlabelled: What an image without XML is: left out, or a normal image.
        warnings: Collects a sentence for each clipped box and each XML that states another
            image size; where left out, they are logged.

    Returns:
        One entry per image, sorted by image; `source` is relative to `annotations_dir`.

    Raises:
        InputError: An XML is malformed, its image is missing or not unique, two XML files
            name one image, or a box is zero-sized, inverted or outside; all of them at once.
    """
    folder = Path(annotations_dir)
    problems: list[str] = []
    index = ImageIndex(images_dir, problems)
    notes: list[str] = []
    labels: dict[str, ImageLabels] = {}
    for path in list_annotations(folder, problems):
        try:
            voc = read_voc(path, one_based, problems)
        except InputError as error:
            problems.extend(error.problems)
            continue
        if what := guess(voc):
            problems.append(f"{path}: {guess_problem(what)}")
            continue
        image, problem = index.match(voc, folder)
        if problem:
            problems.append(problem)
        elif image in labels:
            problems.append(
                f"{path}: names the image {image}, as {folder / labels[image].source} does; "
                "remove one of the two or correct its <filename>"
            )
        else:
            labels[image] = _labels(voc, image, index.folder, folder, problems, notes)
    if problems:
        raise InputError(problems)
    report(notes, warnings)
    if unlabelled == "normal":
        add_unlabelled(labels, index.images)
    return [labels[image] for image in sorted(labels)]


def to_voc(
    labels: Iterable[ImageLabels],
    images_dir: str | Path,
    out_dir: str | Path,
    overwrite: bool = False,
) -> list[Path]:
    """Writes one labelImg XML per image, normal images included.

    Args:
        labels: What to write.
        images_dir: Where the images lie, for their sizes.
        out_dir: Folder for the XML files; images in a folder keep it.
        overwrite: Whether XML files that exist may be replaced.

    Returns:
        The files written.

    Raises:
        InputError: An image is missing or unreadable, two images would share an XML file, or a
            file exists; then nothing is written.
    """
    images, out = Path(images_dir), Path(out_dir)
    problems: list[str] = []
    planned: dict[Path, tuple[ImageLabels, tuple[int, int]]] = {}
    for item in labels:
        name = PurePosixPath(item.image)
        name = PurePosixPath(name.name) if name.is_absolute() or ".." in name.parts else name
        path = out / name.with_suffix(".xml")
        if path in planned:
            problems.append(
                f"{item.image}: shares {path} with {planned[path][0].image}; give the images "
                "different names"
            )
            continue
        if path.exists() and not overwrite:
            problems.append(f"{path}: exists and is not replaced; choose an empty folder")
            continue
        try:
            planned[path] = item, image_size(images / item.image)
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    for path, (item, size) in planned.items():
        write_voc(
            path,
            item.image,
            (*size, 3),
            item.xyxy,
            item.label,
            item.difficult,
            folder=(images / item.image).parent.name,
        )
    return list(planned)


def boxes_within(
    boxes: Sequence[Sequence[float]],
    where: Sequence[str],
    size: tuple[int, int] | None,
    problems: list[str],
    notes: list[str],
) -> np.ndarray:
    """Boxes that training may rely on: with an area, and clipped to their image.

    Args:
        boxes: N boxes, edges in pixels as a human wrote them.
        where: N places, as "file, line 7", for the sentences.
        size: (width, height) of the image, or None where unknown.
        problems: Takes a sentence for each box that cannot be used.
        notes: Takes a sentence for each box that was clipped.

    Returns:
        (N, 4) float32.
    """
    written = np.asarray(boxes, np.float64).reshape(-1, 4)
    width, height = size or (np.inf, np.inf)
    clipped = clip_boxes(written, width, height)
    usable = valid_boxes(clipped)
    for place, box, after, good in zip(where, written, clipped, usable, strict=True):
        x1, y1, x2, y2 = box
        text = f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        frame = "the image" if size is None else f"the image of {width} x {height} pixels"
        if x1 == x2 or y1 == y2:
            problems.append(f"{place}: {text} has no area; draw it again or remove it")
        elif x1 > x2 or y1 > y2:
            problems.append(
                f"{place}: {text} is inverted (a maximum is smaller than its minimum); draw it "
                "again or swap the two"
            )
        elif not good:
            problems.append(f"{place}: {text} lies outside {frame}; draw it again or remove it")
        elif not np.array_equal(box.astype(np.float32), after):
            notes.append(f"{place}: {text} reaches outside {frame} and was clipped")
    return clipped


def add_unlabelled(labels: dict[str, ImageLabels], images: Iterable[str]) -> None:
    """Enters every image that has no labels yet as a normal one."""
    for image in images:
        labels.setdefault(image, ImageLabels(image, np.zeros((0, 4), np.float32)))


def report(notes: Sequence[str], warnings: list[str] | None) -> None:
    """Hands notes to the caller's list, or to the log, so that none is lost."""
    if warnings is not None:
        warnings.extend(notes)
        return
    for note in notes:
        _LOG.warning("%s", note)


def _labels(
    voc: VocFile,
    image: str,
    images_dir: Path,
    annotations_dir: Path,
    problems: list[str],
    notes: list[str],
) -> ImageLabels:
    source = voc.path.relative_to(annotations_dir).as_posix()
    try:
        size = image_size(images_dir / image)
    except InputError as error:
        problems.extend(error.problems)
        return ImageLabels(image, np.zeros((0, 4), np.float32), source=source)
    stated = (voc.width, voc.height)
    if all(stated) and stated != size:
        notes.append(
            f"{voc.path}: states an image of {stated[0]} x {stated[1]} pixels, {image} has "
            f"{size[0]} x {size[1]}; look whether its boxes still fit"
        )
    where = [f"{voc.path}, line {item.line}" for item in voc.objects]
    boxes = boxes_within([item.xyxy for item in voc.objects], where, size, problems, notes)
    return ImageLabels(
        image=image,
        xyxy=boxes,
        label=tuple(item.name for item in voc.objects),
        difficult=np.array([item.difficult for item in voc.objects], bool),
        source=source,
    )


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _parent(image: str) -> str:
    return PurePosixPath(image).parent.as_posix()
