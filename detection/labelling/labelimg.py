"""labelImg fixed for today's Python, in Pascal VOC, in a process of its own.

labelImg 1.8.6 is the last release. It passes floats where Python 3.10 and later insist on
integers and dies on the first mouse move, and on Python 3.12 it does not start at all. Its calls
are fixed here before its window opens. `detection.labelling.launch.label` starts this module as a
program.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from inspection.files.writing import atomic_path

CLASSES, LOG, STARTED = "classes.txt", "start.log", "started"
"""In the private folder: names offered, what a failed start printed, a file that says it did."""

_CRASH_STATUS = 70  # sysexits' "internal software error"


def main(arguments: Sequence[str]) -> int:
    """Runs labelImg in this process; `label` calls it with three or four folders.

    Args:
        arguments: Folder of images, folder of annotations, a private folder that holds the
            class names and takes the log of a failed start, and maybe a folder of proposals.

    Returns:
        The exit status.
    """
    images, annotations, folder, *more = (Path(argument) for argument in arguments)
    with _errors_into(folder / LOG):
        try:
            _mend_python_and_qt()
            app, window = _open_window(images, annotations, folder / CLASSES, *more)
        except Exception:
            traceback.print_exc()
            return 1
    (folder / STARTED).touch()
    with _guarded(app, window):
        status = app.exec_()
    # PyQt5 may crash while it tears its widgets down; all is saved, so nothing needs that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def _errors_into(log: Path) -> Iterator[None]:
    """Sends the error stream, that of C++ included, into a file."""
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _mend_python_and_qt() -> None:
    """Gives labelImg the Python and the PyQt5 that it was written for."""
    from PyQt5 import QtCore, QtGui, QtWidgets

    # Imported by labelImg and never used; gone from Python 3.12.
    if importlib.util.find_spec("distutils") is None:
        for name in ("distutils", "distutils.spawn"):
            sys.modules[name] = ModuleType(name)
    for owner, names in (
        (QtGui.QPainter, ("drawLine", "drawRect", "drawText")),
        (QtWidgets.QAbstractSlider, ("setValue",)),
        (QtWidgets.QSpinBox, ("setValue",)),
    ):
        for name in names:
            setattr(owner, name, _with_integers(getattr(owner, name)))
    if sys.platform.startswith("linux"):
        # Qt takes file names for text of the locale, which ssh and containers often leave at C.
        QtCore.QTextCodec.setCodecForLocale(QtCore.QTextCodec.codecForName("UTF-8"))


def _with_integers(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method with its float arguments cut to integers, as Python did before 3.10."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        return method(self, *(int(a) if isinstance(a, float) else a for a in arguments))

    return call


def _open_window(
    images: Path, annotations: Path, classes: Path, proposals: Path | None = None
) -> tuple[Any, Any]:
    """The application and its window, opened on `images`."""
    from labelImg import labelImg
    from PyQt5 import QtCore

    class Canvas(labelImg.Canvas):
        # Panning emits floats, which a signal of integers refuses.
        scrollRequest = QtCore.pyqtSignal(float, int)

    labelImg.Canvas = Canvas
    labelImg.Settings = _settings_class(labelImg, images, annotations)
    _mend_saving()
    _mend_main_window(labelImg)
    if proposals is not None:
        _show_proposals(labelImg, proposals)
    app, window = labelImg.get_main_app(
        [labelImg.__appname__, str(images), str(classes), str(annotations)]
    )
    window.actions.save_format.setEnabled(False)
    return app, window


def _settings_class(labelimg: ModuleType, images: Path, annotations: Path) -> type:
    """Settings of which some hold for this run only: the user's file keeps its own values."""
    ours = {
        labelimg.SETTING_LABEL_FILE_FORMAT: labelimg.LabelFileFormat.PASCAL_VOC,
        labelimg.SETTING_AUTO_SAVE: True,
        labelimg.SETTING_SAVE_DIR: str(annotations),
        labelimg.SETTING_LAST_OPEN_DIR: str(images),
        labelimg.SETTING_FILENAME: "",
    }

    class Settings(labelimg.Settings):
        def load(self) -> bool:
            loaded = super().load()
            if not isinstance(self.data, dict):
                self.data = {}
            self.theirs = {name: self.data[name] for name in ours if name in self.data}
            self.data.update(ours)
            # labelImg's own 600 x 500 leaves a 900-pixel image a third of its size.
            screen = labelimg.QApplication.primaryScreen().availableGeometry().size()
            size = labelimg.QSize(1280, 960).boundedTo(screen)
            self.data.setdefault(labelimg.SETTING_WIN_SIZE, size)
            return loaded

        def save(self) -> bool:
            if not self.path:
                return False
            kept = {name: value for name, value in self.data.items() if name not in ours}
            try:
                with atomic_path(os.path.realpath(self.path)) as temporary:
                    temporary.write_bytes(pickle.dumps(kept | self.theirs))
            except (OSError, pickle.PicklingError) as error:
                print(f"{self.path}: labelImg's settings were not saved ({error})")
                return False
            return True

    return Settings


