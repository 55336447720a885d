"""Cards of models that no training made."""

from __future__ import annotations

from typing import Any

from inspection.data.preparation import Preparation
from inspection.models.card import ModelCard, Provenance
from tests.conftest import CLASSES


def detector_card(
    size: int = 64,
    fit: str = "letterbox",
    bits: int = 16,
    classes: tuple[str, ...] = CLASSES,
    **provenance: Any,
) -> ModelCard:
    """The card of a detector without an operating point."""
    return ModelCard(
        room="detection",
        architecture="resnet18",
        classes=classes,
        preparation=Preparation(size, fit, bits),
        provenance=Provenance(**provenance),
    )


def classifier_card(
    classes: tuple[str, ...], normal: str | None, size: int, architecture: str = "none"
) -> ModelCard:
    """The card of a classifier without an operating point."""
    return ModelCard(
        room="classification",
        architecture=architecture,
        classes=classes,
        normal=normal,
        preparation=Preparation(size),
    )
