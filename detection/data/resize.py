"""Raw camera files to square PNG images, their boxes carried along."""

from __future__ import annotations

import functools
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from detection.data.annotations import ImageIndex, boxes_within, guess_problem, list_annotations
from detection.data.resize_record import read_record, same_result, with_record
from detection.data.resize_sources import describe_sources
from inspection.data.boxes import clip_boxes
from inspection.data.images import IMAGE_SUFFIXES, encode_image, image_size, list_images, read_image
from inspection.data.letterbox import Fit, FitMode, fit_for
from inspection.data.voc import FITTED, guess, is_sealed, read_voc, seal, whole_boxes, write_voc
from inspection.errors import InputError
from inspection.files.listing import name_problems
from inspection.files.writing import atomic_path, file_hash
from inspection.progress import Progress, silent


@dataclass(frozen=True)
class ResizeResult:
    """What `resize` did.

    Args:
        written: Images written.
        unchanged: Images that were up to date and left alone.
        annotations: XML files written.
        kept: XML files that stay because a human saved them.
        problems: One sentence for each source that could not be done; the command line exits
            with status 2 if there are any.
    """

    written: int
    unchanged: int
    annotations: int
    kept: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """One source image, its XML if it has one, and the settings."""

    source: Path
    source_xml: Path | None
    image: Path
    xml: Path | None
    size: int
    mode: FitMode
    bits: int
    one_based: bool
    force: bool


@dataclass(frozen=True)
class _Done:
    written: bool = False
    annotated: bool = False
    kept: bool = False
    problems: tuple[str, ...] = ()


