"""Figures of a class activation map: against masks, against the model, against chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from classification.cam.maps import Explainer

_ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)
_NOISE = 0.01  # of full scale: without it what was filled in can be told by being smooth
_WEIGHTS = {(0, 1): 1 / 6, (0, -1): 1 / 6, (1, 0): 1 / 6, (-1, 0): 1 / 6}
_WEIGHTS |= {(1, 1): 1 / 12, (1, -1): 1 / 12, (-1, 1): 1 / 12, (-1, -1): 1 / 12}


def pointing_game(cam: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the map's highest place lies in the mask.

    Args:
        cam: (H, W) at least 0.
        mask: (H, W) bool.

    Source: Zhang et al. 2018, Top-down neural attention by excitation backprop, section 4.2,
        without its tolerance of 15 pixels.
    """
    return bool(mask.flat[int(np.argmax(cam))])


def energy_inside(cam: np.ndarray, mask: np.ndarray) -> float:
    """Share of the map's sum that lies in the mask, NaN for an empty map.

    Args:
        cam: (H, W) at least 0.
        mask: (H, W) bool.

    Source: Wang et al. 2020, Score-CAM, section 4.2, energy-based pointing game.
    """
    total = float(cam.sum(dtype=np.float64))
    return float(cam[mask].sum(dtype=np.float64)) / total if total > 0 else float("nan")


def mask_iou(found: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool areas, NaN where both are empty."""
    union = int((found | mask).sum())
    return int((found & mask).sum()) / union if union else float("nan")


def fill_in(view: np.ndarray, gone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replaces pixels by the weighted mean of their neighbours, all at once, with some noise.

    Args:
        view: (H, W, 3) float32, 0 to 255.
        gone: (H, W) bool, what to replace; not everything.
        rng: Source of the noise.

    Returns:
        (H, W, 3) float32.

    Source: Rong et al. 2022, ROAD, arXiv:2202.00449, section 4: noisy linear imputation.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    height, width = gone.shape
    places = np.argwhere(gone)
    if not len(places):
        return view
    number = np.full(gone.shape, -1, np.int64)
    number[tuple(places.T)] = np.arange(len(places))
    rows, columns, values = [np.arange(len(places))], [np.arange(len(places))], []
    diagonal = np.zeros(len(places))
    known = np.zeros((len(places), 3))
    for (dy, dx), weight in _WEIGHTS.items():
        y, x = places[:, 0] + dy, places[:, 1] + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        # At the border the weights that are there count as all.
        diagonal[inside] += weight
        near = np.full(len(places), -1, np.int64)
        near[inside] = number[y[inside], x[inside]]
        unknown = near >= 0
        rows.append(np.flatnonzero(unknown))
        columns.append(near[unknown])
        values.append(np.full(int(unknown.sum()), -weight))
        there = inside & ~unknown
        known[there] += weight * view[y[there], x[there]]
    cells = np.concatenate([diagonal, *values])
    matrix = coo_matrix(
        (cells, (np.concatenate(rows), np.concatenate(columns))), (len(places),) * 2
    ).tocsc()
    filled = np.array(view, np.float32)
    solved = spsolve(matrix, known).reshape(len(places), 3)
    filled[gone] = solved + rng.normal(0, _NOISE * 255, solved.shape)
    return filled


def road(
    predict: Callable[[np.ndarray], np.ndarray],
    view: np.ndarray,
    cam: np.ndarray,
    target: int,
    seed: int = 0,
) -> float:
    """Remove and debias: how much more the class loses by its highest places than by its lowest.

    Args:
        predict: From (B, H, W, 3) views to (B, K) shares of the classes.
        view: (H, W, 3), 0 to 255.
        cam: (H, W) at least 0.
        target: The class that the map explains.
        seed: Of the noise, and of the order among equal places.

    Returns:
        Mean of (share of the class without the lowest - without the highest) / 2: over 0 where
        the map tells what the model uses, about 0 for a map of chance.

    Source: Rong et al. 2022, arXiv:2202.00449; both orders in one figure as Gildenblat's
        pytorch-grad-cam combines them.
    """
    rng = np.random.default_rng(seed)
    # Of places that are alike chance decides: in raster order the image's top would go first.
    drawn = rng.permutation(cam.size)
    order = drawn[np.argsort(cam.ravel()[drawn], kind="stable")]
    views = []
    for share in _ROAD_SHARES:
        count = round(share * order.size)
        for places in (order[:count], order[order.size - count :]):
            gone = np.zeros(order.size, bool)
            gone[places] = True
            views.append(fill_in(np.asarray(view, np.float32), gone.reshape(cam.shape), rng))
    found = np.asarray(predict(np.stack(views)))[:, target]
    return float((found[0::2] - found[1::2]).mean() / 2)


def randomisation_check(
    model: keras.Model,
    views: np.ndarray,
    method: str = "grad-cam",
    layer: str | None = None,
    seed: int = 0,
) -> float:
    """How alike maps are before and after every weight is drawn anew.

    A map that hardly changes shows edges of the image, not what the model has learnt.

    Args:
        model: Left as it was.
        views: (B, H, W, 3).
        method: See `Explainer`.
        layer: See `Explainer`.
        seed: Decides the drawn weights.

    Returns:
        Mean Spearman correlation of the cells of the two maps, from -1 to 1; NaN where a map
        is the same everywhere.

    Source: Adebayo et al. 2018, Sanity checks for saliency maps, arXiv:1810.03292, section 3.
    """
    from scipy.stats import spearmanr

    before = Explainer(model, layer)(views, method=method)
    values = model.get_weights()
    try:
        model.set_weights(_drawn(values, np.random.default_rng(seed)))
        after = Explainer(model, layer)(views, before.target, method)
    finally:
        model.set_weights(values)
    found = []
    for one, other in zip(before.maps, after.maps, strict=True):
        if np.ptp(one) > 0 and np.ptp(other) > 0:
            found.append(spearmanr(one, other, axis=None).statistic)
    return float(np.mean(found)) if found else float("nan")


def _drawn(values: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Weights of the same shapes and spreads; each one's own values, in an order of chance.

    So that variances stay positive and activations in their range.
    """
    return [rng.permutation(value.ravel()).reshape(value.shape) for value in values]
