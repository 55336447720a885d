"""PatchCore's coreset, prediction and memory, and the size of CS-Flow's reduced model.

    python -m benchmarks.anomaly coreset|predict|memory|size [--out FILE.json] [--quick]

`predict` compares with anomalib where `--anomalib-python` names an interpreter that has it
(a virtual environment of its own: `pip install anomalib`), and always with plain NumPy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side import Absent, Bar, Subject, compare, report

SIZE = 256
BANK = 4096


def vectors(count: int, width: int) -> np.ndarray:
    """Feature-like vectors: clusters of several sizes."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, width)) * 2
    spread = rng.uniform(0.2, 1.5, (50, 1))
    chosen = rng.integers(0, 50, count)
    found = centres[chosen] + rng.normal(size=(count, width)) * spread[chosen]
    return found.astype(np.float32)


def covering_radius(data: np.ndarray, chosen: list[int]) -> float:
    """The largest distance of a vector from its nearest chosen one: what the greedy loop lowers."""
    centres = data[chosen].astype(np.float64)
    farthest = 0.0
    for start in range(0, len(data), 4096):
        rows = data[start : start + 4096].astype(np.float64)
        squares = np.square(rows).sum(1)[:, None] + np.square(centres).sum(1) - 2 * rows @ centres.T
        farthest = max(farthest, float(squares.min(axis=1).max()))
    return farthest**0.5


def our_coreset(count: int, width: int, wanted: int) -> Callable[[], dict[str, Any]]:
    from anomaly.methods.parts.coreset import greedy_k_center

    data = vectors(count, width)
    return lambda: {"chosen": greedy_k_center(data, wanted).tolist()}


def plain_coreset(count: int, width: int, wanted: int) -> Callable[[], dict[str, Any]]:
    """Algorithm 1 of the paper, one NumPy pass over all vectors for each choice."""
    data = vectors(count, width)

    def run() -> dict[str, Any]:
        chosen, pick = [], 0
        nearest = np.full(count, np.inf, np.float32)
        for _ in range(wanted):
            chosen.append(pick)
            nearest = np.minimum(nearest, np.square(data - data[pick]).sum(axis=1))
            nearest[chosen] = -1
            pick = int(nearest.argmax())
        return {"chosen": chosen}

    return run


def image_file(folder: Path) -> Path:
    """An image of 900 x 900 pixels."""
    from inspection.data.images import write_image

    rng = np.random.default_rng(0)
    path = folder / "part.png"
    write_image(path, rng.integers(60, 200, (900, 900, 3)).astype(np.uint8))
    return path


