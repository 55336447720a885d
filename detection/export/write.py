"""Exporting a detector to OpenVINO or ONNX, with a check that the file finds the same."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detection.data.dataset import read_labels, split_path
from detection.evaluation.snapshot import run_split_path, training_folder
from detection.export.exported import (
    METADATA_KEY,
    ExportedDetector,
    Format,
    Metadata,
    Picture,
    openvino_core,
)
from detection.export.parity import Parity, check_parity
from detection.export.quantisation import MAX_LOSS, Int8Change, check_loss, compare_int8, quantise
from detection.models.snapshots import snapshot_card
from inspection.data.boxes import ImageLabels
from inspection.data.split import load_split
from inspection.errors import InputError
from inspection.files.writing import atomic_path

if TYPE_CHECKING:
    from detection.models.detector import Detector

_CHECK_IMAGES = 5
_SUFFIX = {"openvino": ".xml", "onnx": ".onnx"}
_PACKAGES = {"openvino": ("onnx", "openvino"), "onnx": ("onnx", "onnxruntime")}


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares.

    Args:
        path: The model file; OpenVINO's weights are beside it in a `.bin`.
        format: `openvino` or `onnx`.
        megabytes: Size of all its files.
        parity: Of the float32 export.
        int8: What quantisation changed; None for a float32 file.
    """

    path: Path
    format: Format
    megabytes: float
    parity: Parity
    int8: Int8Change | None = None

    def lines(self) -> list[str]:
        """The report as sentences."""
        parity = self.parity
        found = [f"{self.path}: {self.format}, {self.megabytes:.1f} MB, decoding and NMS inside."]
        found.append(
            f"Parity on {parity.images} images: {parity.boxes} boxes compared, scores within "
            f"{parity.score_difference:.1e} (relative), edges within "
            f"{parity.box_difference:.1e} px."
            if parity.boxes
            else f"Unproved: neither model finds a box on the {parity.images} check images."
        )
        if self.int8 is None:
            return found
        change = self.int8
        if np.isnan(change.map_int8):
            found.append("int8: the change of mAP is unknown, no box was labelled.")
        else:
            found.append(
                f"int8: mAP {change.map_float32:.4f} -> {change.map_int8:.4f} "
                f"({-change.loss:+.4f}) on {change.images} images that it was not calibrated on."
            )
        if change.decisions is not None:
            found.append(
                f"int8: {change.decisions} of {change.images} decisions changed at the operating "
                "point."
            )
        return found


def export(
    detector: Detector,
    output: str | Path,
    format: Format = "openvino",
    *,
    int8: bool = False,
    calibration: Sequence[Picture] = (),
    held_out: Sequence[Picture] = (),
    held_out_labels: Sequence[ImageLabels] = (),
    max_int8_loss: float = MAX_LOSS,
    check_images: Sequence[Picture] = (),
    force: bool = False,
) -> ExportReport:
    """Writes a detector as one file that needs neither Keras nor TensorFlow.

    Every export is first compared with the detector on `check_images`; int8 is made from the
    export that passed, and measured on images that it was not calibrated on. Nothing is written
    where one of them does not pass.

    Args:
        detector: A loaded snapshot.
        output: The file to write; its suffix, `.xml` or `.onnx`, may be left out.
        format: `openvino` or `onnx`.
        int8: Quantise to 8-bit integers; OpenVINO only.
        calibration: Pictures that int8 is calibrated on, of the training part.
        held_out: Other pictures, on which is measured what int8 changes.
        held_out_labels: Their labels in the same order, for the change of mAP.
        max_int8_loss: An int8 model that loses more mAP is refused.
        check_images: Pictures to compare on; some must show defects.
        force: Write the file although nothing can be compared, or int8 loses more or unknowably
            much. A model that finds something else than the detector is never written.

    Returns:
        What was written and how it compares.

    Raises:
        InputError: An option does not fit, a package is missing, the exported model finds
            something else than the detector, or int8 loses too much.
        NotFinite: The detector holds a weight or gives something that is no finite number.
    """
    output = Path(output)
    if not output.suffix:
        output = output.with_suffix(_SUFFIX.get(format, ""))
    _check_options(output, format, int8, check_images)
    if int8:
        _check_int8(calibration, held_out, held_out_labels, force)
    metadata = metadata_of(detector)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".export.", dir=output.parent, ignore_cleanup_errors=True
    ) as folder:
        temporary = Path(folder) / output.name
        write_graph(detector, temporary, metadata)
        exported = ExportedDetector.load(temporary)
        parity = check_parity(detector, exported, check_images, force)
        change = None
        if int8:
            temporary = _write_int8(temporary, metadata, calibration)
            quantised = ExportedDetector.load(temporary)
            change = compare_int8(exported, quantised, held_out, held_out_labels)
            if not force:
                check_loss(change, max_int8_loss)
        files = _move(temporary, output)
    size = sum(file.stat().st_size for file in files) / 1e6
    return ExportReport(output, format, size, parity, change)


