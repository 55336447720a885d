"""Training steps: ours beside stock KerasCV's, and how long a step waits for its data.

    python -m benchmarks.train_step [--quick] [--rounds 3] [--batch-size 1]
                                    [--out docs/benchmark-train-step.json]

Both run ResNet50 with trainable BatchNorm, heads of four convolutions of 256 without a norm,
Adam, on the same 1024-pixel images, which both can run. Making our targets is part of our
time; KerasCV makes its own inside the step. The wait is measured with the real input pipeline
at 900 pixels, reading and augmenting files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.predict import stock_backbone
from benchmarks.random_model import CLASSES, picture, write_images
from benchmarks.side_by_side import Bar, Subject, compare, report

_LEARNING_RATE = 1e-4
OURS, STOCK = "ours, targets included", "stock KerasCV"


def labelled(count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (B, size, size, 3) float32, boxes (B, 5, 4) xyxy and classes (B, 5)."""
    rng = np.random.default_rng(0)
    images = np.stack([picture(seed, size) for seed in range(count)]).astype(np.float32)
    corner = rng.uniform(0, 0.8 * size, (count, 5, 2))
    side = rng.uniform(0.02 * size, 0.15 * size, (count, 5, 2))
    boxes = np.concatenate([corner, corner + side], axis=2).astype(np.float32)
    return images, boxes, rng.integers(0, len(CLASSES), (count, 5))


def our_step(size: int, batch_size: int, backbone: str, channels: int) -> Callable[[], Any]:
    """One of our training steps, from images and boxes."""
    import keras

    from detection.models.anchors import AnchorGrid
    from detection.models.retinanet import RetinaNet
    from detection.models.targets import make_targets

    model = RetinaNet(backbone, CLASSES, norm="batch", head_norm="none", channels=channels)
    model.compile(keras.optimizers.Adam(_LEARNING_RATE, global_clipnorm=5.0), jit_compile=False)
    images, boxes, classes = labelled(batch_size, size)
    grid = AnchorGrid(model.anchors, size, size)

    def call() -> dict[str, float]:
        began = time.perf_counter()
        made = [make_targets(grid, *pair) for pair in zip(boxes, classes, strict=True)]
        targets = {
            "box": np.stack([box for box, _ in made]),
            "classification": np.stack([label for _, label in made]),
        }
        seconds = time.perf_counter() - began
        loss = model.train_on_batch({"images": images}, targets, return_dict=True)
        return {"loss": float(loss["loss"]), "targets_s": seconds}

    return call


def stock_step(size: int, batch_size: int, deep: bool) -> Callable[[], Any]:
    """One training step of KerasCV's RetinaNet with heads as deep as ours."""
    import keras
    import keras_cv
    import tensorflow
    from keras_cv.src.models.object_detection.retinanet.prediction_head import PredictionHead

    prior = keras.initializers.Constant(-float(np.log((1 - 0.01) / 0.01)))
    model = keras_cv.models.RetinaNet(
        backbone=stock_backbone(deep),
        num_classes=len(CLASSES),
        bounding_box_format="xyxy",
        classification_head=PredictionHead(9 * len(CLASSES), prior, num_conv_layers=4),
        box_head=PredictionHead(9 * 4, keras.initializers.Zeros(), num_conv_layers=4),
    )
    model.compile(
        optimizer=keras.optimizers.Adam(_LEARNING_RATE, global_clipnorm=5.0),
        classification_loss="focal",
        box_loss="smoothl1",
        jit_compile=False,
    )
    images, boxes, classes = labelled(batch_size, size)
    truth = {"boxes": boxes, "classes": classes.astype(np.float32)}

    # What its `fit` runs for every step; its `train_on_batch` fails under Keras 3.15.
    data = iter(tensorflow.data.Dataset.from_tensors((images, truth)).repeat())
    model.make_train_function()

    def call() -> dict[str, float]:
        return {"loss": float(model.train_function(data)["loss"])}

    return call


def waiting(folder: Path, size: int, batch_size: int, backbone: str, channels: int, steps: int):
    """Steps of the real loop, fed by the real pipeline; the call returns the share waited."""
    import keras

    from detection.models.anchors import AnchorSettings
    from detection.models.retinanet import RetinaNet
    from detection.training.batches import Batches, FittedImages
    from inspection.data.boxes import ImageLabels
    from inspection.training.prefetch import ahead

    paths = write_images(folder, 8, size)
    _, boxes, classes = labelled(len(paths), size)
    labels = [
        ImageLabels(path.name, xyxy, tuple(CLASSES[index] for index in label))
        for path, xyxy, label in zip(paths, boxes, classes, strict=True)
    ]
    images = FittedImages(labels, folder, CLASSES, size, cache_bytes=0)  # every file is read
    batches = Batches(images, AnchorSettings(), batch_size, augment="heavy")
    model = RetinaNet(backbone, CLASSES, norm="batch", channels=channels)
    model.compile(keras.optimizers.Adam(_LEARNING_RATE, global_clipnorm=5.0), jit_compile=False)

    def call() -> dict[str, float]:
        feed = ahead(batches, 0, steps + 1)
        batch = next(feed)  # nothing can be ready before the first step
        waited, began = 0.0, time.perf_counter()
        while batch is not None:
            model.train_on_batch({"images": batch.images}, batch.targets)
            asked = time.perf_counter()
            batch = next(feed, None)
            waited += time.perf_counter() - asked
        return {"waited_share": waited / (time.perf_counter() - began)}

    return call


def main() -> None:
    """Runs both steps in turn, then the pipeline, and prints medians, ratios and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small network and images")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    quick, batch = options.quick, options.batch_size
    backbone, size, whole = ("resnet18", 256, 200) if quick else ("resnet50", 1024, 900)
    figures = compare(
        [
            Subject(OURS, our_step, (size, batch, backbone, 256)),
            Subject(STOCK, stock_step, (size, batch, not quick)),
        ],
        options.rounds,
    )
    with tempfile.TemporaryDirectory() as name:
        arguments = (Path(name), whole, batch, backbone, 64 if quick else 256, options.rounds)
        pipeline = compare([Subject("pipeline", waiting, arguments)], 1)["pipeline"]
    share = pipeline.result.get("waited_share", float("nan"))
    bars = [Bar("our training step against KerasCV's, images/s", STOCK, OURS, 1.2)]
    title = f"Training step, {backbone}, {size} px, batch {batch}, heads of 4 convolutions"
    report(title, figures, STOCK, bars, options.out, pipeline=pipeline.result)
    reached = "met" if share <= 0.05 else f"MISSED {pipeline.absent}"
    print(
        f"input pipeline keeps the step busy ({whole} px, heavy augmentation, files read each "
        f"time): bar >= 95 %, {1 - share:.1%}, {reached}; peak {pipeline.peak_mb:.0f} MB"
    )


if __name__ == "__main__":
    main()