def our_patchcore(path: str, channels: int) -> Callable[[], Any]:
    from anomaly.features.extractor import FeatureExtractor
    from anomaly.methods.patchcore import PatchCore, nearest_in_bank
    from anomaly.models.model import AnomalyModel
    from anomaly.models.scores import Reference
    from inspection.data.preparation import Preparation
    from inspection.decisions.operating_point import fixed_threshold
    from inspection.models import backbones

    backbone = backbones.resnet("resnet18", "frozen")
    taps = [backbone.pyramid_level_inputs[level] for level in ("P3", "P4")]
    method = PatchCore(FeatureExtractor(backbone, taps))
    method.bank = vectors(BANK, channels)
    method.near = nearest_in_bank(method.bank)
    reference = Reference(1.0, (SIZE // 8) ** 2, 0.0, raw=True)
    point = fixed_threshold(1.0)
    model = AnomalyModel(method, Preparation(SIZE), operating_point=point, reference=reference)
    return lambda: {"decision": model.predict(path).decision}


def plain_patchcore(path: str, channels: int) -> Callable[[], Any]:
    """The same backbone called as Keras offers it, patches and distances in plain NumPy."""
    import keras
    from PIL import Image
    from scipy.ndimage import gaussian_filter, uniform_filter, zoom
    from scipy.spatial.distance import cdist

    from inspection.models import backbones

    backbone = backbones.resnet("resnet18", "frozen")
    taps = [backbone.pyramid_level_inputs[level] for level in ("P3", "P4")]
    network = keras.Model(backbone.input, [backbone.get_layer(tap).output for tap in taps])
    bank = vectors(BANK, channels)

    def run() -> dict[str, Any]:
        image = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        fine, coarse = network.predict(np.asarray(image, np.float32)[None], verbose=0)
        fine, coarse = (uniform_filter(one[0], (3, 3, 1), mode="mirror") for one in (fine, coarse))
        found = np.concatenate([fine, zoom(coarse, (2, 2, 1), order=1)], axis=-1)
        distance = cdist(found.reshape(-1, channels), bank).min(axis=1)
        scores = zoom(distance.reshape(fine.shape[:2]), 8, order=1)
        return {"decision": "NG" if gaussian_filter(scores, 4).max() >= 1 else "OK"}

    return run


def anomalib_patchcore(path: str, python: str | None) -> Callable[[], Any]:
    if not python:
        raise Absent("give --anomalib-python an interpreter that has anomalib")
    worker = Path(__file__).with_name("anomalib_worker.py")
    process = subprocess.Popen(
        [python, str(worker), path, str(SIZE), str(BANK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run() -> dict[str, Any]:
        process.stdin.write("go\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise Absent(f"{python} ended; does it have anomalib?")

    return run


def fit_patchcore(images: int, folder: str) -> Callable[[], Any]:
    """Fits on so many images; the same few files again and again, which fits just as well."""
    from anomaly.features.extractor import FeatureExtractor, Source
    from anomaly.methods.patchcore import PatchCore
    from inspection.data.preparation import Preparation
    from inspection.models import backbones

    files = sorted(Path(folder).glob("*.png"))
    backbone = backbones.resnet("resnet18", "frozen")
    taps = [backbone.pyramid_level_inputs[level] for level in ("P3", "P4")]
    source = Source(tuple(files[i % len(files)] for i in range(images)), Preparation(64))
    done = []

    def run() -> dict[str, Any]:
        if not done:  # once is enough, and the warming call is it
            method = PatchCore(FeatureExtractor(backbone, taps), 0.01, 2000, 20_000)
            method.fit(source)
            done.append(len(method.bank))
        return {"bank": done[0]}

    return run


def coreset(options: argparse.Namespace) -> None:
    count, width = (20_000, 128) if options.quick else (100_000, 512)
    shape = (count, width, count // 100)
    figures = compare(
        [Subject("ours", our_coreset, shape), Subject("plain loop", plain_coreset, shape)],
        1 if not options.quick else 2,
    )
    ours, plain = (figures[name].result["chosen"] for name in ("ours", "plain loop"))
    data = vectors(count, width)
    first = next((i for i, pair in enumerate(zip(ours, plain, strict=True)) if len({*pair}) > 1), 0)
    for one in figures.values():
        one.result = {}
    # Nearly equal distances are rounded differently; from there on the two go apart.
    report(
        f"Greedy k-center, {count} x {width} at 1 %: the same first {first or len(ours)} choices; "
        f"farthest vector at {covering_radius(data, ours):.5f}, plain loop "
        f"{covering_radius(data, plain):.5f}",
        figures,
        "plain loop",
        [Bar("coreset", "plain loop", "ours", 10)],
        options.out,
    )
    print(f"Memory: bar <= 2000 MB, {figures['ours'].peak_mb:.0f} MB")


def predict(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(image_file(Path(folder)))
        subjects = [
            Subject("ours", our_patchcore, (path, 384)),
            Subject("plain NumPy", plain_patchcore, (path, 384)),
            Subject("anomalib", anomalib_patchcore, (path, options.anomalib_python)),
        ]
        figures = compare(subjects, 5 if options.quick else 20)
    peer = "plain NumPy" if figures["anomalib"].absent else "anomalib"
    report(
        f"PatchCore, resnet18, {SIZE} px, bank of {BANK} x 384, file to decision",
        figures,
        peer,
        [Bar("file to decision", peer, "ours", 2)],
        options.out,
    )


def memory(options: argparse.Namespace) -> None:
    from inspection.data.images import write_image

    few, many = (100, 1000) if options.quick else (1000, 10_000)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(50):
            noise = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
            write_image(Path(folder) / f"{index}.png", noise)
        subjects = [
            Subject(f"{count} images", fit_patchcore, (count, folder)) for count in (few, many)
        ]
        figures = compare(subjects, 1)
    report("PatchCore's memory", figures, f"{few} images", [], options.out)
    ratio = figures[f"{many} images"].peak_mb / figures[f"{few} images"].peak_mb
    print(f"Memory of {many} over {few} images: bar <= 1.1x, {ratio:.2f}x")


def size(options: argparse.Namespace) -> None:
    from anomaly.features.extractor import FeatureExtractor
    from anomaly.methods.cs_flow import CSFlow
    from anomaly.models.model import AnomalyModel
    from inspection.data.preparation import Preparation
    from inspection.models import backbones

    backbone = backbones.efficientnet_b5()
    taps = CSFlow.taps_of(backbones.EFFICIENTNET_STAGES)
    found = {}
    for name, side in (("reduced", 512),) if options.quick else (("reduced", 512), ("full", 768)):
        method = CSFlow(FeatureExtractor(backbone, taps), model=name)
        shapes = [(side >> (5 + scale), side >> (5 + scale), 304) for scale in range(3)]
        method.network = method.build(shapes, 0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.anomaly"
            AnomalyModel(method, Preparation(side)).save(path)
            found[name] = path.stat().st_size / 1e6
        print(f"CS-Flow {name} at {side} px with EfficientNet-B5: {found[name]:.0f} MB")
    print(f"bar <= 400 MB: {'met' if found['reduced'] <= 400 else 'MISSED'}")
    if options.out:
        options.out.write_text(json.dumps(found), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["coreset", "predict", "memory", "size"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="small: shows that it works")
    parser.add_argument("--anomalib-python", help="interpreter that has anomalib")
    options = parser.parse_args()
    {"coreset": coreset, "predict": predict, "memory": memory, "size": size}[options.what](options)


if __name__ == "__main__":
    main()