def _check_options(output: Path, format: str, int8: bool, check_images: Sequence[Picture]) -> None:
    if format not in _SUFFIX:
        raise InputError(f"--format is openvino or onnx, not {format!r}.")
    problems = []
    if output.suffix.lower() != _SUFFIX[format]:
        problems.append(f"{output}: an {format} export must end in {_SUFFIX[format]}.")
    if not len(check_images):
        problems.append("an export needs check images to compare it with the snapshot on.")
    if int8 and format != "openvino":
        problems.append("int8 is made for --format openvino only.")
    for package in (*_PACKAGES[format], *(("nncf",) if int8 else ())):
        # Looked for without importing: some of them take seconds.
        if find_spec(package) is None:
            problems.append(f"this export needs the package {package}: pip install {package}.")
    if problems:
        raise InputError(problems)


def _check_int8(
    calibration: Sequence[Picture],
    held_out: Sequence[Picture],
    labels: Sequence[ImageLabels],
    force: bool,
) -> None:
    problems = []
    if not len(calibration):
        problems.append("int8 needs calibration images; give pictures of the training part.")
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
    if problems:
        raise InputError(problems)


def _identity(picture: Picture) -> object:
    return id(picture) if isinstance(picture, np.ndarray) else Path(picture).absolute()


def metadata_of(detector: Detector) -> Metadata:
    """What an exported file must know of a detector."""
    anchors = json.dumps(detector.model.settings["anchors"], sort_keys=True)
    point = detector.operating_point
    return Metadata(
        classes=tuple(detector.classes),
        size=detector.size,
        fit=detector.fit,
        bits=detector.bits,
        operating_point=point and point.to_dict(),
        anchors_hash=hashlib.sha256(anchors.encode()).hexdigest(),
    )


def write_graph(detector: Detector, path: Path, metadata: Metadata) -> None:
    """Writes the float32 model in the format that the suffix names; not atomic.

    Args:
        detector: The model.
        path: `.xml` or `.onnx`.
        metadata: Written into the file.
    """
    import onnx

    from detection.export.onnx_graph import detector_graph

    proto = detector_graph(detector.model, detector.size)
    onnx.helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    if path.suffix.lower() == ".onnx":
        path.write_bytes(proto.SerializeToString())
        return
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder) / "model.onnx"
        source.write_bytes(proto.SerializeToString())
        _save_openvino(openvino.convert_model(source), path, metadata)


def _save_openvino(model: Any, path: Path, metadata: Metadata) -> None:
    import openvino

    model.set_rt_info(metadata.to_json(), [METADATA_KEY])
    # Half-precision weights, the default, would move scores by more than the parity allows.
    openvino.save_model(model, path, compress_to_fp16=False)


def _write_int8(source: Path, metadata: Metadata, calibration: Sequence[Picture]) -> Path:
    """Writes the int8 version of an OpenVINO file into a folder beside it."""
    model = quantise(openvino_core().read_model(source), metadata, calibration)
    target = source.parent / "int8" / source.name
    target.parent.mkdir()
    _save_openvino(model, target, replace(metadata, precision="int8"))
    return target


