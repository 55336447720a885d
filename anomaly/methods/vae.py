"""Variational autoencoder: what it cannot draw again is not normal.

Source: Kingma and Welling 2014, arXiv:1312.6114; with noise on the input, Im et al. 2017,
    arXiv:1511.06406.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from anomaly.features.extractor import Source, graphs
from anomaly.methods.base import State
from anomaly.methods.fitting import checkpoint_path, compile_loss, run_epochs, train_step
from anomaly.methods.pixels import ImageMethod
from inspection.errors import InputError
from inspection.models.gradients import compiled_model
from inspection.progress import StageProgress, silent


class VAE(ImageMethod):
    """A convolutional variational autoencoder.

    Args:
        side: Of what it sees, in pixels; a multiple of 16.
        latent: Numbers that an image is told in.
        width: Channels of the first convolution, doubled by each of the next three.
        sigma: Standard deviation of a pixel, of 1, that the decoder may leave unexplained.
        noise: Standard deviation, of 1, of Gaussian noise on the input, against which it learns
            to draw the clean image.
        epochs: Passes over the normal images.
        batch_size: Views per step.
        lr: Learning rate of Adam.
    """

    name = "vae"
    aggregation = "mean"
    OPTIONS = ("side", "latent", "width", "sigma", "noise", "epochs", "batch_size", "lr")

    def __init__(
        self,
        side: int = 128,
        latent: int = 64,
        width: int = 32,
        sigma: float = 0.1,
        noise: float = 0.0,
        epochs: int = 50,
        batch_size: int = 16,
        lr: float = 1e-3,
    ) -> None:
        super().__init__(side)
        if side % 16 or min(side, latent, width, epochs, batch_size) < 1:
            raise InputError(
                f"{self.name}: needs a side that is a multiple of 16 (given {side}), and latent, "
                "width, epochs and batch_size of at least 1"
            )
        if not (sigma > 0 and noise >= 0 and lr > 0):
            raise InputError(f"{self.name}: needs sigma and lr over 0, and noise of at least 0")
        self.latent, self.width, self.sigma, self.noise = latent, width, sigma, noise
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.encoder: keras.Model | None = None
        self.decoder: keras.Model | None = None
        self._run: tuple[Callable, Callable] | None = None

    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        maps = self.maps(source, on_progress)
        keras.utils.set_random_seed(seed)
        self.encoder, self.decoder, self._run = self._encoder(), self._decoder(), None
        trained = compile_loss(self._trained(seed), keras.optimizers.Adam(self.lr))

        def epoch(rng: np.random.Generator) -> float:
            losses = [
                train_step(trained, maps[numbers][0] / 255, len(numbers))
                for numbers in maps.batches(self.batch_size, rng)
            ]
            return float(np.mean(losses))

        state = checkpoint_path(source, self.name, self.options, seed)
        run_epochs({"vae": trained}, epoch, self.epochs, seed, self.name, on_progress, state)

    def _encoder(self) -> keras.Model:
        x = inputs = keras.Input((self.side, self.side, 3), name="picture")
        for level in range(4):
            x = layers.Conv2D(
                self.width * 2**level, 4, strides=2, padding="same", activation="elu"
            )(x)
        x = layers.Flatten()(x)
        mean = layers.Dense(self.latent, name="mean")(x)
        # Starts near the prior's own spread.
        spread = layers.Dense(self.latent, kernel_initializer="zeros", name="log_variance")(x)
        return keras.Model(inputs, [mean, spread], name="encoder")

    def _decoder(self) -> keras.Model:
        cells, widest = self.side // 16, self.width * 8
        inputs = keras.Input((self.latent,), name="latent")
        x = layers.Dense(cells * cells * widest, activation="elu")(inputs)
        x = layers.Reshape((cells, cells, widest))(x)
        for level in reversed(range(4)):
            x = layers.Conv2DTranspose(
                self.width * 2 ** max(0, level - 1),
                4,
                strides=2,
                padding="same",
                activation="elu",
            )(x)
        x = layers.Conv2D(3, 3, padding="same", activation="sigmoid")(x)
        return keras.Model(inputs, x, name="decoder")

    def _trained(self, seed: int) -> keras.Model:
        """From images in [0, 1] to the negative evidence bound per pixel and channel."""
        clean = keras.Input((self.side, self.side, 3))
        given = layers.GaussianNoise(self.noise, seed=seed)(clean) if self.noise else clean
        mean, log_variance = self.encoder(given)
        drawn = self.decoder(Sampling(seed)([mean, log_variance]))
        error = ops.sum(ops.square(clean - drawn), axis=(1, 2, 3)) / (2 * self.sigma**2)
        bound = error + kl_divergence(mean, log_variance)
        return keras.Model(clean, bound / (3 * self.side**2))

    def score_views(self, views: np.ndarray) -> np.ndarray:
        # In float: a difference of uint8 would wrap.
        given = self.views(views).astype(np.float32) / 255
        if self._run is None:
            self._run = compiled_model(self.encoder), compiled_model(self.decoder)
        encode, decode = self._run
        drawn = np.asarray(decode(encode(given)[0]))
        return np.square(given - drawn).mean(axis=-1)

    def graph(self, views: Any) -> Any:
        factor, rest = divmod(views.shape[1], self.side)
        if rest or not factor:
            raise InputError(
                f"{self.name}: is exported only where its side ({self.side}) divides --size "
                f"({views.shape[1]}); train it with such a side"
            )
        given = graphs.shrunk(views, factor) / 255
        drawn = self.decoder(self.encoder(given, training=False)[0], training=False)
        return ops.mean(ops.square(given - drawn), axis=-1)

    def state(self) -> State:
        return State(self.options, {}, {"encoder": self.encoder, "decoder": self.decoder})

    @classmethod
    def from_state(cls, state: State) -> VAE:
        method = cls(**state.settings)
        method.encoder, method.decoder = state.networks["encoder"], state.networks["decoder"]
        return method


class DenoisingVAE(VAE):
    """The same with noise on the input unless set otherwise."""

    name = "vae-denoising"

    def __init__(self, noise: float = 0.1, **options: Any) -> None:
        super().__init__(noise=noise, **options)


def kl_divergence(mean: Any, log_variance: Any) -> Any:
    """Of a Gaussian from the standard one, (B, d) each to (B,); Kingma and Welling, appendix B."""
    terms = ops.square(mean) + ops.exp(log_variance) - 1 - log_variance
    return 0.5 * ops.sum(terms, axis=-1)


class Sampling(layers.Layer):
    """Draws from a Gaussian in a way that has a gradient."""

    def __init__(self, seed: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, told: list[Any]) -> Any:
        mean, log_variance = told
        chance = keras.random.normal(ops.shape(mean), seed=self.generator)
        return mean + ops.exp(0.5 * log_variance) * chance

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]
