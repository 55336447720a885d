"""A detector with random weights that finds about as much as a trained one, and its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ("particle", "scratch", "stain")


def save_random_model(path: Path, backbone: str, size: int, channels: int) -> None:
    """Saves a snapshot whose scores are spread, so that decoding has its usual work.

    With the weights of a start every score is near .01 and nothing would be left to decode.

    Args:
        path: The `.keras` file to write.
        backbone: A name from `inspection.models.backbones.NAMES`.
        size: Side of the fitted image in pixels.
        channels: Width of pyramid and heads.
    """
    import keras

    from detection.models.detector import Detector
    from detection.models.retinanet import RetinaNet
    from inspection.data.preparation import Preparation
    from inspection.models.card import ModelCard

    keras.utils.set_random_seed(0)
    model = RetinaNet(
        backbone,
        CLASSES,
        channels=channels,
    )
    image = picture(0, size)[None].astype(np.float32)
    outputs = model.predict_on_batch({"images": image})
    # About 1 % of all logits pass -2.94, the logit of the score .05.
    for head, name, spread in (
        (model.classification_head, "classification", 1.0),
        (model.box_head, "box", 0.5),
    ):
        kernel = head.prediction.kernel
        kernel.assign(np.asarray(kernel) * (spread / float(np.std(outputs[name]))))
    bias = model.classification_head.prediction.bias
    bias.assign(np.full(bias.shape, -5.3))
    card = ModelCard(
        room="detection",
        architecture=backbone,
        classes=CLASSES,
        preparation=Preparation(size, "letterbox"),
    )
    Detector(model, card).save(path)


def picture(seed: int, size: int) -> np.ndarray:
    """An even surface with noise, a gradient and some spots: (size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    image = 110 + 40 * x + 20 * y + rng.normal(0, 5, (size, size))
    for _ in range(6):
        left, top = rng.integers(0, size - size // 16, 2)
        side = int(rng.integers(size // 40 + 2, size // 16 + 3))
        image[top : top + side, left : left + side] += rng.choice((-60, -30, 30, 60))
    return np.clip(image, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def write_images(folder: Path, count: int, size: int) -> list[Path]:
    """Writes `picture`s as PNG files."""
    from inspection.data.images import write_image

    paths = [folder / f"{seed:03d}.png" for seed in range(count)]
    for seed, path in enumerate(paths):
        write_image(path, picture(seed, size))
    return paths