def _move(temporary: Path, output: Path) -> list[Path]:
    """Puts the finished files in their places."""
    pairs = [(temporary, output)]
    if output.suffix.lower() == ".xml":
        # OpenVINO's two files cannot be replaced at once. Without its graph the old model is
        # gone, which is said when it is loaded; with foreign weights it would find nonsense.
        output.unlink(missing_ok=True)
        pairs.insert(0, (temporary.with_suffix(".bin"), output.with_suffix(".bin")))
    for source, target in pairs:
        with atomic_path(target) as place:
            shutil.copyfile(source, place)
    return [target for _, target in pairs]


def export_snapshot(
    snapshot: Path,
    output: Path | None = None,
    format: Format = "openvino",
    int8: bool = False,
    say: Callable[[str], None] = print,
    annotations: Path | None = None,
    images: Path | None = None,
    max_int8_loss: float = MAX_LOSS,
    force: bool = False,
) -> ExportReport:
    """Exports a snapshot, checked on its validation part; int8 is calibrated on the training part.

    Args:
        snapshot: A `.keras` file.
        output: The file to write; beside the snapshot where left out.
        format: `openvino` or `onnx`.
        int8: Quantise to 8-bit integers.
        say: Told what is done and how the result compares.
        annotations: Folder of labels; the training's where left out.
        images: Folder of images; the training's where left out.
        max_int8_loss: As for `export`.
        force: As for `export`.

    Raises:
        InputError: As `export`, or the validation part cannot be read.
    """
    if format not in _SUFFIX:
        raise InputError(f"--format is openvino or onnx, not {format!r}.")
    labels, trained, folder = export_parts(snapshot, annotations, images, say)
    from detection.models.detector import Detector

    detector = Detector.load(snapshot)
    if int8 and not trained:  # of other folders than the training's
        labels, trained = labels[::2], labels[1::2]
    pictures = [folder / item.image for item in labels]
    with_boxes = [path for path, item in zip(pictures, labels, strict=True) if len(item)]
    spread = np.linspace(0, len(with_boxes) - 1, min(_CHECK_IMAGES, len(with_boxes)))
    check = [with_boxes[index] for index in spread.round().astype(int)]
    check += [path for path, item in zip(pictures, labels, strict=True) if not len(item)][:1]
    name = f"{snapshot.stem}_int8" if int8 else snapshot.stem
    say(f"Comparing on {len(check)} validation images" + ("; int8 takes minutes." if int8 else "."))
    report = export(
        detector,
        output or snapshot.with_name(name),
        format,
        int8=int8,
        calibration=[folder / item.image for item in trained] if int8 else (),
        held_out=pictures if int8 else (),
        held_out_labels=labels if int8 else (),
        max_int8_loss=max_int8_loss,
        check_images=check,
        force=force,
    )
    for line in report.lines():
        say(line)
    return report


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
        say: Told what was mended in the labels.

    Raises:
        InputError: The folders or the split are gone.
    """
    card = snapshot_card(snapshot)
    origin, told = card.provenance, card.extra
    elsewhere = annotations is not None or images is not None
    annotations = annotations or training_folder(origin.annotations, "annotations")
    images = images or training_folder(origin.data, "images_900")
    labels = read_labels(
        annotations, images, told.get("one_based", False), told.get("unlabelled", "skip"), say
    )
    folder = snapshot.resolve().parent
    # The run's own copy first: the stored split may have grown since.
    stored_ones = [split_path(annotations, parent) for parent in (folder, folder.parent)]
    places = [run_split_path(snapshot, origin.run), *stored_ones]
    path = next((place for place in places if place and place.is_file()), None)
    parts = load_split(path).assignments if path else {}
    chosen = [item for item in labels if parts.get(item.image) == "val"]
    trained = [item for item in labels if parts.get(item.image) == "train"]
    if elsewhere and not chosen:
        chosen = [item for item in labels if parts.get(item.image) != "train"]
    if not chosen:
        raise InputError(
            f"{annotations}: holds no validation part of this model, which an export is compared "
            "on; name the folders of the training, or others with images that it has not seen, by "
            "--annotations and --images."
        )
    return chosen, trained, images
