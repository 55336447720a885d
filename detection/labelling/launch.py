"""Labelling: labelImg on the project's folders, in Pascal VOC.

labelImg runs in a process of its own, so that nothing it does can harm the caller; how it is
brought to run on today's Python is in `detection/labelling/labelimg.py`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from detection.labelling.labelimg import CLASSES, LOG, STARTED
from detection.settings import ROOM
from inspection.cli.commands import command_line, own_environment
from inspection.errors import InputError

_DISPLAY_MEND = (
    "run this on a desktop, or over ssh -X; missing system packages are listed in "
    "packages-debian.txt"
)
_REINSTALL = "install it with: pip install -r requirements.txt"


def label(
    images: str | Path = "images_900",
    annotations: str | Path = "annotations",
    classes: Sequence[str] | None = None,
    proposals: str | Path | None = None,
) -> int:
    """Opens labelImg on a folder of images and returns when its window is closed.

    Boxes are saved as Pascal-VOC XML whatever format labelImg was last used with, and are saved
    by themselves when the user goes to another image. labelImg's other settings stay the
    user's own.

    Args:
        images: Folder of images, searched with its subfolders.
        annotations: Folder of the XML files; made where missing.
        classes: Names offered for each box. Where left out, those found in `annotations` and
            `proposals`.
        proposals: Folder of guessed boxes as XML. An image without an annotation shows its
            guess; only what is saved becomes an annotation.

    Returns:
        0, or the exit status of a labelImg that crashed, which is also reported on the error
        stream; what was saved until then stays.

    Raises:
        InputError: There is nothing to label, nowhere to save, an annotation that labelImg
            would overwrite unread, no labelImg, or no display.
    """
    images, annotations = Path(images).absolute(), Path(annotations).absolute()
    stems, problems = _images_by_stem(images)
    found, unreadable = _classes_found(annotations, stems)
    problems += unreadable
    if proposals is not None:
        proposals = Path(proposals).absolute()
        if not proposals.is_dir():
            problems.append(f"--proposals {proposals}: there is no such folder; correct the path")
        elif proposals == annotations:
            problems.append(
                f"--proposals {proposals}: is the folder of the annotations; guesses need one of "
                "their own"
            )
        guessed, unreadable = _classes_found(proposals, stems)
        found, problems = sorted({*found, *guessed}), problems + unreadable
    names, faults = (found, []) if classes is None else _checked_classes(classes)
    problems += faults
    for package in ("labelImg", "PyQt5"):
        if importlib.util.find_spec(package) is None:
            problems.append(f"labelling needs {package}, which is not installed; {_REINSTALL}")
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        problems.append(f"labelImg needs a display: {_DISPLAY_MEND}")
    if not problems:
        try:
            annotations.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=annotations).close()
        except OSError as error:
            problems.append(
                f"{annotations}: nothing can be saved there ({error.strerror}); name another "
                "folder with --annotations"
            )
    if problems:
        raise InputError(problems)
    with tempfile.TemporaryDirectory(prefix="labelling-") as folder:
        (Path(folder) / CLASSES).write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
        return _run(images, annotations, Path(folder), proposals)


def _images_by_stem(images: Path) -> tuple[set[str], list[str]]:
    """Stems of the images and what is wrong with the folder; labelImg names XML by the stem."""
    from inspection.data.images import list_images

    if not images.is_dir():
        return set(), [
            f"{images}: there is no such folder of images; name the right one, or bring "
            f"images there with: {command_line(ROOM, 'resize', 'SRC')}"
        ]
    same: dict[str, list[str]] = defaultdict(list)
    for path in list_images(images):
        same[os.path.normcase(path.stem)].append(path.relative_to(images).as_posix())
    if not same:
        return set(), [
            f"{images}: the folder holds no images; bring some with: "
            f"{command_line(ROOM, 'resize', 'SRC')}"
        ]
    return set(same), [
        f"{images}: {' and '.join(paths)} would share the annotation {stem}.xml, and one would "
        "overwrite the other; rename one of them"
        for stem, paths in same.items()
        if len(paths) > 1
    ]


def _classes_found(annotations: Path, stems: set[str]) -> tuple[list[str], list[str]]:
    """Class names in the XML files, and the files that labelImg could not read.

    labelImg shows an image without boxes when its annotation cannot be read, and overwrites
    the file with the next box: such a file has to be fixed first.
    """
    from inspection.data.voc import read_voc

    names: set[str] = set()
    problems: list[str] = []
    for path in sorted(annotations.glob("[!.]*.xml")):
        try:
            content = read_voc(path)
        except InputError as error:
            if os.path.normcase(path.stem) in stems:
                problems += error.problems
                problems.append(
                    f"{path}: labelImg cannot read this file and would overwrite it; fix it, or "
                    "move it away to label its image anew"
                )
            continue
        if not content.filename and os.path.normcase(path.stem) in stems:
            problems.append(
                f"{path}: has no <filename>, without which labelImg shows no boxes and "
                "overwrites the file; add the image's file name"
            )
        names.update(item.name.strip() for item in content.objects)
    return sorted(names), problems


def _checked_classes(classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Class names without doubles, and those that a list of one name a line cannot hold."""
    names = [name.strip() for name in ((classes,) if isinstance(classes, str) else classes)]
    problems = [
        f"--classes: {name!r} is no class name; use printable characters"
        for name in names
        if not name or not name.isprintable()
    ]
    return list(dict.fromkeys(names)), problems


