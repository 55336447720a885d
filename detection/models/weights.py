"""Filling a new detector with the weights that `--weights` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detection.models.detector import Detector
from detection.models.retinanet import RetinaNet
from detection.models.snapshots import network_settings
from inspection.models.weights import check_alike, copy_weights, fill_backbone


def apply_weights(model: RetinaNet, choice: str, say: Callable[[str], None]) -> None:
    """Fills a new model.

    Args:
        model: Freshly built.
        choice: From `inspection.models.weights.resolve_weights`.
        say: Receives a line on how much of a snapshot fitted.

    Raises:
        InputError: The weights cannot be reached or do not fit.
    """
    if Path(choice).suffix == ".keras":
        theirs, ours = network_settings(choice), model.settings
        settings = {key: (theirs.get(key), ours[key]) for key in ("backbone", "channels")}
        if "group" in (theirs.get("norm"), ours["norm"]):
            settings["norm"] = (theirs.get("norm"), ours["norm"])
        check_alike(choice, **settings)
        source = Detector.load(choice).model
        other = theirs.get("classes") != list(model.classes)
        copy_weights(model, source, choice, say, "classification_head/prediction" if other else "")
    else:
        fill_backbone(model.backbone, choice)
