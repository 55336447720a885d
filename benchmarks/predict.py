"""Image file to boxes: ours beside the bare network, stock KerasCV, torchvision, OpenVINO.

    python -m benchmarks.predict [--quick] [--rounds 5] [--out docs/benchmark-predict.json]

ResNet50 with 256 channels at 900 x 900, batch 1, random weights with spread scores. KerasCV
cannot run 900 pixels and gets 896, the nearest size that it can.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.random_model import CLASSES, save_random_model, write_images
from benchmarks.side_by_side import Absent, Bar, Subject, compare, report


def bare_forward(snapshot: Path, image: Path) -> Callable[[], Any]:
    """The network alone, on pixels that are in memory."""
    from detection.models.detector import Detector
    from inspection.data.images import read_image

    detector = Detector.load(snapshot)
    images = read_image(image)[None].astype(np.float32)
    return lambda: detector.forward(images) and None


def our_predict(snapshot: Path, image: Path) -> Callable[[], Any]:
    """`Detector.predict` on a file."""
    from detection.models.detector import Detector

    detector = Detector.load(snapshot)
    return lambda: {"boxes": len(detector.predict(image).score)}


def exported_predict(path: Path, image: Path) -> Callable[[], Any]:
    """`ExportedDetector.predict` on a file."""
    from detection.export.exported import ExportedDetector

    detector = ExportedDetector.load(path)
    return lambda: {"boxes": len(detector.predict(image).score)}


def keras_cv_predict(picture: Path, size: int, deep: bool) -> Callable[[], Any]:
    """Stock KerasCV: `RetinaNet.predict` with its own pyramid, heads and decoder."""
    import keras_cv

    from inspection.data.images import read_image
    from inspection.data.letterbox import fit_for

    model = keras_cv.models.RetinaNet(
        backbone=stock_backbone(deep), num_classes=len(CLASSES), bounding_box_format="xyxy"
    )

    def call() -> dict[str, Any]:
        image = read_image(picture)
        image = fit_for(image.shape[1], image.shape[0], size).apply(image)
        found = model.predict(image[None].astype(np.float32), verbose=0)
        return {"boxes": int(np.asarray(found["num_detections"])[0])}

    return call


def stock_backbone(deep: bool) -> Any:
    """KerasCV's ResNet50 (or 18) without weights; nothing goes online."""
    import keras_cv

    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 128, 256, 512],
        stackwise_blocks=[3, 4, 6, 3] if deep else [2, 2, 2, 2],
        stackwise_strides=[1, 2, 2, 2],
        block_type="block" if deep else "basic_block",
        include_rescaling=True,
    )


def torchvision_predict(image: Path, size: int) -> Callable[[], Any]:
    """torchvision's RetinaNet with ResNet50, without weights."""
    try:
        import torch
        from torchvision.models.detection import retinanet_resnet50_fpn
    except ImportError as error:
        raise Absent(f"not installed here ({error})") from error
    from inspection.data.images import read_image

    model = retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(CLASSES) + 1,
        min_size=size,
        max_size=size,
    ).eval()

    def call() -> dict[str, Any]:
        pixels = torch.from_numpy(read_image(image)).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            return {"boxes": len(model([pixels])[0]["scores"])}

    return call


def prepare(folder: Path, backbone: str, size: int, channels: int) -> None:
    """Writes images, a snapshot and its OpenVINO export; call it in a process of its own."""
    from detection.export.write import export
    from detection.models.detector import Detector

    images = write_images(folder, 2, size)
    save_random_model(folder / "model.keras", backbone, size, channels)
    detector = Detector.load(folder / "model.keras")
    for line in export(detector, folder / "model.xml", check_images=images).lines():
        print(line)


def main() -> None:
    """Runs all subjects; prints seconds and CPU seconds, the range of their ratios, and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small network and images")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    backbone, size, channels = ("resnet18", 200, 64) if options.quick else ("resnet50", 900, 256)
    # KerasCV's pyramid needs a multiple of 32 at least; 128 keeps every level even.
    legal = round(size / 128) * 128
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(prepare, (folder, backbone, size, channels))
        image, snapshot = folder / "000.png", folder / "model.keras"
        stock = f"stock KerasCV predict, {legal} px"
        subjects = [
            Subject("ours, file to boxes", our_predict, (snapshot, image)),
            Subject("bare forward pass", bare_forward, (snapshot, image)),
            Subject("ours, OpenVINO export", exported_predict, (folder / "model.xml", image)),
            Subject("torchvision RetinaNet", torchvision_predict, (image, size)),
            Subject(stock, keras_cv_predict, (image, legal, not options.quick)),
        ]
        figures = compare(subjects, options.rounds)
    bars = [
        Bar("ours against stock KerasCV", stock, "ours, file to boxes", 20),
        Bar("overhead on the bare forward", "ours, file to boxes", "bare forward pass", 1.15, True),
        Bar(
            "OpenVINO against our TensorFlow path",
            "ours, file to boxes",
            "ours, OpenVINO export",
            2,
        ),
        Bar("OpenVINO against torchvision", "torchvision RetinaNet", "ours, OpenVINO export", 2),
    ]
    title = f"Image file to boxes, {backbone}, {channels} channels, {size} x {size}, batch 1"
    report(title, figures, "ours, file to boxes", bars, options.out)


if __name__ == "__main__":
    main()
