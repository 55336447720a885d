"""Everything that is wrong with a folder of labels, found in one pass."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from detection.data.annotations import ImageIndex, guess_problem, list_annotations
from detection.data.table import CSV_NAME, survey_table
from detection.settings import ROOM
from inspection.cli.commands import command_line
from inspection.data.images import read_image
from inspection.data.split import equal_files
from inspection.data.voc import VocFile, VocObject, guess, read_voc
from inspection.errors import InputError, alike, one_line

KINDS = (
    "file name",
    "malformed XML",
    "boxes nobody has looked at",
    "missing image",
    "unreadable image",
    "image size",
    "box outside",
    "zero or inverted box",
    "unknown class",
    "similar class",
    "duplicate box",
    "duplicate image",
    "image without XML",
    "stale path",
    "malformed table",
)

_GROUPED = 5  # equal problems that still get a line each


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        file: The file to open.
        where: Line or field in it, or "".
        kind: One of `KINDS`.
        message: What is wrong, and the fix.
        repaired: True where reading puts it right by itself; such a one is no error.
    """

    file: str
    where: str
    kind: str
    message: str
    repaired: bool = False


def check(
    annotations_dir: str | Path,
    images_dir: str | Path,
    classes: Sequence[str] | None = None,
    one_based: bool = False,
) -> list[Problem]:
    """Looks at all XML files and images of a data set; every image is decoded once.

    Minima of 0 and maxima equal to the image's width or height are legal.

    Args:
        annotations_dir: Folder of XML files, searched recursively.
        images_dir: Folder of images, searched recursively.
        classes: The class names that may occur; every name may where left out.
        one_based: True for VOC-devkit files, see `inspection.data.voc.read_voc`.

    Returns:
        All problems, sorted by file and line; the labels are in order when none of them is
        without `repaired`.

    Raises:
        InputError: One of the folders does not exist, or there is nothing to look at.
    """
    missing = [
        f"{folder}: is no folder; give the folder that holds the {what}"
        for folder, what in ((annotations_dir, "annotations"), (images_dir, "images"))
        if not Path(folder).is_dir()
    ]
    if missing:
        raise InputError(missing)
    names: list[str] = []
    index = ImageIndex(images_dir, names)
    files = list_annotations(annotations_dir, names)
    if not index.images and not files and not names:
        raise InputError(
            f"{annotations_dir} and {images_dir}: hold neither XML nor an image; bring images "
            f"there with `{command_line(ROOM, 'resize')}`, then label them"
        )
    survey = _Survey(Path(annotations_dir), files, index, classes, one_based)
    for sentence in names:
        place, _, message = sentence.partition(": ")
        survey.add(place, "", "file name", message)
    survey.read()
    survey.compare_classes()
    survey.compare_images()
    survey.read_table()
    return sorted(survey.problems, key=lambda item: (item.file, _line(item.where), item.kind))


