"""More normal images from a DCGAN, checked against normal images it has not seen.

Source: Radford et al. 2016, arXiv:1511.06434; the check is the kernel inception distance of
    Bińkowski et al. 2018, arXiv:1801.01401, on features of whichever backbone is at hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import layers, ops

from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.methods.fitting import MapSet, checkpoint_path, compile_loss, run_epochs, train_step
from anomaly.methods.pooled import pooled
from inspection.data.images import write_image
from inspection.errors import InputError
from inspection.files.writing import write_json_atomic
from inspection.models.gradients import compiled_model
from inspection.progress import StageProgress, silent

RECORD = "generated.json"
SAMPLES = "samples"
_SUBSETS, _SUBSET = 50, 100
_LEAST = 20  # held-out normals, under which the check says nothing


@dataclass(frozen=True)
class Generator:
    """A DCGAN's settings.

    Args:
        side: Of the images, in pixels; 16 times a power of two.
        width: Channels of the widest map at 64 pixels, divided by 8.
        latent: Numbers that an image is made from.
        epochs: Passes over the normal images.
        batch_size: Images per step.
        lr: Learning rate of both optimizers.
    """

    side: int = 64
    width: int = 32
    latent: int = 100
    epochs: int = 100
    batch_size: int = 32
    lr: float = 2e-4

    def __post_init__(self) -> None:
        levels = np.log2(self.side / 4)
        if self.side < 16 or levels != round(levels):
            raise InputError(f"--side {self.side}: must be 16, 32, 64, 128 or 256")
        if min(self.width, self.latent, self.epochs, self.batch_size) < 1 or not self.lr > 0:
            raise InputError("generate: width, epochs and batch size must be at least 1, lr over 0")

    @property
    def levels(self) -> int:
        """How often a side is doubled from 4 pixels."""
        return int(np.log2(self.side / 4))


def generate(
    train: Source,
    held_out: Source,
    extractor: Callable[[], FeatureExtractor],
    output: Path,
    count: int,
    settings: Generator | None = None,
    seed: int = 0,
    on_progress: StageProgress = silent,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Trains a DCGAN and writes images, a grid of samples for each epoch, and the check.

    Args:
        train: Normal images to learn from.
        held_out: Normal images to check against.
        extractor: Gives what features are compared by, once it is known that all else is well.
        output: New folder: `generated/`, `samples/epoch_<n>.png` and `generated.json`.
        count: Images to write.
        settings: Of the DCGAN.
        seed: Decides weights, order and images.
        on_progress: Called after each epoch.
        say: Receives a line on how near the images come.

    Returns:
        `kid`, and `kid_real`: the same of training images, which is what chance alone gives.

    Raises:
        InputError: There are too few images, or the folder exists.
    """
    settings = settings or Generator()
    # Samples alone are what an interrupted training left, which goes on.
    if output.exists() and any(path.name != SAMPLES for path in output.iterdir()):
        raise InputError(f"{output}: is there already and not empty; give another --output")
    if len(held_out) < _LEAST:
        raise InputError(
            f"generate: only {len(held_out)} normal images are held out to check against; it "
            f"takes {_LEAST}"
        )
    maps = MapSet(len(train), lambda index: [_shrunk(train, index, settings.side)], on_progress)
    if len(maps) < settings.batch_size:
        raise InputError(
            f"generate: only {len(maps)} normal images to learn from; give at least "
            f"{settings.batch_size}, or a smaller --batch-size"
        )
    began = time.perf_counter()
    keras.utils.set_random_seed(seed)
    maker, judge = _maker(settings), _judge(settings)
    fixed = np.random.default_rng(seed).standard_normal((64, settings.latent)).astype(np.float32)
    epoch = _epoch(maker, judge, maps, settings, fixed, output)
    state = checkpoint_path(train, "dcgan", settings, seed)
    run_epochs(epoch.networks, epoch, settings.epochs, seed, "the generator", on_progress, state)
    images = draw(maker, count, settings.latent, seed + 1)
    check = _check(images, train, held_out, extractor(), settings.side, seed)
    for number, rgb in enumerate(images):
        write_image(output / "generated" / f"generated_{number:05d}.png", rgb)
        on_progress("writing images", number + 1, count)
    record = {
        "settings": asdict(settings),
        "seed": seed,
        "learnt_from": train.hash,
        "pictures": count,
        "minutes": (time.perf_counter() - began) / 60,
        **check,
    }
    write_json_atomic(output / RECORD, record)
    say(
        f"KID of generated images against held-out normals {check['kid']:.4f}; of real training "
        f"images {check['kid_real']:.4f}: the nearer, the more alike."
    )
    return check


def draw(maker: keras.Model, count: int, latent: int, seed: int) -> np.ndarray:
    """(count, side, side, 3) uint8 images."""
    rng = np.random.default_rng(seed)
    run = compiled_model(maker)
    found = []
    for start in range(0, count, 64):
        chance = rng.standard_normal((min(64, count - start), latent)).astype(np.float32)
        found.append(_as_images(np.asarray(run(chance))))
    return np.concatenate(found)