def _mend_saving() -> None:
    """Makes labelImg write an annotation whole or not at all, and say when it could not."""
    from xml.etree import ElementTree

    from libs.labelFile import LabelFileError
    from libs.pascal_voc_io import XML_EXT, PascalVocWriter
    from lxml import etree

    write = PascalVocWriter.save

    def save(self: Any, target_file: str | None = None) -> None:
        target = target_file or self.filename + XML_EXT
        if not all(self.img_size):
            raise LabelFileError(f"{self.filename}: the image cannot be read")
        try:
            with atomic_path(target) as temporary:
                write(self, str(temporary))
        except (OSError, ValueError, SyntaxError) as error:
            # labelImg shows this one in a dialog and keeps the boxes as unsaved.
            raise LabelFileError(f"{target}: {error}") from error

    def prettify(self: Any, element: ElementTree.Element) -> bytes:
        # labelImg's own turns two spaces into a tab, also within names.
        root = etree.fromstring(ElementTree.tostring(element, "utf-8"))
        etree.indent(root, "\t")
        return etree.tostring(root, encoding="utf-8") + b"\n"

    PascalVocWriter.save = save
    PascalVocWriter.prettify = prettify


def _mend_main_window(labelimg: ModuleType) -> None:
    """Keeps labelImg in VOC mode and on the folder that it was given."""
    window = labelimg.MainWindow
    open_dir_dialog, set_format, load_file = (
        window.open_dir_dialog,
        window.set_format,
        window.load_file,
    )

    def open_asked_dir(
        self: Any, _value: bool = False, dir_path: str | None = None, silent: bool = False
    ) -> None:
        # The silent call at the start opens the last folder, or the parent of the one asked
        # for; that one follows by itself.
        if not silent:
            open_dir_dialog(self)

    def keep_voc(self: Any, _format: str) -> None:
        set_format(self, labelimg.FORMAT_PASCALVOC)

    def load_and_keep_place(self: Any, file_path: str | None = None) -> bool:
        loaded = load_file(self, file_path)
        if not loaded and file_path in self.m_img_list:
            # Else "next" leads from a broken image back to the first one, for ever.
            self.file_path = file_path
        return loaded

    def or_say(load: Callable[..., None]) -> Callable[..., None]:
        def call(self: Any, path: str, *more: str) -> None:
            try:
                load(self, path, *more)
            except Exception as error:
                self.status(f"{path} was skipped: {error}")

        return call

    window.open_dir_dialog = open_asked_dir
    window.set_format = keep_voc
    window.load_file = load_and_keep_place
    # Any .txt or .json named like an image is taken for YOLO or CreateML; many are neither.
    for name in ("load_yolo_txt_by_filename", "load_create_ml_json_by_filename"):
        setattr(window, name, or_say(getattr(window, name)))


def _show_proposals(labelimg: ModuleType, proposals: Path) -> None:
    """Shows a guess where an image has no annotation; labelImg does not save it by itself."""
    window = labelimg.MainWindow
    show = window.show_bounding_box_from_annotation_file

    def show_or_propose(self: Any, file_path: str) -> None:
        show(self, file_path)
        name = f"{Path(file_path).stem}.xml"
        guess = proposals / name
        if (Path(self.default_save_dir) / name).is_file() or not guess.is_file():
            return
        self.load_pascal_xml_by_filename(str(guess))
        # Boxes count as changed when they are put in; unsaved guesses must stay guesses.
        self.set_clean()
        self.actions.save.setEnabled(True)
        self.status("Proposed boxes: correct them and save with Ctrl+S, or nothing is kept")

    window.show_bounding_box_from_annotation_file = show_or_propose


@contextlib.contextmanager
def _guarded(app: Any, window: Any) -> Iterator[None]:
    """Saves the drawn boxes when the program is stopped or dies while painting."""
    from PyQt5 import QtCore

    stopped_by: list[int] = []

    def save() -> None:
        if window.dirty and window.file_path:
            # A box that still waits for its name has none.
            window.canvas.shapes = [shape for shape in window.canvas.shapes if shape.label]
            window.save_file()

    def stop(number: int, _frame: object) -> None:
        stopped_by.append(number)
        app.exit(128 + number)

    def report(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # Without a hook PyQt5 aborts on any error. Only an error within painting is fatal: Qt
        # crashes over the painter that was left open.
        traceback.print_exception(kind, error, trace)
        if any(frame.name == "paintEvent" for frame in traceback.extract_tb(trace)):
            try:
                save()
            finally:
                os._exit(_CRASH_STATUS)

    sys.excepthook = report
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    # Python sees a signal only when Qt calls it.
    awake = QtCore.QTimer()
    awake.timeout.connect(lambda: None)
    awake.start(200)
    yield
    if stopped_by:
        save()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
