"""ResNet backbones by name: their taps, their input convention and their weights.

One builder makes every depth, because only a builder of our own can swap BatchNorm for
GroupNorm. ResNet50, 101 and 152 have exactly the layers of `keras.applications`, so its
weight files load into them; ResNet18 and 34 have no published Keras weights.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import keras
from keras import layers, ops

from inspection.errors import InputError, first_line
from inspection.files.archives import check_hdf5

Norm = Literal["batch", "frozen", "group"]

# blocks per stage, and whether a block is a bottleneck (He et al. 2016, table 1)
_DEPTHS: dict[str, tuple[tuple[int, int, int, int], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
NAMES = tuple(_DEPTHS)
EFFICIENTNET = "efficientnet-b5"
EFFICIENTNET_STAGES = ("block3e_add", "block5g_add", "block6i_add")
EFFICIENTNET_STRIDES = (8, 16, 32)
IMAGENET_NAMES = tuple(name for name, (_, bottleneck) in _DEPTHS.items() if bottleneck)

# keras.applications' ResNet weights were trained in Caffe: BGR, mean removed, no scaling.
_IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)
_IMAGENET_RGB_STDDEV = (0.229, 0.224, 0.225)
AUTO_SECONDS = 8.0
"""How long `auto` waits for a download."""


@keras.saving.register_keras_serializable("inspection")
class Normalise(layers.Layer):
    """Turns RGB 0-255 into what a backbone was trained with; it travels inside the model.

    Args:
        mean: One value per channel, in the order the backbone wants, subtracted.
        scale: Factor applied after the subtraction.
        bgr: Whether the backbone wants the channels as blue, green, red.
    """

    def __init__(
        self,
        mean: tuple[float, ...] = _IMAGENET_BGR_MEAN,
        scale: float = 1.0,
        bgr: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.mean = tuple(float(value) for value in mean)
        self.scale = float(scale)
        self.bgr = bool(bgr)

    def call(self, images):
        """Maps (B, H, W, 3) RGB 0-255 to the backbone's convention."""
        images = ops.cast(images, self.compute_dtype)
        if self.bgr:
            images = ops.flip(images, axis=-1)
        mean = ops.convert_to_tensor(self.mean, dtype=self.compute_dtype)
        return (images - mean) * ops.cast(self.scale, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"mean": self.mean, "scale": self.scale, "bgr": self.bgr}


@keras.saving.register_keras_serializable("inspection")
class LocalContrast(layers.Layer):
    """Appends each channel's local contrast: the deviation from its surroundings.

    A defect of a few grey levels is lost beside the differences of light and colour between
    pictures, which set the scale of the first normalisation. A network that starts from scratch
    with a few hundred pictures learns it several times faster from its local contrast.

    Args:
        window: Side in pixels of the surroundings, odd; less at the image's border.
        floor: Added to the local standard deviation, in the units of the input, so that the
            noise of an even surface is not blown up.

    Source: local contrast normalisation, Jarrett et al. 2009, section 2.
    """

    def __init__(self, window: int = 33, floor: float = 0.05, **kwargs) -> None:
        super().__init__(**kwargs)
        self.window = int(window)
        self.floor = float(floor)

    def call(self, images):
        """Maps (B, H, W, C) to (B, H, W, 2 C)."""
        # float32: the variance is a small difference of large numbers.
        images = ops.cast(images, "float32")
        inside = ops.ones_like(images[:1, :, :, :1])
        for axis in (1, 2):
            inside = self._box_sum(inside, axis)
        deviation = images - self._mean(images, inside)
        # Rounding takes a difference of running sums below zero, where there is no root.
        variance = ops.maximum(self._mean(ops.square(deviation), inside), 0.0)
        spread = ops.sqrt(variance + 1e-8)
        contrast = deviation / (spread + self.floor)
        return ops.cast(ops.concatenate([images, contrast], axis=-1), self.compute_dtype)

    def _mean(self, images, inside):
        for axis in (1, 2):
            images = self._box_sum(images, axis)
        return images / inside

    def _box_sum(self, images, axis: int):
        """Sums over `window` pixels along an axis by running sums: its cost has no window."""
        reach = self.window // 2
        padding = [(0, 0)] * 4
        padding[axis] = (reach + 1, reach)
        total = ops.cumsum(ops.pad(images, padding), axis=axis)
        if axis == 1:
            return total[:, self.window :] - total[:, : -self.window]
        return total[:, :, self.window :] - total[:, :, : -self.window]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2 * input_shape[-1])

    def get_config(self):
        return super().get_config() | {"window": self.window, "floor": self.floor}


