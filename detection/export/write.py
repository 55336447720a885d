"""Exporting a detector to OpenVINO or ONNX, with a check that the file finds the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detection.data.dataset import read_labels
from detection.evaluation.snapshot import find_folders, run_folder_of, stored_split
from detection.export.exported import ExportedDetector
from detection.export.parity import check_parity
from detection.export.quantisation import MAX_LOSS, Int8Change, check_loss, compare_int8, quantise
from detection.models.decision import Image
from detection.models.snapshots import snapshot_card
from detection.settings import ROOM
from inspection.cli.arguments import refuse
from inspection.cli.console import counted
from inspection.data.boxes import ImageLabels
from inspection.data.images import list_images, path_problems
from inspection.errors import InputError
from inspection.export import write as writing
from inspection.export.runtimes import openvino_core
from inspection.models.card import ModelCard
from inspection.training.run import BEST, model_file
from inspection.training.run_images import parts_of

if TYPE_CHECKING:
    from detection.models.detector import Detector

_CHECK_IMAGES = 10


@dataclass(frozen=True)
class ExportReport(writing.ExportReport):
    """What was written, and how it compares.

    Args:
        int8: What quantisation changed; None for a float32 file.
    """

    int8: Int8Change | None = None

    def lines(self) -> list[str]:
        """The report as sentences."""
        return [*super().lines(), *(self.int8.lines() if self.int8 else [])]


def export(
    detector: Detector,
    output: Path,
    *,
    int8: bool = False,
    calibration: Sequence[Image] = (),
    held_out: Sequence[Image] = (),
    held_out_labels: Sequence[ImageLabels] = (),
    max_int8_loss: float = MAX_LOSS,
    check_images: Sequence[Image] = (),
    force: bool = False,
) -> ExportReport:
    """Writes a detector as one file that needs neither Keras nor TensorFlow.

    Every export is first compared with the detector on `check_images`; int8 is made from the
    export that passed, and measured on images that it was not calibrated on. Nothing is written
    where one of them does not pass.

    Args:
        detector: A loaded snapshot.
        output: The file to write, `.xml` or `.onnx`.
        int8: Quantise to 8-bit integers; OpenVINO only.
        calibration: Images that int8 is calibrated on, of the training part.
        held_out: Other images, on which is measured what int8 changes.
        held_out_labels: Their labels in the same order, for the change of mAP.
        max_int8_loss: An int8 model that loses more mAP is refused.
        check_images: Images to compare on; some must show defects.
        force: Write the file although nothing can be compared, or int8 loses more or unknowably
            much. A model that finds something else than the detector is never written.

    Returns:
        What was written and how it compares.

    Raises:
        InputError: An option does not fit, a package is missing, the exported model finds
            something else than the detector, or int8 loses too much.
        NotFinite: The detector holds a weight or gives something that is no finite number.
    """
    problems = writing.export_problems(output, ROOM, *(["nncf"] if int8 else []))
    problems += writing.images_problems(check_images)
    if int8:
        problems += _int8_problems(output, calibration, held_out, held_out_labels, force)
    refuse(problems)
    change = None
    with writing.placed_when_done(output) as temporary:
        write_graph(detector, temporary)
        exported = ExportedDetector.load(temporary)
        parity = check_parity(detector, exported, check_images, force)
        if int8:
            _make_int8(detector, temporary, calibration)
            quantised = ExportedDetector.load(temporary)
            change = compare_int8(exported, quantised, held_out, held_out_labels)
            if not force:
                check_loss(change, max_int8_loss)
        megabytes = writing.size_mb(temporary)
    return ExportReport(output, megabytes, parity, change)


def _format_problems(output: Path) -> list[str]:
    if output.suffix.lower() == ".xml":
        return []
    return ["int8 is made for --format openvino only."]


def _int8_problems(
    output: Path,
    calibration: Sequence[Image],
    held_out: Sequence[Image],
    labels: Sequence[ImageLabels],
    force: bool,
) -> list[str]:
    problems = _format_problems(output)
    if not len(calibration):
        problems.append("int8 needs calibration images; give images of the training part.")
    if not (len(held_out) and len(labels)) and not force:
        problems.append(
            "int8 needs held-out images and their labels, to measure what it costs; give those of "
            "the validation part."
        )
    if labels and len(labels) != len(held_out):
        problems.append(
            f"{len(labels)} labels were given for {len(held_out)} held-out images; there must be "
            "one each."
        )
    both = {_identity(one) for one in calibration} & {_identity(one) for one in held_out}
    if both:
        problems.append(
            f"{len(both)} images are among the calibration and among the held-out images; what "
            "int8 costs is not to be measured on what it was calibrated on."
        )
    return problems


def _identity(image: Image) -> object:
    return id(image) if isinstance(image, np.ndarray) else Path(image).absolute()


def exported_card(detector: Detector, precision: str = "float32") -> ModelCard:
    """What an exported file must know of a detector."""
    anchors = json.dumps(detector.model.settings["anchors"], sort_keys=True)
    digest = hashlib.sha256(anchors.encode()).hexdigest()
    extra = {**detector.card.extra, "anchors_hash": digest, "precision": precision}
    return detector.card.model_copy(update={"extra": extra})


def write_graph(detector: Detector, path: Path) -> None:
    """Writes the float32 model in the format that the suffix names; not atomic.

    Args:
        detector: The model.
        path: `.xml` or `.onnx`.
    """
    from detection.export.onnx_graph import detector_graph

    graph = detector_graph(detector.model, detector.size)
    writing.write_graph(graph, path, exported_card(detector))


def _make_int8(detector: Detector, path: Path, calibration: Sequence[Image]) -> None:
    """Puts the int8 version of an OpenVINO file in its place."""
    model = openvino_core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    model = quantise(model, detector.card.preparation, calibration)
    writing.write_openvino(model, path, exported_card(detector, "int8"))


def export_snapshot(
    snapshot: Path,
    output: Path | None = None,
    format: str = "openvino",
    int8: bool = False,
    say: Callable[[str], None] = print,
    annotations: Path | None = None,
    images: Path | None = None,
    max_int8_loss: float = MAX_LOSS,
    force: bool = False,
) -> ExportReport:
    """Exports a snapshot, checked on its validation part; int8 is calibrated on the training part.

    Args:
        snapshot: A `.keras` file, or a run's folder, whose best it is then.
        output: The file to write; beside the snapshot where left out.
        format: `openvino` or `onnx`.
        int8: Quantise to 8-bit integers.
        say: Receives lines about what is done and how the result compares.
        annotations: Folder of labels; the training's where left out.
        images: Folder of images; the training's where left out. Alone and without int8, they
            need no labels and are all compared on.
        max_int8_loss: As for `export`.
        force: As for `export`.

    Raises:
        InputError: As `export`, or the images cannot be read.
    """
    snapshot = model_file(snapshot, BEST)
    name = f"{snapshot.stem}_int8" if int8 else snapshot.stem
    output = writing.output_path(output, snapshot.with_name(f"{name}.keras"), format)
    problems = path_problems([images] if images else [])
    refuse(problems + (_format_problems(output) if int8 else []))
    labels: list[ImageLabels] = []
    calibration: list[Path] = []
    held_out: list[Path] = []
    if images is not None and annotations is None and not int8:
        check = _spread(list_images(images))
    else:
        labels, trained, folder = export_parts(snapshot, annotations, images, say)
        if int8 and not trained:  # of other folders than the training's
            labels, trained = labels[::2], labels[1::2]
        held_out = [folder / item.image for item in labels]
        calibration = [folder / item.image for item in trained]
        has_boxes = [bool(len(item)) for item in labels]
        check = _spread([path for path, has in zip(held_out, has_boxes, strict=True) if has])
        check += [path for path, has in zip(held_out, has_boxes, strict=True) if not has][:1]
    problems = writing.images_problems(check)
    if int8:
        problems += _int8_problems(output, calibration, held_out, labels, force)
    refuse(problems + writing.export_problems(output, ROOM, *(["nncf"] if int8 else [])))
    from detection.models.detector import Detector

    detector = Detector.load(snapshot)
    say(f"Comparing on {counted(len(check), 'image')}" + ("; int8 takes minutes." if int8 else "."))
    report = export(
        detector,
        output,
        int8=int8,
        calibration=calibration,
        held_out=held_out,
        held_out_labels=labels,
        max_int8_loss=max_int8_loss,
        check_images=check,
        force=force,
    )
    for line in report.lines():
        say(line)
    return report


def _spread(paths: list[Path]) -> list[Path]:
    """A few of many, evenly spread."""
    places = np.linspace(0, len(paths) - 1, min(_CHECK_IMAGES, len(paths)))
    return [paths[index] for index in places.round().astype(int)]


def export_parts(
    snapshot: Path,
    annotations: Path | None = None,
    images: Path | None = None,
    say: Callable[[str], None] = print,
) -> tuple[list[ImageLabels], list[ImageLabels], Path]:
    """The labels of a snapshot's validation and training part, and the folder of their images.

    Of folders that are named and hold none of the validation part, all images that the training
    has not seen stand for it.

    Args:
        snapshot: The file, beside which the run's split is looked for.
        annotations: Folder of labels; the training's where left out.
        images: Folder of images; the training's where left out.
        say: Receives lines about what was fixed in the labels.

    Raises:
        InputError: The folders or the split are gone.
    """
    card = snapshot_card(snapshot)
    origin, told = card.provenance, card.extra
    place = find_folders(snapshot, card, annotations, images, say)
    annotations, images = place.annotations, place.images
    labels = read_labels(
        annotations, images, told.get("one_based", False), told.get("unlabelled", "skip"), say
    )
    parts = parts_of(
        labels,
        run_folder_of(snapshot, origin.run),
        path_of=lambda item: images / item.image,
        instead=stored_split(snapshot, origin.run, annotations),
    )
    placed = list(zip(labels, parts, strict=True))
    chosen = [item for item, part in placed if part == "val"]
    trained = [item for item, part in placed if part == "train"]
    if place.named and not chosen:
        chosen = [item for item, part in placed if part != "train"]
    if not chosen:
        raise InputError(
            f"{annotations}: holds no validation part of this model, which an export is compared "
            "on; name the folders of the training by --annotations and --images, or other images "
            "by --images alone."
        )
    return chosen, trained, images
