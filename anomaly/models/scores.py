"""From a score map to one number for the image, and which way of doing so is best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from inspection.decisions.rates import auroc

_DRAWS = 1000


def _top(share: float) -> Callable[[np.ndarray, float], float]:
    def mean_of_top(cells: np.ndarray, level: float) -> float:
        count = max(1, round(share * cells.size))
        return float(np.partition(cells, cells.size - count)[cells.size - count :].mean())

    return mean_of_top


# The first is taken where there is no defect to compare them on.
AGGREGATIONS: dict[str, Callable[[np.ndarray, float], float]] = {
    "max": lambda cells, level: float(cells.max()),
    "top-0.5%": _top(0.005),
    "top-2%": _top(0.02),
    "top-10%": _top(0.1),
    "std": lambda cells, level: float(cells.std()),
    "mean": lambda cells, level: float(cells.mean()),
    "area": lambda cells, level: float((cells > level).mean()),
}
LEVEL_QUANTILE = 0.995
SCORING = 2
"""Of how models are fitted and score: raised where the same settings give other figures."""


def aggregate(
    cells: np.ndarray,
    level: float,
    names: Iterable[str] = tuple(AGGREGATIONS),
    highest: float | None = None,
) -> dict[str, float]:
    """Aggregations of a map.

    Args:
        cells: The scores of a map that count, of any shape.
        level: What `area` counts cells over; `LEVEL_QUANTILE` of normal cells.
        names: Which; every one where left out.
        highest: What `max` is, from `peak`; None takes the highest cell as it is.

    Returns:
        One score by the name of each aggregation.
    """
    cells = np.asarray(cells, np.float64).ravel()
    found = {name: AGGREGATIONS[name](cells, level) for name in names}
    if highest is not None and "max" in found:
        found["max"] = highest
    return found


@dataclass(frozen=True)
class Reference:
    """What the cells of normal images that were not learnt are like; scores are measured by it.

    A model without one was stored before there was any, and scores as it did then: the cells of
    the smoothed map, their maximum as it is.

    Args:
        level: Their quantile `LEVEL_QUANTILE`.
        images_cells: Median number of cells of an image.
        growth: By how much the highest of them rises wherever an image has e times as many.
        raw: Cells come from the method's maps as they are, not from the smoothed one.
    """

    level: float
    images_cells: float
    growth: float
    raw: bool

    def __post_init__(self) -> None:
        # It comes from files, too.
        if not np.isfinite((self.level, self.images_cells, self.growth)).all():
            raise ValueError("scores are measured by what is not finite")
        if not self.images_cells > 0:
            raise ValueError("scores are measured by an image without cells")

    @classmethod
    def of(cls, images: list[np.ndarray], raw: bool) -> Reference:
        """From the cells that count, (N,) of each image.

        Beyond a high level scores fall off nearly exponentially; there the maximum of N rises by
        the mean excess over the level wherever N rises e-fold (Gumbel 1958, section 4.2).
        """
        cells = np.concatenate(images).astype(np.float64)
        level = float(np.quantile(cells, LEVEL_QUANTILE))
        over = cells[cells > level] - level
        growth = float(over.mean()) if len(over) else 0.0
        return cls(level, float(np.median([len(one) for one in images])), growth, raw)


def peak(cells: np.ndarray, weights: np.ndarray | None, reference: Reference) -> float:
    """The highest cell as it would be in an image of the reference's size, times its weight.

    Of more cells the highest is higher in normal images, too: without this a threshold chosen on
    small images rejects large ones.

    Args:
        cells: (N,).
        weights: (N,) factors, of which the highest cell's own counts; None is 1 everywhere.
        reference: Whose.
    """
    place = int(np.argmax(cells))
    extra = reference.growth * float(np.log(len(cells) / reference.images_cells))
    return (float(cells[place]) - extra) * (1.0 if weights is None else float(weights[place]))


@dataclass(frozen=True)
class Choice:
    """Which aggregation was chosen, and what it was compared with.

    Args:
        name: The chosen one.
        auroc: Of every aggregation on the calibration part; empty without defects there.
        behind: By how much the AUROC of the chosen one is over that of each other, as a 95 %
            interval from paired bootstrap.
    """

    name: str
    auroc: Mapping[str, float]
    behind: Mapping[str, tuple[float, float]]


def choose_aggregation(
    scores: Mapping[str, np.ndarray],
    is_defect: np.ndarray,
    seed: int = 0,
    usual: str = "max",
) -> Choice:
    """The aggregation with the highest AUROC on the calibration part; of equals the first.

    One by which all images score alike says nothing and is not chosen while another says more.

    How far it is ahead of each other one, and whether that may be chance, is told with it.

    Args:
        scores: (N,) scores of the same images by aggregation.
        is_defect: (N,) bool.
        seed: Of the bootstrap.
        usual: The method's own.

    Returns:
        The choice; `usual` where there is no defect, or no normal image.
    """
    is_defect = np.asarray(is_defect, bool)
    if is_defect.all() or not is_defect.any():
        return Choice(usual, {}, {})
    area = {name: auroc(values, is_defect) for name, values in scores.items()}
    draws = _bootstrap(scores, is_defect, seed)
    telling = [name for name in AGGREGATIONS if np.ptp(scores[name]) > 0] or [usual]
    best = max(telling, key=lambda name: area[name])  # of equals the first
    return Choice(best, area, _differences(draws, best))


def _differences(draws: Mapping[str, np.ndarray], best: str) -> dict[str, tuple[float, float]]:
    return {
        name: tuple(float(value) for value in np.quantile(draws[best] - values, [0.025, 0.975]))
        for name, values in draws.items()
        if name != best
    }


def _bootstrap(
    scores: Mapping[str, np.ndarray], is_defect: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """AUROC of each aggregation on the same resampled images, (draws,) each."""
    rng = np.random.default_rng(seed)
    defects, normals = np.flatnonzero(is_defect), np.flatnonzero(~is_defect)
    found: dict[str, list[float]] = {name: [] for name in scores}
    truth = np.concatenate([np.ones(len(defects), bool), np.zeros(len(normals), bool)])
    for _ in range(_DRAWS):
        drawn = np.concatenate(
            [rng.choice(defects, len(defects)), rng.choice(normals, len(normals))]
        )
        for name, values in scores.items():
            found[name].append(auroc(values[drawn], truth))
    return {name: np.array(values) for name, values in found.items()}
