"""Post-training quantisation of an OpenVINO export to int8, and what it changes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.evaluation.average_precision import measure_average_precision
from detection.export.exported import ExportedDetector
from detection.models.decision import Image, image_score
from inspection.data.boxes import ImageLabels
from inspection.data.preparation import Preparation
from inspection.errors import InputError

MAX_LOSS = 0.02
"""What int8 may cost in mAP by default."""
_CALIBRATION_IMAGES = 100


@dataclass(frozen=True)
class Int8Change:
    """What quantisation changed on held-out images, against the float32 export.

    Args:
        images: Images compared.
        map_float32: mAP (AP@.5, mean over classes) before; NaN without labels.
        map_int8: After; NaN without labels.
        decisions: Images whose decision changed at the operating point; None without one.
    """

    images: int
    map_float32: float
    map_int8: float
    decisions: int | None

    @property
    def loss(self) -> float:
        """mAP that is lost; NaN where it is unknown."""
        return self.map_float32 - self.map_int8

    def lines(self) -> list[str]:
        """The change as sentences."""
        found = "int8: the change of mAP is unknown, no box was labelled."
        if not np.isnan(self.map_int8):
            found = (
                f"int8: mAP {self.map_float32:.4f} -> {self.map_int8:.4f} ({-self.loss:+.4f}) on "
                f"{self.images} images that it was not calibrated on."
            )
        if self.decisions is None:
            return [found]
        changed = f"{self.decisions} of {self.images} decisions changed at the operating point."
        return [found, f"int8: {changed}"]


def quantise(model: Any, preparation: Preparation, calibration: Sequence[Image]) -> Any:
    """Quantises an OpenVINO model to int8 after training; decoding and NMS stay in float32.

    Args:
        model: The float32 `openvino.Model`.
        preparation: How images are fitted.
        calibration: Images; evenly spread ones are taken where there are many.

    Returns:
        The int8 `openvino.Model`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, none that a user could fix
        import nncf

        from detection.export.onnx_decoding import DECODING
        from detection.export.onnx_graph import PREPARING

        nncf.set_log_level(logging.ERROR)
        count = min(len(calibration), _CALIBRATION_IMAGES)
        chosen = np.linspace(0, len(calibration) - 1, count).round().astype(int)
        images = [calibration[index] for index in chosen]
        return nncf.quantize(
            model,
            nncf.Dataset(images, lambda image: preparation(image).rgb[None]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=count,
            ignored_scope=nncf.IgnoredScope(
                patterns=[f"{PREPARING}.*", f"{DECODING}.*"], validate=False
            ),
        )


def check_loss(change: Int8Change, most: float) -> None:
    """Refuses an int8 model that costs too much.

    Raises:
        InputError: It loses more mAP than `most`, or how much is unknown.
    """
    if not change.loss <= most:  # NaN, too
        what = (
            "what int8 costs in mAP is unknown, since no box was labelled"
            if np.isnan(change.loss)
            else f"int8 loses {change.loss:.4f} mAP ({change.map_float32:.4f} to "
            f"{change.map_int8:.4f})"
        )
        raise InputError(
            f"{what} on {change.images} images that it was not calibrated on; at most {most:g} may "
            "be lost. Export without --int8, allow more by --max-int8-loss, or write it all the "
            "same with --force."
        )


def compare_int8(
    exported: ExportedDetector,
    quantised: ExportedDetector,
    images: Sequence[Image],
    labels: Sequence[ImageLabels] = (),
) -> Int8Change:
    """Measures what quantisation changed; as `Int8Change` says.

    Args:
        exported: The float32 export.
        quantised: Its int8 version.
        images: What both look at; none of them may have been calibrated on.
        labels: Their labels in the same order, or none.
    """
    before, after = exported.predict_batch(images), quantised.predict_batch(images)
    maps = (float("nan"), float("nan"))
    if labels:
        maps = tuple(
            measure_average_precision(labels, found, exported.classes).mean_ap
            for found in (before, after)
        )
    point = exported.operating_point
    decisions = None
    if point is not None:
        decisions = sum(
            point.decide(image_score(one)) != point.decide(image_score(two))
            for one, two in zip(before, after, strict=True)
        )
    return Int8Change(len(images), *maps, decisions)