class _Survey:
    """What one pass over the files has seen so far."""

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        index: ImageIndex,
        classes: Sequence[str] | None,
        one_based: bool,
    ) -> None:
        self.folder = folder
        self.files = files
        self.index = index
        self.classes = None if classes is None else tuple(classes)
        self.one_based = one_based
        self.problems: list[Problem] = []
        self.labelled: dict[str, Path] = {}
        # Class name -> file -> first line there.
        self.places: dict[str, dict[str, int]] = defaultdict(dict)
        self.uses: Counter[str] = Counter()
        self.sizes: dict[str, tuple[int, int]] = {}

    def add(
        self, file: Path | str, where: str, kind: str, message: str, repaired: bool = False
    ) -> None:
        self.problems.append(Problem(str(file), where, kind, one_line(message), repaired))

    def read(self) -> None:
        """Reads every image and every XML file."""
        with ThreadPoolExecutor() as pool:  # decoding leaves the interpreter's lock
            sizes = pool.map(_size_or_error, (self.index.folder / i for i in self.index.images))
            for image, size in zip(self.index.images, sizes, strict=True):
                if isinstance(size, InputError):
                    path = self.index.folder / image
                    self._sentences(path, "unreadable image", size.problems)
                else:
                    self.sizes[image] = size
        for path in self.files:
            fields: list[str] = []
            try:
                voc = read_voc(path, self.one_based, fields)
            except InputError as error:
                self._sentences(path, "malformed XML", error.problems)
                # The image is labelled, however badly: it is not reported a second time.
                unread = VocFile(path, "", "", 0, 0, 0, ())
                for image in self.index.candidates(unread, self.folder):
                    self.labelled.setdefault(image, path)
                continue
            self._sentences(path, "malformed XML", fields)
            if what := guess(voc):
                self.add(path, "database", "boxes nobody has looked at", guess_problem(what))
            self._image(voc)
            self._objects(voc)

    def _sentences(self, path: Path, kind: str, problems: Sequence[str]) -> None:
        for sentence in problems:
            rest = sentence.removeprefix(str(path)).removeprefix(one_line(str(path)))
            found = re.match(r"(?:, (line \d+))?: (.*)", rest, re.S)
            where, message = (found[1] or "", found[2]) if found else ("", sentence)
            self.add(path, where, kind, message)

    def _image(self, voc: VocFile) -> None:
        found = self.index.candidates(voc, self.folder)
        if len(found) != 1:
            _, sentence = self.index.match(voc, self.folder)
            kind = "duplicate image" if found else "missing image"
            self.add(voc.path, "filename", kind, sentence.removeprefix(f"{voc.path}: "))
            return
        image = found[0]
        if image in self.labelled:
            self.add(
                voc.path,
                "filename",
                "duplicate image",
                f"{self.labelled[image]} names the image {image} too; remove one of the two "
                "files or correct its <filename>",
            )
        self.labelled.setdefault(image, voc.path)
        self._stale(voc, image)
        stated, size = (voc.width, voc.height), self.sizes.get(image)
        if size is not None and not all(stated):
            self.add(
                voc.path,
                "size",
                "image size",
                f"states {stated[0]} x {stated[1]} pixels; those of {image} are taken, "
                f"{size[0]} x {size[1]}",
                repaired=True,
            )
        if size is not None and all(stated) and stated != size:
            self.add(
                voc.path,
                "size",
                "image size",
                f"states {stated[0]} x {stated[1]} pixels, {image} has {size[0]} x {size[1]}; if "
                "the image was resized, carry its boxes along with "
                f"`{command_line(ROOM, 'resize')}`, else correct <size>",
            )

    def _stale(self, voc: VocFile, image: str) -> None:
        if voc.filename.strip() and not self.index.find(voc.filename):
            self.add(
                voc.path,
                "filename",
                "stale path",
                f"{voc.filename!r} is not there; {image} is taken, which is named as the XML is",
                repaired=True,
            )
        written = voc.image_path.strip()
        if written and not _same_file(written, self.index.folder / image):
            moved = PureWindowsPath(written).name
            self.add(
                voc.path,
                "path",
                "stale path",
                f"{written!r} is not where {moved} lies now; {image} is taken by its name",
                repaired=True,
            )

    def _objects(self, voc: VocFile) -> None:
        found = self.index.candidates(voc, self.folder)
        size = self.sizes.get(found[0]) if len(found) == 1 else None
        if size is None and voc.width and voc.height:
            size = (voc.width, voc.height)
        for item in voc.objects:
            where = f"line {item.line}"
            self.uses[item.name] += 1
            self.places[item.name].setdefault(str(voc.path), item.line)
            self._box(voc.path, where, item, size)
            if self.classes is not None and item.name not in self.classes:
                self.add(voc.path, where, "unknown class", self._unknown(item.name))
        self._duplicates(voc)

    def _duplicates(self, voc: VocFile) -> None:
        seen: dict[VocObject, int] = {}
        for item in voc.objects:
            if item in seen:
                self.add(
                    voc.path,
                    f"line {item.line}",
                    "duplicate box",
                    f"the {item.name} box {_edges(item)} stands on line {seen[item]} already; "
                    "remove one",
                )
            seen.setdefault(item, item.line)

    def _box(self, path: Path, where: str, item: VocObject, size: tuple[int, int] | None) -> None:
        if item.xmax <= item.xmin or item.ymax <= item.ymin:
            inverted = item.xmax < item.xmin or item.ymax < item.ymin
            fault = "is inverted, a maximum is below its minimum" if inverted else "has no area"
            self.add(
                path,
                where,
                "zero or inverted box",
                f"the {item.name} box {_edges(item)} {fault}; draw it again or remove it",
            )
        width, height = size or (float("inf"), float("inf"))
        xs, ys = (item.xmin, item.xmax), (item.ymin, item.ymax)
        if min(*xs, *ys) < 0 or max(xs) > width or max(ys) > height:
            frame = f"of {width} x {height} pixels" if size else "(an edge is below 0)"
            self.add(
                path,
                where,
                "box outside",
                f"the {item.name} box {_edges(item)} reaches outside the image {frame}; draw it "
                "again (training clips it)",
            )

    def _unknown(self, name: str) -> str:
        near = [known for known in self.classes or () if _plain(known) == _plain(name)]
        mend = f"write {near[0]!r}" if near else "correct it or add it to the list"
        return f"the class {name!r} is not in the class list; {mend}"

    def compare_classes(self) -> None:
        """Finds names that differ only in case or space: the rarer one is the mistake."""
        spellings: dict[str, list[str]] = defaultdict(list)
        for name in self.uses:
            spellings[_plain(name)].append(name)
        for names in spellings.values():
            known = [name for name in names if name in (self.classes or ())]
            right = max(known or names, key=lambda name: (self.uses[name], name))
            for name in names:
                for file, line in self.places[name].items() if name != right else ():
                    self.add(
                        file,
                        f"line {line}",
                        "similar class",
                        f"the class {name!r} ({self.uses[name]} boxes) differs from {right!r} "
                        f"({self.uses[right]} boxes) only in case or space; write {right!r}",
                    )

    def compare_images(self) -> None:
        """Finds images with equal content."""
        paths = {image: self.index.folder / image for image in self.index.images}
        for first, *others in equal_files(paths):
            for image in others:
                self.add(
                    paths[image],
                    "",
                    "duplicate image",
                    f"has the same content as {first}; remove one of the two, with its XML",
                )

    def read_table(self) -> None:
        """Reports images without labels, those aside that a table calls normal."""
        path = self.folder / CSV_NAME
        listed: set[str] = set()
        if path.is_file():
            lines: list[str] = []
            try:
                labels, gone = survey_table(path, self.index, lines)
            except InputError as error:
                labels, gone, lines = [], [], list(error.problems)
            self._sentences(path, "malformed table", lines)
            listed = {item.image for item in labels if not (item.source and self.files)}
            for item in gone:
                # Beside XML files a row that came from one is made again with them.
                if item.source and self.files:
                    continue
                fix = "its rows are dropped" if self.files else "add it or remove its rows"
                self.add(
                    path,
                    "",
                    "missing image",
                    f"the image {item.image!r} is not in {self.index.folder}; {fix}",
                    repaired=bool(self.files),
                )
        for image in self.index.images:
            if image not in self.labelled and image not in listed:
                self.add(
                    self.index.folder / image,
                    "",
                    "image without XML",
                    "has no labels and is not used; label it, or save it in labelImg without a "
                    "box if it is normal",
                )