def normalisation(norm: Norm, name: str, *, zero_gamma: bool = False, epsilon: float = 1.001e-5):
    """The normalisation layer that a policy means.

    Args:
        norm: `batch`, `frozen` (BatchNorm that keeps its statistics and weights) or `group`.
        name: The layer's name.
        zero_gamma: Start the scale at zero, so that a residual block starts as identity.
        epsilon: Added to the variance.

    Returns:
        An unbuilt layer.
    """
    gamma = "zeros" if zero_gamma else "ones"
    if norm == "group":
        return layers.GroupNormalization(
            groups=32, epsilon=epsilon, gamma_initializer=gamma, name=name
        )
    layer = layers.BatchNormalization(epsilon=epsilon, gamma_initializer=gamma, name=name)
    layer.trainable = norm != "frozen"
    return layer


def resnet(
    name: str, norm: Norm = "batch", trainable: bool = True, width: int = 64, inputs=None
) -> keras.Model:
    """Builds a ResNet without weights; nothing goes online.

    Args:
        name: One of `NAMES`.
        norm: Normalisation policy, see `normalisation`.
        trainable: False freezes every weight.
        width: Channels of the first stage, doubled by each next one; 64 is the published one.
        inputs: Keras input of (B, H, W, 3) to build on; one of any H and W where left out.

    Returns:
        A model from (B, H, W, 3) RGB 0-255 to the last feature map, any H and W. Its
        `pyramid_level_inputs` names the layers of stride 4, 8, 16 and 32 ("P2" to "P5").

    Raises:
        InputError: The name is unknown.

    Source: He et al. 2016, arXiv:1512.03385; layer names and padding as keras.applications.
    """
    if name not in _DEPTHS:
        raise InputError(f"backbone '{name}' is unknown: choose one of {', '.join(NAMES)}.")
    blocks, bottleneck = _DEPTHS[name]
    if inputs is None:
        inputs = keras.Input((None, None, 3), name="image")
    if bottleneck:
        x = Normalise(name="normalise")(inputs)
    else:
        mean = tuple(reversed(_IMAGENET_BGR_MEAN))
        x = Normalise(mean, scale=1 / 58.0, bgr=False, name="normalise")(inputs)
        x = LocalContrast(name="local_contrast")(x)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(width, 7, strides=2, use_bias=bottleneck, name="conv1_conv")(x)
    x = normalisation(norm, "conv1_bn")(x)
    x = layers.Activation("relu", name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    block = _bottleneck_block if bottleneck else _basic_block
    for stage, count in enumerate(blocks, start=2):
        filters = width * 2 ** (stage - 2)
        for index in range(1, count + 1):
            stride = 2 if stage > 2 and index == 1 else 1
            x = block(x, filters, stride, index == 1, norm, f"conv{stage}_block{index}")
    model = keras.Model(inputs, x, name=name)
    model.pyramid_level_inputs = {
        f"P{stage}": f"conv{stage}_block{blocks[stage - 2]}_out" for stage in (2, 3, 4, 5)
    }
    if not trainable:
        model.trainable = False
    return model


def _bottleneck_block(x, filters, stride, first, norm, name):
    shortcut = x
    if first:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_0_conv")(x)
        shortcut = normalisation(norm, f"{name}_0_bn")(shortcut)
    x = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_1_conv")(x)
    x = normalisation(norm, f"{name}_1_bn")(x)
    x = layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
    x = normalisation(norm, f"{name}_2_bn")(x)
    x = layers.Activation("relu", name=f"{name}_2_relu")(x)
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    # A frozen norm never learns its scale away from zero, so only a live one starts there.
    x = normalisation(norm, f"{name}_3_bn", zero_gamma=norm != "frozen")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _basic_block(x, filters, stride, first, norm, name):
    def conv(x, kernel, stride, suffix):
        # Explicit padding keeps cell i of every level centred on the same pixel for odd and
        # even sizes; "same" padding with stride 2 would shift it by the size's parity.
        if kernel == 3 and stride == 2:
            x = layers.ZeroPadding2D(1, name=f"{name}_{suffix}_pad")(x)
            padding = "valid"
        else:
            padding = "same"
        x = layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_{suffix}_conv",
        )(x)
        zero = suffix == "2" and norm != "frozen"
        return normalisation(norm, f"{name}_{suffix}_bn", zero_gamma=zero)(x)

    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = conv(x, 1, stride, "0")
    x = conv(x, 3, stride, "1")
    x = layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = conv(x, 3, 1, "2")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def efficientnet_b5(weights: str = "none") -> keras.Model:
    """EfficientNet-B5 up to its sixth block of seven, as CS-Flow uses it.

    Args:
        weights: `imagenet`, `none`, or the path of a keras.applications `.h5` file.

    Returns:
        A model from (B, H, W, 3) RGB 0-255; `EFFICIENTNET_STAGES` are its layers of stride 8, 16
        and 32.

    Raises:
        InputError: The weights cannot be reached or do not fit.

    Source: Tan and Le 2019, arXiv:1905.11946.
    """
    chosen = None if weights == "none" else weights
    try:
        if chosen not in (None, "imagenet"):
            check_hdf5(chosen, Path(chosen).stat().st_size)
        whole = keras.applications.EfficientNetB5(include_top=False, weights=chosen)
    except Exception as error:  # download, file and shape errors of many kinds
        raise InputError(
            f"--weights {weights}: cannot be loaded into {EFFICIENTNET} ({first_line(error)}); "
            "offline, copy efficientnetb5_notop.h5 from a machine with internet and give its path"
        ) from error
    if weights not in ("none", "imagenet"):
        match_imagenet_inputs(whole)
    last = whole.get_layer(EFFICIENTNET_STAGES[-1]).output
    return keras.Model(whole.input, last, name="efficientnet_b5", trainable=False)


