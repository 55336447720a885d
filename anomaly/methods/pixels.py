"""What methods that look at the pixels themselves share."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.features.extractor import Source
from anomaly.methods.base import Method
from anomaly.methods.fitting import MapSet
from inspection.progress import StageProgress


class ImageMethod(Method):
    """A method on small views, without a backbone.

    Args:
        side: Of what its networks see, in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def views(self, views: np.ndarray) -> np.ndarray:
        """(V, S, S, 3) uint8 at the method's own side, uint8."""
        size = (self.side, self.side)
        if views.shape[1:3] == size:
            return views
        way = cv2.INTER_AREA if views.shape[1] > self.side else cv2.INTER_LINEAR
        return np.stack([cv2.resize(view, size, interpolation=way) for view in views])

    def maps(self, source: Source, on_progress: StageProgress) -> MapSet:
        """All views of a source, as batches."""
        return MapSet(
            len(source), lambda index: [self.views(source.prepared(index).views)], on_progress
        )