def group_findings(problems: Sequence[Problem]) -> list[tuple[Problem, list[str]]]:
    """Problems that differ only in file, name or number, those to be fixed before the others.

    Args:
        problems: As `check` returns them.

    Returns:
        The first of each group, with the files and lines of all; groups of up to five stay apart.
    """
    groups: dict[tuple[bool, str, str], list[Problem]] = defaultdict(list)
    for item in sorted(problems, key=lambda problem: problem.repaired):
        groups[item.repaired, item.kind, alike(f": {item.message}")].append(item)
    found = []
    for same in groups.values():
        apart = [[item] for item in same] if len(same) <= _GROUPED else [same]
        found += [(part[0], list(map(_place, part))) for part in apart]
    return found


def _place(problem: Problem) -> str:
    line = f" {problem.where}" if problem.where.startswith("line ") else ""
    return f"{Path(problem.file).name}{line}"


def _size_or_error(path: Path) -> tuple[int, int] | InputError:
    try:
        height, width = read_image(path).shape[:2]
    except InputError as error:
        return error
    return width, height


def _same_file(written: str, image: Path) -> bool:
    try:
        return Path(written).samefile(image)
    except (OSError, ValueError):
        return False


def _edges(item: VocObject) -> str:
    return f"({', '.join(f'{edge:g}' for edge in item.xyxy)})"


def _plain(name: str) -> str:
    return "".join(name.split()).casefold()


def _line(where: str) -> int:
    number = where.removeprefix("line ")
    return int(number) if number.isdecimal() else 0