def match_imagenet_inputs(model: keras.Model) -> None:
    """Makes an EfficientNet with published weights see inputs of the size that they expect.

    For `weights="imagenet"`, and for nothing else, keras.applications divides the normalised inputs
    by the root of the standard deviation once more. Without that the same file, given by its path,
    sees inputs of about half the size. The factor goes into the variance of the normalisation, so
    layers stay as they are; a model that has it already, or is no EfficientNet, is left alone.

    Args:
        model: Changed in place.
    """
    found = [layer for layer in model.layers if isinstance(layer, layers.Normalization)]
    rescalings = [layer for layer in model.layers if isinstance(layer, layers.Rescaling)]
    if len(found) != 1 or len(rescalings) != 1:
        return
    (layer,) = found
    layer.adapt_variance.assign(ops.convert_to_numpy(layer.adapt_variance) * _IMAGENET_RGB_STDDEV)
    layer.finalize_state()


def fetch_imagenet(name: str, timeout: float | None = None) -> Path:
    """The file of keras.applications' ImageNet weights, from its cache or the internet.

    Args:
        name: One of `IMAGENET_NAMES`.
        timeout: Seconds to wait for the download; None waits until it ends.

    Returns:
        Path of the `.h5` file.

    Raises:
        InputError: The backbone has no published weights, or they cannot be reached.
    """
    if name not in IMAGENET_NAMES:
        raise InputError(
            f"{name} has no published Keras ImageNet weights: take --weights none, "
            f"a snapshot, or one of {', '.join(IMAGENET_NAMES)}."
        )
    outcome: list[Path | Exception] = []

    def fetch() -> None:
        try:
            outcome.append(Path(_download(name)))
        except Exception as error:  # whatever the network stack raises, it means: not reachable
            outcome.append(error)

    # A daemon thread, so that a connection that hangs cannot keep the program from going on.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(timeout)
    if outcome and isinstance(outcome[0], Path):
        return outcome[0]
    reason = str(outcome[0]) if outcome else f"no answer within {timeout:.0f} s"
    raise InputError(
        f"ImageNet weights for {name} cannot be reached ({reason}). Offline, copy "
        f"{_weights_file(name)} from a machine with internet and give its path as --weights."
    )


def _weights_file(name: str) -> str:
    return f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _download(name: str) -> str:
    from keras.src.applications import resnet as published

    return keras.utils.get_file(
        _weights_file(name),
        published.BASE_WEIGHTS_PATH + _weights_file(name),
        cache_subdir="models",
        file_hash=published.WEIGHTS_HASHES[name][1],
    )


def load_weights_file(model: keras.Model, path: str | Path) -> None:
    """Loads a copied keras.applications `.h5` file (with or without its top) into a backbone.

    Args:
        model: A backbone from `resnet`.
        path: The file.

    Raises:
        InputError: The file is missing, damaged, or of another architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: this weights file does not exist; check --weights.")
    try:
        # By name, so that a file that still has its ImageNet classifier fits as well; a
        # layer that is missing there would be skipped in silence, hence the check before.
        check_hdf5(path, path.stat().st_size)
        _check_layers(model, path)
        model.load_weights(str(path), by_name=True)
    except Exception as error:  # HDF5 and Keras raise nearly every exception on damaged files
        raise InputError(
            f"{path}: cannot be read as weights of {model.name} ({first_line(error)}). Give the "
            f"keras.applications file {_weights_file(model.name)} or one of our snapshots."
        ) from error


def _check_layers(model: keras.Model, path: Path) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        there = {key for key in group if len(group[key])}
    missing = [layer.name for layer in model.layers if layer.weights and layer.name not in there]
    if missing:
        raise ValueError(f"{len(missing)} layers are not in it, the first is {missing[0]}")
    extra = there - {layer.name for layer in model.layers} - {"predictions", "probs", "fc1000"}
    extra = {name for name in extra if name.startswith("conv")}
    if extra:
        raise ValueError(f"it is of a deeper network: {sorted(extra)[0]}")
