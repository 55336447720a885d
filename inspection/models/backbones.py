"""Backbones by name: ResNets of every depth, and the front of EfficientNet-B5.

One builder makes every ResNet, because only a builder of our own can swap BatchNorm for
GroupNorm. ResNet50, 101 and 152 have exactly the layers of `keras.applications`, so its
weight files load into them; ResNet18 and 34 have no published Keras weights.
"""

from __future__ import annotations

import keras
from keras import layers

from inspection.errors import InputError
from inspection.models.layers import (
    IMAGENET_BGR_MEAN,
    LocalContrast,
    Norm,
    Normalise,
    normalisation,
)
from inspection.models.weights import fill_backbone

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
        mean = tuple(reversed(IMAGENET_BGR_MEAN))
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
    whole = keras.applications.EfficientNetB5(include_top=False, weights=None)
    fill_backbone(whole, weights, EFFICIENTNET)
    last = whole.get_layer(EFFICIENTNET_STAGES[-1]).output
    return keras.Model(whole.input, last, name="efficientnet_b5", trainable=False)
