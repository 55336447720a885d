"""Class activation maps and training of classifiers against their peers on the same machine.

python -m benchmarks.cam gradcam      # against tf-keras-vis, where it is installed
python -m benchmarks.cam scorecam     # batched against a loop over channels
python -m benchmarks.cam train        # against model.fit on arrays
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side import Absent, Bar, Subject, compare, report


def model_and_views(name: str, size: int, count: int) -> tuple[Any, np.ndarray]:
    """The same random network and images for every subject."""
    import keras

    from classification.models.architectures import build_model

    keras.utils.set_random_seed(0)
    model = build_model(name, size, 5)
    views = np.random.default_rng(0).uniform(0, 255, (count, size, size, 3))
    return model, views.astype(np.float32)


def ours(name: str, size: int, count: int, method: str) -> Callable[[], Any]:
    from classification.cam.maps import Explainer

    model, views = model_and_views(name, size, count)
    explain = Explainer(model)
    rng = np.random.default_rng(1)
    kept = explain(views, [0] * count, method).scaled().tolist()

    def run() -> dict[str, Any]:
        # Other images each time: a batch that was seen is not looked at again.
        changed = views + rng.uniform(0, 1, views.shape).astype(np.float32)
        explain(changed, [0] * count, method)
        return {"maps": kept}

    return run


def tf_keras_vis(name: str, size: int, count: int) -> Callable[[], Any]:
    """Its Grad-CAM on the whole batch, without resizing and on the same layer."""
    try:
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.utils.scores import CategoricalScore
    except ImportError as error:
        raise Absent("pip install tf-keras-vis") from error
    model, views = model_and_views(name, size, count)
    peer = Gradcam(model, clone=False)
    rng = np.random.default_rng(1)

    def maps(images: np.ndarray) -> np.ndarray:
        return peer(
            CategoricalScore([0] * count),
            images,
            penultimate_layer="features",
            expand_cam=False,
            normalize_cam=True,
        )

    found = np.asarray(maps(views)).tolist()

    def run() -> dict[str, Any]:
        maps(views + rng.uniform(0, 1, views.shape).astype(np.float32))
        return {"maps": found}

    return run


def plain_loop(name: str, size: int, count: int) -> Callable[[], Any]:
    """Grad-CAM image by image: a model cut in two outputs, and one tape."""
    import keras
    import tensorflow as tf

    model, views = model_and_views(name, size, count)
    cut = keras.Model(model.input, [model.get_layer("features").output, model.output])
    rng = np.random.default_rng(1)

    def maps(images: np.ndarray) -> list:
        found = []
        for view in images:
            with tf.GradientTape() as tape:
                a, logits = cut(view[None], training=False)
                score = logits[0, 0]
            weights = tf.reduce_mean(tape.gradient(score, a), axis=(1, 2), keepdims=True)
            cam = tf.nn.relu(tf.reduce_sum(weights * a, axis=-1))[0].numpy()
            found.append((cam / cam.max() if cam.max() > 0 else cam).tolist())
        return found

    kept = maps(views)

    def run() -> dict[str, Any]:
        maps(views + rng.uniform(0, 1, views.shape).astype(np.float32))
        return {"maps": kept}

    return run


def channel_loop(name: str, size: int) -> Callable[[], Any]:
    """Score-CAM with one call of the model a channel."""
    import tensorflow as tf

    from classification.cam.maps import Explainer

    model, views = model_and_views(name, size, 1)
    explain = Explainer(model)
    a, _ = explain.activations(views)
    mean = views[0].mean(axis=(0, 1))

    def run() -> dict[str, Any]:
        scores = []
        for channel in np.moveaxis(a[0], -1, 0):
            reach = np.ptp(channel)
            if reach == 0:
                continue
            mask = tf.image.resize(((channel - channel.min()) / reach)[..., None], (size, size))
            masked = mean + (views[0] - mean) * mask.numpy()
            scores.append(float(model(masked[None], training=False)[0, 0]))
        return {}

    return run


def our_training(name: str, size: int, images: int, batch: int) -> Callable[[], Any]:
    """Steps as `python -m classification train` takes them, batches made in a thread."""
    from classification.data.images import open_images
    from classification.data.sample import write_sample
    from classification.training.batches import Batches, Views
    from classification.training.sampling import SAMPLERS
    from inspection.data.preparation import Preparation
    from inspection.training.prefetch import ahead

    folder = Path(tempfile.mkdtemp())
    write_sample(folder)
    found = open_images(folder)
    items = found.items[:images]
    labels = [found.classes.index(item.kind) for item in items]
    model = _compiled(name, size)
    sampler = SAMPLERS["plain"](labels, 5, 0)
    batches = Batches(Views(items, Preparation(size)), labels, 5, sampler, batch)

    def run() -> dict[str, Any]:
        for one in ahead(batches, 0, images // batch):
            float(model.train_on_batch(one.images, one.targets))
        return {}

    return run


def plain_fit(name: str, size: int, images: int, batch: int) -> Callable[[], Any]:
    """`model.fit` on arrays that are in memory."""
    model = _compiled(name, size)
    rng = np.random.default_rng(0)
    views = rng.uniform(0, 255, (images, size, size, 3)).astype(np.float32)
    targets = np.eye(5, dtype=np.float32)[rng.integers(0, 5, images)]

    def run() -> dict[str, Any]:
        model.fit(views, targets, batch_size=batch, epochs=1, verbose=0)
        return {}

    return run


def _compiled(name: str, size: int):
    import keras

    from classification.models.architectures import build_model
    from classification.training.losses import cross_entropy

    model = build_model(name, size, 5)
    model.compile(keras.optimizers.AdamW(1e-4), loss=cross_entropy, jit_compile=False)
    return model


def gradcam(options: argparse.Namespace) -> None:
    size, count = (64, 4) if options.quick else (224, 8)
    name = "resnet18-small" if options.quick else "resnet50"
    shape = (name, size, count)
    figures = compare(
        [
            Subject("ours", ours, (*shape, "grad-cam")),
            Subject("tf-keras-vis", tf_keras_vis, shape),
            Subject("plain loop", plain_loop, shape),
        ],
        options.rounds,
    )
    maps = {name: np.array(one.result.get("maps", [])) for name, one in figures.items()}
    apart = float(np.abs(maps["ours"] - maps["plain loop"]).max())
    if maps["tf-keras-vis"].size and not maps["tf-keras-vis"].any():
        print("tf-keras-vis gives empty maps under this Keras; its time is reported all the same.")
    for one in figures.values():
        one.result = {}
    peers = ["plain loop", *([] if figures["tf-keras-vis"].absent else ["tf-keras-vis"])]
    title = f"Grad-CAM, {name} at {size} px, {count} images; maps apart by {apart:.1e} at the most"
    bars = [Bar(f"Grad-CAM over {peer}", peer, "ours", 2) for peer in peers]
    report(title, figures, peers[-1], bars, options.out)


def scorecam(options: argparse.Namespace) -> None:
    name, size = ("resnet18-small", 64) if options.quick else ("resnet18", 128)
    figures = compare(
        [
            Subject("ours", ours, (name, size, 1, "score-cam")),
            Subject("channel by channel", channel_loop, (name, size)),
        ],
        options.rounds,
    )
    for one in figures.values():
        one.result = {}
    title = f"Score-CAM, {name} at {size} px, one image"
    bars = [Bar("Score-CAM", "channel by channel", "ours", 5)]
    report(title, figures, "channel by channel", bars, options.out)


def train(options: argparse.Namespace) -> None:
    name, size = ("resnet18-small", 64) if options.quick else ("resnet18", 128)
    shape = (name, size, 96, 16)
    figures = compare(
        [Subject("ours", our_training, shape), Subject("model.fit", plain_fit, shape)],
        options.rounds,
    )
    title = f"One epoch of 96 images, {name} at {size} px, batches of 16"
    report(title, figures, "model.fit", [Bar("training", "model.fit", "ours", 1)], options.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["gradcam", "scorecam", "train"])
    parser.add_argument("--quick", action="store_true", help="small network, small images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    {"gradcam": gradcam, "scorecam": scorecam, "train": train}[options.what](options)


if __name__ == "__main__":
    main()
