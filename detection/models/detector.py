"""Images in, boxes out: a trained model with everything it needs around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import overload

import keras
import numpy as np

from detection.models.anchors import anchor_boxes, level_lengths
from detection.models.decision import Image, decided
from detection.models.decoding import MAX_DETECTIONS, MIN_SCORE, NMS_IOU, decode
from detection.models.retinanet import RetinaNet
from detection.models.snapshots import snapshot_card
from inspection.data.images import as_rgb
from inspection.data.letterbox import Fit
from inspection.decisions.operating_point import OperatingPoint
from inspection.errors import InputError
from inspection.files.archives import check_network, read_safely
from inspection.files.writing import atomic_path
from inspection.finite import check_weights, names_file
from inspection.models.card import ModelCard
from inspection.prediction.detections import Detections
from inspection.training.run import BEST, model_file


class Detector:
    """A RetinaNet that reads images as its training did and returns boxes in their pixels.

    Args:
        model: The network, with class names and anchors inside.
        card: What travels with it.

    Example:
        >>> detector = Detector.load("snapshots/best.keras")   # doctest: +SKIP
        >>> detector.predict("part.png").decision              # doctest: +SKIP
    """

    def __init__(self, model: RetinaNet, card: ModelCard) -> None:
        self.model, self.card = model, card
        self.size, self.bits = card.preparation.size, card.preparation.bits
        self.fit = card.preparation.fit
        self._anchors = anchor_boxes(model.anchors, self.size, self.size)
        self._levels = level_lengths(model.anchors, self.size, self.size)

    @classmethod
    def load(cls, path: str | Path) -> Detector:
        """Loads a snapshot, or the best one of a run's folder.

        Raises:
            InputError: The file is missing, damaged, or no model of ours.
            NotFinite: It holds a weight that is no finite number.
        """
        path = model_file(path, BEST)
        card = snapshot_card(path)
        with read_safely(path, "cannot be loaded as a snapshot", "copy it again, or train anew."):
            check_network(path)
            model = keras.saving.load_model(path, compile=False)
        if not isinstance(model, RetinaNet):
            raise InputError(f"{path}: holds a {type(model).__name__}, not a detection model.")
        with names_file(path):
            check_weights(model)
        return cls(model, card)

    def save(self, path: str | Path) -> None:
        """Writes weights and card atomically."""
        with atomic_path(path) as temporary:
            self.model.save(temporary)
            self.card.write_into(temporary)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.card.classes

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The threshold that was chosen on the validation part, with its evidence."""
        return self.card.operating_point

    def forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The bare network: (B, size, size, 3) RGB 0-255 to offsets and logits."""
        outputs = self.model.predict_on_batch({"images": images.astype(np.float32)})
        return {name: np.asarray(value) for name, value in outputs.items()}

    @overload
    def predict(self, image: Image, **options: float) -> Detections: ...
    @overload
    def predict(self, image: Sequence[Image], **options: float) -> list[Detections]: ...
    def predict(self, image, **options):
        """Finds defects in one image of any size, or in each of a list.

        Args:
            image: A file; an array (H, W, 3) RGB, (H, W) or (H, W, 1) grey, of uint8 or, with
                the bits that the model was trained for, uint16; or a list of these.
            **options: `min_score`, `nms_iou`, `max_detections`; see `decoding.decode`.

        Returns:
            Boxes in pixels of the image, best first, with the decision by the operating point;
            for a list one each.

        Raises:
            InputError: A file cannot be read, or an array is no image.
            NotFinite: The network gives something that is no finite number.
        """
        if isinstance(image, list | tuple):
            return [self.predict(one, **options) for one in image]
        return self.predict_batch([image], **options)[0]

    def predict_batch(
        self,
        images: Sequence[Image],
        min_score: float = MIN_SCORE,
        nms_iou: float = NMS_IOU,
        max_detections: int = MAX_DETECTIONS,
    ) -> list[Detections]:
        """Finds defects in several images in one pass of the network; as `predict` for each."""
        if not images:
            return []
        images = [as_rgb(one, self.bits) if isinstance(one, np.ndarray) else one for one in images]
        fitted, fits = [], []
        for image in images:
            seen = self.card.preparation(image)
            fitted.append(seen.rgb)
            fits.append(seen.fit)
        outputs = self.forward(np.stack(fitted))
        found = []
        for index, (image, fit) in enumerate(zip(images, fits, strict=True)):
            with names_file(image):
                every = self.detections(
                    outputs["box"][index],
                    outputs["classification"][index],
                    fit,
                    # The decision rests on all boxes, whatever is asked for.
                    min(min_score, MIN_SCORE),
                    nms_iou,
                    max(max_detections, 1),
                )
            found.append(decided(self, image, every, min_score, max_detections))
        return found

    def detections(
        self,
        offsets: np.ndarray,
        logits: np.ndarray,
        fit: Fit,
        min_score: float = MIN_SCORE,
        nms_iou: float = NMS_IOU,
        max_detections: int = MAX_DETECTIONS,
    ) -> Detections:
        """Decodes the network's raw outputs of one fitted image.

        Args:
            offsets: (A, 4) from the box head.
            logits: (A, C) from the classification head.
            fit: How the image was fitted.
            min_score: Lower scores are dropped.
            nms_iou: Overlap above which the worse box of a class is dropped.
            max_detections: The best so many are kept.
        """
        boxes, score, label = decode(
            offsets,
            logits,
            self._anchors,
            self._levels,
            (self.size, self.size),
            min_score,
            nms_iou,
            max_detections,
        )
        boxes = fit.to_source(boxes)
        # In a letterbox's border there is no image: what lies there alone has no area left.
        real = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        names = tuple(self.classes[index] for index in label[real])
        return Detections(boxes[real], score[real], names)


def predict_all(
    detector: Detector,
    images: Iterable[tuple[str, Image]],
    batch_size: int = 1,
    on_progress: Callable[[int], None] | None = None,
    **options: float,
) -> dict[str, Detections]:
    """Predicts many images by name.

    Args:
        detector: The model.
        images: Pairs of name and image.
        batch_size: Images per forward pass.
        on_progress: Called with the number of images done.
        **options: As for `Detector.predict`.

    Raises:
        InputError: A file cannot be read.
    """
    found: dict[str, Detections] = {}
    waiting: list[tuple[str, Image]] = []

    def flush() -> None:
        if waiting:
            results = detector.predict_batch([image for _, image in waiting], **options)
            found.update(zip((name for name, _ in waiting), results, strict=True))
            waiting.clear()
            if on_progress:
                on_progress(len(found))

    for pair in images:
        waiting.append(pair)
        if len(waiting) == batch_size:
            flush()
    flush()
    return found
