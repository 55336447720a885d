"""What the backbone trained on the user's own images takes for a disturbance itself.

Source: as a detector, Zavrtanik et al. 2021, DRAEM, arXiv:2108.07610, and Li et al. 2021, CutPaste,
    arXiv:2104.04015; here without reconstruction, by the head that `pretraining` trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.methods.base import FeatureMethod, State
from anomaly.methods.pretraining import EMBEDDING, LOGIT
from inspection.data.preparation import Prepared
from inspection.errors import InputError
from inspection.progress import StageProgress, silent

_FLIPS = ((), (1,), (2,), (1, 2))


class SelfSupervised(FeatureMethod):
    """The head's logit, averaged over mirrored views; it needs `--weights self`.

    Args:
        extractor: The logit of a backbone that `anomaly.methods.pretraining` trained.
        mirrored: Look at the view mirrored in three ways too, at four times the cost.
    """

    name = "self-supervised"
    stages = 1
    OPTIONS = ("mirrored",)

    def __init__(self, extractor: FeatureExtractor, mirrored: bool = True) -> None:
        super().__init__(extractor)
        self.mirrored = mirrored

    @classmethod
    def taps_of(cls, stages: Sequence[str]) -> tuple[str, ...]:
        if stages[-1] != EMBEDDING:
            raise InputError(
                "self-supervised: needs the backbone that is trained on your own images; give "
                "--weights self"
            )
        return (LOGIT,)

    def fit(self, source: Source, seed: int = 0, on_progress: StageProgress = silent) -> None:
        """Nothing: all that it knows was learnt with the backbone."""

    def score_views(self, views: np.ndarray) -> np.ndarray:
        flips = _FLIPS if self.mirrored else _FLIPS[:1]
        found = []
        for axes in flips:
            (logit,) = self.extractor(np.ascontiguousarray(np.flip(views, axes)))
            found.append(np.flip(logit[..., 0].astype(np.float32), axes))
        return np.mean(found, axis=0)

    def weighted_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.score_views(views), None

    def weighted(
        self, source: Source, index: int, prepared: Prepared | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        # Of the mirrored views nothing is kept on disk.
        return self.weighted_views((prepared or source.prepared(index)).views)

    def score_features(self, features: list[np.ndarray]) -> np.ndarray:
        return features[0][..., 0].astype(np.float32)

    def graph(self, views: Any) -> Any:
        total = 0.0
        flips = _FLIPS if self.mirrored else _FLIPS[:1]
        for axes in flips:
            (logit,) = self.extractor.graph(ops.flip(views, axes) if axes else views)
            total = total + (ops.flip(logit, axes) if axes else logit)[..., 0]
        return total / len(flips)

    def feature_graph(self, features: list[Any]) -> Any:
        return features[0][..., 0]

    def restore(self, state: State) -> None:
        """Its backbone is all there is."""
