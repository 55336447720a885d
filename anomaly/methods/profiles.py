"""Settings of every method for a comparison: what a CPU does in minutes, or what the papers did."""

from __future__ import annotations

from typing import Any

CPU: dict[str, dict[str, Any]] = {
    "patchcore": {"ratio": 0.01},
    "cs-flow": {"model": "small", "epochs": 12, "lr": 1e-3},
    "cfa": {"epochs": 10},
    "self-supervised": {},
    "padim": {"dimensions": 64},
    "fastflow": {"steps": 4, "layer_norm": False, "epochs": 20},
    "cflow": {"steps": 4, "epochs": 5},
    "vae": {"side": 64, "width": 16, "epochs": 30},
    "vae-denoising": {"side": 64, "width": 16, "epochs": 30},
    "ocr-gan": {"side": 64, "width": 16, "epochs": 15},
    "oc-svm": {},
    "isolation-forest": {},
}
PAPER: dict[str, dict[str, Any]] = {
    "patchcore": {"ratio": 0.1, "most": 50_000},
    "cs-flow": {"model": "full", "epochs": 240},
    "cfa": {"epochs": 30},
    "self-supervised": {},
    "padim": {"dimensions": 550},
    "fastflow": {"steps": 8, "epochs": 500},
    "cflow": {"steps": 8, "epochs": 50},
    "vae": {"side": 256, "epochs": 50},
    "vae-denoising": {"side": 256, "epochs": 50},
    "ocr-gan": {"side": 256, "width": 64, "epochs": 200},
    "oc-svm": {},
    "isolation-forest": {},
}
PROFILES = {"cpu": CPU, "paper": PAPER}