def kernel_distance(
    one: np.ndarray, other: np.ndarray, seed: int = 0, subsets: int = _SUBSETS
) -> float:
    """Kernel distance of two sets of feature vectors, unbiased: 0 on average for equal ones.

    Args:
        one: (N, d).
        other: (M, d).
        seed: Decides the subsets.
        subsets: How many subsets of up to 100 are averaged.

    Source: Bińkowski et al. 2018, equation 4 and section 4.3; cubic polynomial kernel.
    """
    size = min(_SUBSET, len(one), len(other))
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        x, y = (vectors[rng.permutation(len(vectors))[:size]] for vectors in (one, other))
        xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        found.append(within - 2 * xy.mean())
    return float(np.mean(found))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


class _epoch:
    """One pass of both networks; leaves a grid of samples behind."""

    def __init__(
        self,
        maker: keras.Model,
        judge: keras.Model,
        maps: MapSet,
        settings: Generator,
        fixed: np.ndarray,
        output: Path,
    ) -> None:
        self.maker, self.judge, self.maps, self.settings = maker, judge, maps, settings
        self.fixed, self.output = fixed, output
        self.draw = compiled_model(maker)
        real, drawn = (keras.Input((settings.side, settings.side, 3)) for _ in range(2))
        loss = ops.softplus(-judge(real)) + ops.softplus(judge(drawn))
        judging = keras.Model([real, drawn], loss[:, 0])
        chance = keras.Input((settings.latent,))
        making = keras.Model(chance, ops.softplus(-judge(maker(chance)))[:, 0])
        adam = (keras.optimizers.Adam(settings.lr, beta_1=0.5) for _ in range(2))
        self.networks = {
            "judge": compile_loss(judging, next(adam)),
            "maker": compile_loss(making, next(adam)),
        }
        judging.optimizer.build(judge.trainable_variables)
        making.optimizer.build(maker.trainable_variables)

    def __call__(self, rng: np.random.Generator) -> float:
        losses, size = [], self.settings.batch_size
        for numbers in self.maps.batches(size, rng):
            real = self.maps[numbers][0] / 127.5 - 1
            chance, other = rng.standard_normal((2, size, self.settings.latent)).astype(np.float32)
            drawn = np.asarray(self.draw(chance))
            # Each step changes its own network only.
            self.judge.trainable, self.maker.trainable = True, False
            train_step(self.networks["judge"], [real, drawn], size)
            self.judge.trainable, self.maker.trainable = False, True
            losses.append(train_step(self.networks["maker"], other, size))
        done = int(self.networks["maker"].optimizer.iterations) // len(self.maps.batches(size, rng))
        grid = _as_images(np.asarray(self.draw(self.fixed)))
        write_image(self.output / SAMPLES / f"epoch_{done:03d}.png", _grid(grid))
        return float(np.mean(losses))


def _maker(settings: Generator) -> keras.Model:
    widest = settings.width * 2 ** (settings.levels - 1)
    x = inputs = keras.Input((settings.latent,), name="chance")
    x = layers.Dense(16 * widest)(x)
    x = layers.Reshape((4, 4, widest))(x)
    for level in range(settings.levels):
        # Groups, not batches: what is drawn then does not depend on its neighbours.
        x = layers.ReLU()(layers.GroupNormalization(groups=min(8, x.shape[-1]))(x))
        last = level == settings.levels - 1
        channels = 3 if last else x.shape[-1] // 2
        x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same")(x)
    return keras.Model(inputs, layers.Activation("tanh")(x), name="maker")


def _judge(settings: Generator) -> keras.Model:
    x = inputs = keras.Input((settings.side, settings.side, 3), name="picture")
    for level in range(settings.levels):
        x = layers.Conv2D(settings.width * 2**level, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)), name="judge")


def _shrunk(source: Source, index: int, side: int) -> np.ndarray:
    views = source.prepared(index).views
    return np.stack(
        [cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA) for view in views]
    )


def _as_images(drawn: np.ndarray) -> np.ndarray:
    return np.clip((drawn + 1) * 127.5, 0, 255).round().astype(np.uint8)


def _grid(images: np.ndarray) -> np.ndarray:
    """64 images as 8 x 8."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in np.split(images, 8)])


def _check(
    images: np.ndarray,
    train: Source,
    held_out: Source,
    extractor: FeatureExtractor,
    side: int,
    seed: int,
) -> dict[str, float]:
    """All at the generator's own side, or sharpness alone would tell them apart."""
    size = train.preparation.size

    def vectors(views: list[np.ndarray]) -> np.ndarray:
        large = [cv2.resize(view, (size, size), interpolation=cv2.INTER_LINEAR) for view in views]
        return np.concatenate([pooled(extractor(view[None])) for view in large])

    real = [view for index in range(len(held_out)) for view in _shrunk(held_out, index, side)]
    order = np.random.default_rng(seed).permutation(len(train))[: len(real)]
    learnt = [view for index in order for view in _shrunk(train, int(index), side)]
    sets = [vectors(views) for views in (real, learnt, list(images))]
    mean, deviation = sets[0].mean(axis=0), sets[0].std(axis=0) + 1e-6
    real, learnt, made = ((one - mean) / deviation for one in sets)
    return {
        "kid": kernel_distance(made, real, seed),
        "kid_real": kernel_distance(learnt, real, seed),
    }
