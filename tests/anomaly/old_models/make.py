"""Wrote the models of this folder with the program as it was at commit 707c70e.

They hold no field that says how an image's score is made: what reads them must score as that
program did. Kept so that it can be read what they are; the present program writes other files.

    PYTHONPATH=CHECKOUT python make.py FOLDER
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from anomaly.model import AnomalyModel
from anomaly.preparation import Preparation
from inspection.images import write_image
from inspection.operating_point import fixed_threshold

from anomaly.features import FeatureExtractor, Source
from anomaly.methods import cs_flow
from anomaly.methods.cs_flow import CSFlow
from anomaly.methods.fastflow import FastFlow
from anomaly.methods.patchcore import PatchCore
from anomaly.training import normal_cells

SIDE = 32


def image(seed: int, spot: bool) -> np.ndarray:
    """A grey ramp with whole numbers of noise, (SIDE, SIDE, 3) uint8; some have a dark spot."""
    noise = np.random.default_rng(seed).integers(-9, 10, (SIDE, SIDE))
    grey = 90 + 2 * np.arange(SIDE) + noise
    if spot:
        grey[12:18, 14:20] = 20
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def backbone() -> keras.Model:
    """Strides 2 and 4; some of its channels never fire."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(inputs)
    for index in range(2):
        x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name=f"conv{index}")(x)
        x = keras.layers.ReLU(name=f"out{index}")(x)
    return keras.Model(inputs, x)


def main(folder: Path) -> None:
    """Fits, stores and scores."""
    for index in range(8):
        write_image(folder / f"scratch/{index}.png", image(index, False))
    source = Source(tuple(sorted((folder / "scratch").iterdir())), Preparation(SIDE))
    cs_flow.SIZES["small"] = {"hidden": 2, "kernels": (3,)}
    expected = {}
    for kind, options, aggregation in (
        (PatchCore, {"ratio": 0.05}, "max"),
        (CSFlow, {"epochs": 1, "batch_size": 4}, "mean"),
        (FastFlow, {"steps": 1, "epochs": 1, "batch_size": 4}, "area"),
    ):
        taps = kind.taps_of(["out0", "out1"][-kind.stages :])
        method = kind(FeatureExtractor(backbone(), taps), **options)
        method.fit(source, seed=0)
        model = AnomalyModel(method, source.preparation, aggregation)
        model = replace(model, normal=normal_cells(model, source, 0))
        good, bad = (model.predict(image(20, spot)).score for spot in (False, True))
        model = model.with_operating_point(fixed_threshold((good + bad) / 2))
        model.save(folder / f"{method.name}.anomaly")
        found = [model.predict(image(seed, seed % 2 == 0)) for seed in range(20, 26)]
        expected[method.name] = {
            "scores": [one.score for one in found],
            "decisions": [one.decision for one in found],
            "map_mean": [float(one.score_map.mean()) for one in found],
        }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
