"""Exported models in use: with OpenVINO or ONNX Runtime, without Keras and TensorFlow."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from detection.models.decision import Picture, decided
from detection.models.decoding import MAX_DETECTIONS, MIN_SCORE
from inspection.data.images import as_rgb
from inspection.data.letterbox import Fit, FitMode
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError, first_line
from inspection.export.graph_weights import check_onnx, check_openvino
from inspection.finite import NotFinite, check_finite, names_file
from inspection.models.card import ModelCard, parse_card
from inspection.models.old_cards import EXPORTED_DETECTOR
from inspection.prediction.detections import Detections

if TYPE_CHECKING:
    from detection.models.detector import Detector

Format = Literal["openvino", "onnx"]
SUFFIXES: dict[str, Format] = {".xml": "openvino", ".onnx": "onnx"}
METADATA_KEY = "detection"
"""Under this key the metadata stand as JSON in `rt_info` or `metadata_props`."""

# Takes one fitted image (1, size, size, 3) uint8 and returns boxes, scores and labels.
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Metadata:
    """What an exported file says about itself.

    Args:
        classes: Class names; the graph's labels are places in it.
        size: Side of the fitted image in pixels.
        fit: How pictures of other sizes are fitted.
        bits: Bits per sample of 16-bit files.
        operating_point: `OperatingPoint.to_dict()`, or None.
        anchors_hash: SHA-256 of the anchor settings that are inside.
        precision: `float32` or `int8`.
    """

    classes: tuple[str, ...]
    size: int
    fit: FitMode
    bits: int
    operating_point: dict[str, Any] | None
    anchors_hash: str
    precision: str = "float32"

    def to_json(self) -> str:
        """ASCII JSON, which every container format keeps as it is."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(**values | {"classes": tuple(values["classes"])})

    def fitted(self, picture: Picture) -> tuple[np.ndarray, Fit]:
        """A picture as the network wants it.

        Args:
            picture: A file, or an array as `inspection.data.images.as_rgb` takes it.

        Returns:
            (size, size, 3) uint8 RGB and how it was fitted.

        Raises:
            InputError: The file cannot be read, or the array is no RGB picture.
        """
        seen = Preparation(self.size, self.fit, self.bits)(picture)
        return seen.rgb, seen.fit