def resize(
    src: str | Path,
    images_dir: str | Path,
    annotations_dir: str | Path | None = None,
    size: int = 900,
    mode: FitMode = "letterbox",
    bits: int = 16,
    force: bool = False,
    source_annotations: str | Path | None = None,
    one_based: bool = False,
    on_progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> ResizeResult:
    """Brings images of any size and kind to `size` x `size` PNG, and their boxes with them.

    Results lie in one folder without subfolders, as labelImg expects it. A second run does
    only what is new or changed; an image that fails is listed, and the others are done.

    Args:
        src: One image or a folder of images, searched recursively.
        images_dir: Folder for the images.
        annotations_dir: Folder for the XML files; none are carried along where left out.
        size: Side of the results in pixels.
        mode: `letterbox` keeps the aspect ratio and pads, `stretch` fills.
        bits: How many bits of a 16-bit file the camera fills.
        force: Whether to replace images and XML files that this function did not write.
        source_annotations: Folder of the sources' XML files; beside the images where left out.
        one_based: True for VOC-devkit files, see `inspection.data.voc.read_voc`.
        on_progress: Called with the number of images done and of all.
        say: Told, before anything is written, which images are taken.

    Returns:
        Counts and problems.

    Raises:
        InputError: `src` or `source_annotations` does not exist or holds no image.
        ValueError: `size`, `mode` or `bits` is out of range.
    """
    fit_for(size, size, size, mode)
    if not 8 <= bits <= 16:
        raise ValueError(f"bits must lie within 8 and 16, not {bits}")
    src, images_dir = Path(src), Path(images_dir)
    sources = _sources(src, images_dir)
    problems: list[str] = []
    xml_of = _source_xml(src, sources, source_annotations, problems)
    for line in describe_sources(src, sources, xml_of, bits):
        say(line)
    out_xml = None if annotations_dir is None else Path(annotations_dir)
    jobs = [
        _Job(
            source,
            xml_of.get(source),
            images_dir / f"{source.stem}.png",
            None if out_xml is None else out_xml / f"{source.stem}.xml",
            *(size, mode, bits, one_based, force),
        )
        for source in _distinct(sources, problems)
    ]
    done: list[_Done] = []
    skipped = len(sources) - len(jobs)
    # Decoding and resizing release the interpreter lock, so threads do use the cores.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for result in pool.map(_work, jobs):
            done.append(result)
            on_progress(skipped + len(done), len(sources))
    return _result(done, problems)


def _result(done: Sequence[_Done], problems: Sequence[str]) -> ResizeResult:
    written = sum(item.written for item in done)
    failed = sum(bool(item.problems) and not item.written for item in done)
    return ResizeResult(
        written=written,
        unchanged=len(done) - written - failed,
        annotations=sum(item.annotated for item in done),
        kept=sum(item.kept for item in done),
        problems=(*problems, *(problem for item in done for problem in item.problems)),
    )


def _sources(src: Path, images_dir: Path) -> list[Path]:
    results = images_dir.resolve()
    if src.is_dir():
        sources = list_images(src)
        if results != src.resolve():
            # Results below the source folder are no sources of the next run.
            sources = [path for path in sources if results not in path.resolve().parents]
    elif not src.exists():
        raise InputError(f"{src}: there is no such file or folder; correct the path")
    elif src.is_file() and src.suffix.lower() in IMAGE_SUFFIXES:
        if names := name_problems([src]):
            raise InputError(names)
        sources = [src]
    else:
        raise InputError(f"{src}: is no image and no folder; give PNG, JPEG, BMP or TIFF files")
    if not sources:
        raise InputError(f"{src}: holds no PNG, JPEG, BMP or TIFF image; give another folder")
    return sources


def _distinct(sources: list[Path], problems: list[str]) -> list[Path]:
    """Sources that do not share their result with another one."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for source in sources:
        # Windows and Mac file systems do not tell case apart.
        by_name[source.stem.casefold()].append(source)
    for same in by_name.values():
        if len(same) > 1:
            problems.append(
                f"{', '.join(map(str, same))}: would all become {same[0].stem}.png; give them "
                "different names"
            )
    return [source for source in sources if len(by_name[source.stem.casefold()]) == 1]


def _source_xml(
    src: Path, sources: list[Path], folder: str | Path | None, problems: list[str]
) -> dict[Path, Path]:
    """The XML file of each source that has one."""
    if folder is None:
        beside = {source: source.with_suffix(".xml") for source in sources}
        return {source: path for source, path in beside.items() if path.is_file()}
    folder = Path(folder)
    index = ImageIndex(src if src.is_dir() else src.parent)
    found: dict[Path, Path] = {}
    strays: list[str] = []
    for path in list_annotations(folder):
        try:
            image, problem = index.match(read_voc(path), folder)
        except InputError:
            # Its image is the one named alike; working on that one lists what is wrong.
            found.update({source: path for source in sources if source.stem == path.stem})
            continue
        source = index.folder / image
        if problem:
            strays.append(path.name)
        elif source in found:
            problems.append(f"{path}: names {source}, as {found[source]} does; remove one")
        else:
            found[source] = path
    if strays and src.is_dir():
        problems.append(
            f"{folder}: {len(strays)} XML files belong to no single image of {src} and are not "
            f"carried along ({', '.join(strays[:3])}); add their images or remove them"
        )
    return found


def _work(job: _Job) -> _Done:
    try:
        return _fit_one(job)
    except InputError as error:
        return _Done(problems=error.problems)
    except OSError as error:
        return _Done(
            problems=(
                f"{job.source}: its result {error.filename or job.image} cannot be written "
                f"({error.strerror}); make room or check the permissions",
            )
        )


def _fit_one(job: _Job) -> _Done:
    fit = fit_for(*image_size(job.source), job.size, job.mode)
    record = _record(job, fit)
    before = read_record(job.image)
    fresh = same_result(before, record) and not job.force
    in_place = job.image.exists() and job.image.samefile(job.source)
    if in_place or job.source.resolve().parent == job.image.resolve().parent:
        if not in_place or fit.source != (job.size, job.size):
            raise InputError(
                f"{job.source}: lies in the folder of the results; put source images into another "
                "folder"
            )
        fresh = True
    elif not fresh:
        _may_replace(job, before, record)
    problems: tuple[str, ...] = ()
    try:
        carried = _carried(job, fit)
    except InputError as error:
        # An image that is there and its boxes change together or not at all.
        if job.image.exists() and not fresh:
            raise
        problems, carried = error.problems, _Carried()
    if not fresh:
        content = encode_image(fit.apply(read_image(job.source, job.bits)), ".png")
        with atomic_path(job.image) as temporary:
            temporary.write_bytes(with_record(content, record))
    if carried.write is not None:
        carried.write()
    return _Done(not fresh, carried.write is not None, carried.kept, problems)


def _may_replace(job: _Job, before: dict[str, object] | None, record: dict[str, object]) -> None:
    """Refuses to touch images and labels that are not this function's own."""
    if job.force:
        return
    if job.image.exists() and before is None:
        raise InputError(
            f"{job.source}: {job.image} exists and was not made by resize; remove it, or replace "
            "it with --force"
        )
    if before is None:
        return
    if any(before.get(key, record[key]) != record[key] for key in ("file", "folder")):
        raise InputError(
            f"{job.source}: {job.image} was made from another file of that name; give one of them "
            "another name, or replace it with --force"
        )
    decisive = ("source", "size", "mode", "sha256")
    moved = any(before.get(key) != record[key] for key in decisive)
    if not moved or job.xml is None or not job.xml.exists():
        return
    if job.source_xml is None or not is_sealed(job.xml, FITTED):
        raise InputError(
            f"{job.source}: the boxes in {job.xml} fit the present {job.image.name} and would not "
            "fit the new one; move both away, or replace them with --force"
        )


@dataclass(frozen=True)
class _Carried:
    """What is to be done about an XML: write the transformed one, or keep a human's."""

    write: Callable[[], None] | None = None
    kept: bool = False


def _carried(job: _Job, fit: Fit) -> _Carried:
    """Reads and transforms the XML; nothing is written yet."""
    if job.xml is None or job.source_xml is None:
        return _Carried()
    if job.xml.exists():
        if job.xml.samefile(job.source_xml):
            return _Carried(kept=True)
        if not job.force and not is_sealed(job.xml, FITTED):
            return _Carried(kept=True)
    voc = read_voc(job.source_xml, job.one_based)
    if what := guess(voc):
        raise InputError(f"{job.source_xml}: {guess_problem(what)}")
    stated = (voc.width, voc.height)
    if all(stated) and stated != fit.source:
        raise InputError(
            f"{job.source_xml}: states an image of {stated[0]} x {stated[1]} pixels, {job.source} "
            f"has {fit.source[0]} x {fit.source[1]}; correct <size> if the boxes fit the image"
        )
    problems: list[str] = []
    outside: list[str] = []
    where = [f"{job.source_xml}, line {item.line}" for item in voc.objects]
    boxes = boxes_within([item.xyxy for item in voc.objects], where, fit.source, problems, outside)
    # Clipped once and stored, a box drawn on another image would never show again.
    problems += [
        f"{note.removesuffix(' and was clipped')}; draw it again, or correct the edge"
        for note in outside
    ]
    if problems:
        raise InputError(problems)
    fitted = clip_boxes(fit.to_fitted(boxes), job.size, job.size)
    edges = whole_boxes(fitted, job.size, job.size)
    label = [item.name for item in voc.objects]
    difficult = [item.difficult for item in voc.objects]
    database = seal(FITTED, edges, label, difficult)
    if job.xml.exists() and not job.force and read_voc(job.xml).database == database:
        return _Carried()
    write = functools.partial(
        write_voc,
        job.xml,
        job.image.name,
        (job.size, job.size, 3),
        edges,
        label,
        difficult,
        folder=job.image.resolve().parent.name,
        image_path=job.image.resolve(),
        database=database,
    )
    return _Carried(write)


def _record(job: _Job, fit: Fit) -> dict[str, object]:
    """What decides the pixels of the result."""
    return {
        "file": job.source.name,
        "folder": hashlib.sha256(str(job.source.resolve().parent).encode()).hexdigest()[:12],
        "sha256": file_hash(job.source),
        "source": list(fit.source),
        "size": fit.size,
        "mode": fit.mode,
        "bits": job.bits,
    }
