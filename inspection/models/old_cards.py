"""Cards of model files that were made before every room had the same one, as plain values."""

from __future__ import annotations

from typing import Any

from inspection.files.archives import CONFIG, Hostile

CLASSIFIER, ANOMALY = "classification.json", "model.json"
OLD_MEMBERS = (CLASSIFIER, ANOMALY, CONFIG)
"""Where the old cards are; in the last one Keras keeps a network's settings, with a card or not."""

EXPORTED_DETECTOR = "detection"
"""The key of an exported detector's metadata that stood for a card."""

_VERSION = 1


def from_old(member: str, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `ModelCard`, not yet checked.

    Args:
        member: One of `OLD_MEMBERS` or `EXPORTED_DETECTOR`.
        values: What it holds.

    Raises:
        Hostile: It is of another version, or holds something else.
        KeyError, TypeError, AttributeError: It holds something else.
    """
    if member == CONFIG:
        return _from_detector(values)
    if member == EXPORTED_DETECTOR:
        return _from_exported_detector(values)
    if values.get("version") != _VERSION:
        raise Hostile(f"its card is of version {str(values.get('version'))[:20]}")
    return {CLASSIFIER: _from_classifier, ANOMALY: _from_anomaly}[member](values)


def _from_detector(values: dict[str, Any]) -> dict[str, Any]:
    if (kind := values.get("class_name", "RetinaNet")) != "RetinaNet":
        raise Hostile(f"it holds a {str(kind)[:80]}")
    config = values["config"]
    rest = dict(config["preprocessing"])
    return {
        "version": _VERSION,
        "room": "detection",
        "architecture": config.get("backbone") or "",
        "classes": config.get("classes"),
        "preparation": {
            "size": rest.pop("size"),
            "fit": rest.pop("fit", "letterbox"),
            "bits": rest.pop("bits", 16),
        },
        "operating_point": config.get("operating_point"),
        "provenance": {
            "run": rest.pop("run", None) or "",
            "run_id": rest.pop("run_id", None),
            "data": rest.pop("images", None) or "",
            "annotations": rest.pop("annotations", None),
            "epoch": rest.pop("epoch", None) or 0,
            "score": rest.pop("val_map", None),
            "scored_on": rest.pop("val_hash", None),
        },
        "extra": rest,
    }


def _from_exported_detector(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "room": "detection",
        "architecture": "",
        "classes": values["classes"],
        "preparation": {name: values[name] for name in ("size", "fit", "bits")},
        "operating_point": values["operating_point"],
        "extra": {name: values[name] for name in ("anchors_hash", "precision") if name in values},
    }


def _from_classifier(values: dict[str, Any]) -> dict[str, Any]:
    extra = dict(values["extra"])
    return {
        "version": _VERSION,
        "room": "classification",
        **{name: values[name] for name in ("architecture", "classes", "normal", "preparation")},
        "operating_point": values["operating_point"],
        "provenance": {
            **{name: values[name] for name in ("run", "data", "epoch")},
            "score": extra.pop("val_macro_f1", None),
        },
        "extra": extra,
    }


def _from_anomaly(values: dict[str, Any]) -> dict[str, Any]:
    point = values["operating_point"]
    return {
        "version": _VERSION,
        "room": "anomaly",
        "architecture": values["method"],
        "preparation": values["preparation"],
        "operating_point": point,
        "provenance": {"data_hash": (point or {}).get("data_hash") or None},
        "extra": {
            name: values[name]
            for name in ("settings", "networks", "aggregation", "normal", "reference")
            if name in values
        },
    }
