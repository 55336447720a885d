"""Exported models beside the snapshot: time, size, parity, and what int8 costs in mAP.

    python -m benchmarks.export [--snapshot snapshots/best.keras] [--quick] [--rounds 5]
                                [--out docs/benchmark-export.json]

With a snapshot int8 is calibrated on its training part and the change of mAP is measured on its
validation part. Without one a ResNet50 of random weights at 900 x 900 is timed; its mAP means
nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.predict import exported_predict, our_predict
from benchmarks.random_model import save_random_model, write_images
from benchmarks.side_by_side import Bar, Subject, compare, report

_KINDS = {
    "OpenVINO": ("openvino", False, "float.xml"),
    "ONNX Runtime": ("onnx", False, "float.onnx"),
    "OpenVINO int8": ("openvino", True, "int8.xml"),
}


def prepare_random(folder: Path, quick: bool) -> None:
    """Writes a snapshot of random weights and images for it."""
    backbone, size, channels = ("resnet18", 200, 64) if quick else ("resnet50", 900, 256)
    save_random_model(folder / "model.keras", backbone, size, channels)
    write_images(folder, 4 if quick else 12, size)


def export_all(snapshot: Path, folder: Path, pictures: list[Path] | None) -> dict[str, Any]:
    """Exports in every way; call it in a process of its own.

    Args:
        snapshot: The model.
        folder: Where the files go.
        images: To check and calibrate on; None takes the snapshot's own.

    Returns:
        The reports' sentences by kind, and an image to time under `picture`.
    """
    from detection.export.write import export, export_parts, export_snapshot
    from detection.models.detector import Detector

    detector = Detector.load(snapshot)
    found: dict[str, Any] = {}
    for name, (format, int8, file) in _KINDS.items():
        if pictures is None:
            result = export_snapshot(
                snapshot, folder / file, format, int8, lambda _line: None, force=True
            )
        else:
            result = export(
                detector,
                folder / file,
                int8=int8,
                calibration=pictures[2:] if int8 else (),
                held_out=pictures[:2] if int8 else (),
                check_images=pictures[:2],
                force=True,
            )
        found[name] = result.lines()
        print("\n".join(f"{name}: {line}" for line in result.lines()), flush=True)
    if pictures is None:
        labels, _, images = export_parts(snapshot)
        pictures = [images / labels[0].image]
    found["picture"] = str(pictures[0])
    return found


def main() -> None:
    """Exports, times and prints medians, ratios, bars and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshot", type=Path, help="a .keras file with its training's folders")
    parser.add_argument("--quick", action="store_true", help="small network and images")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snapshot, images = options.snapshot, None
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            if snapshot is None:
                pool.apply(prepare_random, (folder, options.quick))
                snapshot, images = folder / "model.keras", sorted(folder.glob("*.png"))
            said = pool.apply(export_all, (snapshot, folder, images))
        image = Path(said.pop("picture"))
        subjects = [Subject("snapshot, TensorFlow", our_predict, (snapshot, image))]
        subjects += [
            Subject(kind, exported_predict, (folder / file, image))
            for kind, (_, _, file) in _KINDS.items()
        ]
        figures = compare(subjects, options.rounds)
    bars = [
        Bar("OpenVINO against TensorFlow", "snapshot, TensorFlow", "OpenVINO", 2),
        Bar("int8 against TensorFlow", "snapshot, TensorFlow", "OpenVINO int8", 4),
        Bar("int8 against OpenVINO in float32", "OpenVINO", "OpenVINO int8", 1),
    ]
    title = f"Exported models, image file to boxes, batch 1: {options.snapshot or 'random weights'}"
    report(title, figures, "snapshot, TensorFlow", bars, options.out, reports=said)


if __name__ == "__main__":
    main()