class ExportedDetector:
    """An exported model with the interface of `detection.models.detector.Detector`.

    Args:
        metadata: What the file says about itself.
        run: The compiled graph.

    Example:
        >>> detector = ExportedDetector.load("part.xml")   # doctest: +SKIP
        >>> detector.predict("part.png").xyxy              # doctest: +SKIP
    """

    def __init__(self, metadata: Metadata, run: Run) -> None:
        self.metadata = metadata
        self.size = metadata.size
        self.fit = metadata.fit
        self.bits = metadata.bits
        self.classes = metadata.classes
        self._run = run

    @classmethod
    def load(cls, path: str | Path) -> ExportedDetector:
        """Loads an exported `.xml` (with its `.bin` beside it) or `.onnx` file.

        Raises:
            InputError: The file is missing, damaged or not of this tool, or its runtime is not
                installed.
            NotFinite: It holds a weight that is no finite number.
        """
        path = Path(path)
        kind = SUFFIXES.get(path.suffix.lower())
        if kind is None:
            raise InputError(f"{path}: an exported model ends in .xml (OpenVINO) or .onnx.")
        if not path.is_file():
            raise InputError(f"{path}: there is no such exported model; check the path.")
        try:
            text, run = (_load_openvino if kind == "openvino" else _load_onnx)(path)
            metadata = Metadata.from_json(text)
        except NotFinite as error:
            raise NotFinite(f"{path}: {error}") from error
        except ImportError as error:
            package = "openvino" if kind == "openvino" else "onnxruntime"
            raise InputError(f"{path}: needs the package {package}; install it.") from error
        except Exception as error:  # each runtime raises its own kinds
            raise InputError(
                f"{path}: cannot be loaded as an exported model ({first_line(error)}). Export it "
                "again with `python -m detection export`."
            ) from error
        return cls(metadata, run)

    @property
    def card(self) -> ModelCard:
        """What the file says of itself."""
        return parse_card(self.metadata.to_json(), EXPORTED_DETECTOR)

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The threshold that was chosen on the validation part, with its evidence."""
        stored = self.metadata.operating_point
        return None if stored is None else OperatingPoint.from_dict(stored)

    @overload
    def predict(self, picture: Picture, **options: float) -> Detections: ...
    @overload
    def predict(self, picture: Sequence[Picture], **options: float) -> list[Detections]: ...
    def predict(self, picture, min_score=MIN_SCORE, max_detections=MAX_DETECTIONS):
        """Finds defects in one image of any size, or in each of a list; as `Detector.predict`.

        Args:
            picture: As `Detector.predict` takes it.
            min_score: Lower scores are dropped; not below the bound inside the file.
            max_detections: The best so many are kept; not above the bound inside the file.

        Returns:
            Boxes in pixels of the image, best first, with the decision by the operating point;
            for a list one each.

        Raises:
            InputError: The file cannot be read, or a bound is passed.
            NotFinite: The graph gives something that is no finite number.
        """
        if min_score < MIN_SCORE or max_detections > MAX_DETECTIONS:
            raise InputError(
                f"an exported model keeps at most {MAX_DETECTIONS} boxes of score {MIN_SCORE} and "
                f"more; {max_detections} of {min_score:g} and more need the .keras snapshot."
            )
        if isinstance(picture, list | tuple):
            return [self.predict(one, min_score, max_detections) for one in picture]
        if isinstance(picture, np.ndarray):
            picture = as_rgb(picture, self.bits)
        image, fit = self.metadata.fitted(picture)
        boxes, score, label = self._run(np.ascontiguousarray(image)[None])
        with names_file(picture):
            check_finite(scores=score, edges=boxes)
        boxes = fit.to_source(boxes)
        # In a letterbox's border there is no picture: what lies there alone has no area left.
        real = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        names = tuple(self.classes[index] for index in label[real])
        every = Detections(boxes[real], score[real], names)
        return decided(self, picture, every, min_score, max_detections)

    def predict_batch(self, pictures: Sequence[Picture], **options: float) -> list[Detections]:
        """Finds defects in several pictures, one after the other; as `predict` for each."""
        return [self.predict(picture, **options) for picture in pictures]


@functools.cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, never taken down.

    Its CPU plugin lends the thread a stack for signal handlers, and where the last model is
    dropped by another thread that memory goes while still in use: the next Ctrl-C would crash.
    """
    import openvino

    core = openvino.Core()
    core.get_versions("CPU")  # loads the plugin, which then stays as long as the core
    return core


def _load_openvino(path: Path) -> tuple[str, Run]:
    core = openvino_core()
    model = core.read_model(path)
    check_openvino(model, limits=True)
    text = model.get_rt_info([METADATA_KEY]).astype(str)
    # Where the processor has bfloat16 OpenVINO would take it by itself, and move the scores.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)

    def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = compiled(image)
        return found["boxes"], found["scores"], found["labels"]

    return text, run


def _load_onnx(path: Path) -> tuple[str, Run]:
    import onnxruntime

    check_onnx(path.read_bytes(), limits=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map[METADATA_KEY]

    def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes, score, label = session.run(["boxes", "scores", "labels"], {"image": image})
        return boxes, score, label

    return text, run


def load_any(path: str | Path) -> Detector | ExportedDetector:
    """Loads a `.keras` snapshot or an exported model, by its suffix.

    Raises:
        InputError: It cannot be loaded.
    """
    if Path(path).suffix != ".keras":
        return ExportedDetector.load(path)
    from detection.models.detector import Detector

    return Detector.load(path)
