"""Class activation maps from activations and gradients: one weighting each.

Every function takes activations `a` and gradients `g` of the class's logit by them, both
(B, h, w, C) float32, and returns weights that broadcast to that shape. The map is the sum of the
weighted activations over the channels, negative values cut.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_TINY = 1e-12


def grad_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Mean gradient of each channel.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    return g.mean(axis=(1, 2), keepdims=True)


def grad_cam_plus_plus(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Positive gradients, weighted so that each place of a class counts alike.

    Source: Chattopadhay et al. 2018, arXiv:1710.11063, equations 10 and 19, for a score that is
        the exponential of the logit.
    """
    # g^2 / (2 g^2 + a g^3), shortened: the squares of small gradients are below float32.
    below = 2 + a.sum(axis=(1, 2), keepdims=True) * g
    share = np.divide(1, below, out=np.zeros_like(g), where=np.abs(below) > _TINY)
    return (share * np.maximum(g, 0)).sum(axis=(1, 2), keepdims=True)


def x_grad_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Gradients averaged with the activations as weights.

    Source: Fu et al. 2020, arXiv:2008.02312, equation 11.
    """
    total = a.sum(axis=(1, 2), keepdims=True)
    above = (a * g).sum(axis=(1, 2), keepdims=True)
    return np.divide(above, total, out=np.zeros_like(above), where=np.abs(total) > _TINY)


def hires_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Each cell by its own gradient: what is added up is what the logit is made of.

    Source: Draelos and Carin 2020, arXiv:2011.08891, equation 5.
    """
    return g


def layer_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Each cell by its own gradient where that is positive.

    Source: Jiang et al. 2021, LayerCAM, IEEE TIP 30, equation 5.
    """
    return np.maximum(g, 0)


WEIGHTINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hires-cam": hires_cam,
    "xgrad-cam": x_grad_cam,
    "layer-cam": layer_cam,
}
METHODS = (*WEIGHTINGS, "score-cam", "ablation-cam", "eigen-cam")
SMOOTHINGS = ("none", "augment", "pca", "both")


def weighted_map(a: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, h, w) sum of the weighted activations over channels, with its sign."""
    return (a * weights).sum(axis=-1)


def first_component(values: np.ndarray) -> np.ndarray:
    """What the cells of each image differ in most: their first principal component.

    Args:
        values: (B, h, w, C) activations, weighted or not.

    Returns:
        (B, h, w) how far each cell lies from the cells' mean along that component; of the two
        signs the one that goes with the sum over channels. Zeros where all cells are alike.

    Source: Muhammad and Yeasin 2020, Eigen-CAM, arXiv:2008.00299.
    """
    batch, height, width, channels = values.shape
    found = np.zeros((batch, height, width), np.float32)
    for index, one in enumerate(values.reshape(batch, height * width, channels)):
        cells = one.astype(np.float64)
        centred = cells - cells.mean(axis=0)
        # Of the two Gram matrices the one between cells is the small one.
        _, vectors = np.linalg.eigh(centred @ centred.T)
        direction = centred.T @ vectors[:, -1]
        length = np.linalg.norm(direction)
        if length <= _TINY * np.linalg.norm(cells):
            continue
        shown = centred @ (direction / length)
        if np.dot(shown, centred.sum(axis=1)) < 0:
            shown = -shown
        found[index] = shown.reshape(height, width)
    return found