def _run(images: Path, annotations: Path, folder: Path, proposals: Path | None) -> int:
    """Starts labelImg, waits for its end, and says so when that was not the user's doing."""
    # -P keeps a folder named "libs" in the working directory from hiding labelImg's own; -X utf8
    # lets labelImg read and print any file name under any locale.
    command = [sys.executable, "-P", "-X", "utf8", "-m", "detection.labelling.labelimg"]
    folders = [images, annotations, folder, *([proposals] if proposals else [])]
    process = subprocess.Popen([*command, *map(str, folders)], env=_environment())
    try:
        status = process.wait()
    except BaseException:
        # On Ctrl-C labelImg saves and leaves; the wait gives it the time.
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    if status and not (folder / STARTED).exists():
        raise InputError(_why_not_started(folder / LOG, status))
    if status:
        end = f"by signal {-status}" if status < 0 else f"with status {status}"
        print(
            f"labelImg ended {end}; the boxes saved until then are in {annotations}",
            file=sys.stderr,
        )
    return status if status >= 0 else 128 - status


def _environment() -> dict[str, str]:
    """This process's environment, without what would keep Qt from opening a window."""
    environment = own_environment()
    for name in ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR", "QT_PLUGIN_PATH"):
        # OpenCV with a GUI points Qt at its own plugins, which PyQt5 cannot load.
        if "cv2" in environment.get(name, ""):
            del environment[name]
    if environment.get("QT_QPA_PLATFORM", "").partition(":")[0] in ("offscreen", "minimal"):
        del environment["QT_QPA_PLATFORM"]
    return environment


def _why_not_started(log: Path, status: int) -> str:
    """One sentence instead of the pages that Qt and Python print."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    library = _missing_library(text) or (_missing_library(_load_xcb()) if "xcb" in text else "")
    if library:
        return (
            f"labelImg cannot open a window: the system library {library} is missing; install "
            "the packages listed in packages-debian.txt"
        )
    if "qt.qpa" in text or "platform plugin" in text:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY", "")
        return f"labelImg needs a display and cannot use {display!r}: {_DISPLAY_MEND}"
    reason = ([line.strip() for line in text.splitlines() if line.strip()] or [""])[-1]
    return (
        f"labelImg did not start ({reason or f'exit status {status}'}); {_REINSTALL}, and if "
        "that does not help, move ~/.labelImgSettings.pkl away"
    )


def _missing_library(text: str) -> str:
    for line in text.splitlines():
        before, found, _ = line.partition(": cannot open shared object file")
        if found:
            return before.split()[-1]
    return ""


def _load_xcb() -> str:
    """What the loader says about Qt's X11 plugin: Qt itself does not name a missing library."""
    code = (
        "import ctypes, os; from PyQt5.QtCore import QLibraryInfo as Q; "
        "ctypes.CDLL(os.path.join(Q.location(Q.PluginsPath), 'platforms', 'libqxcb.so'))"
    )
    probe = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, errors="replace"
    )
    return probe.stderr
