"""What the simulator computes: figures at any threshold, cases by how wrong they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from anomaly.evaluation.scored import Scored, read_scores, scores_file
from inspection.data.images import list_images, read_image
from inspection.decisions.operating_point import (
    DEFECTIVE,
    NORMAL,
    OperatingPoint,
    Rate,
    support_note,
)
from inspection.errors import InputError
from inspection.files.sheets import sheet_text

DECISIONS = ("OK", "review", "NG")
_BINS = 60
_WHOLE_AFTER = 2  # looks at which a file must have the same size and time
_GIVEN_UP_AFTER = 30  # looks at which a file that does not change cannot be read


@dataclass(frozen=True)
class Figures:
    """Counts at a pair of thresholds.

    Args:
        table: Images by (truth, decision): normal and defect, then `DECISIONS`.
        miss: Defects decided OK.
        overkill: Normal images decided NG.
        accuracy: Images decided rightly among those not sent to review.
        review: Images sent to review.
    """

    table: np.ndarray
    miss: Rate
    overkill: Rate
    accuracy: Rate
    review: Rate


class Simulation:
    """Scores of a test part, asked at any threshold.

    Args:
        scored: The scores.
        seed: Decides the order in which the images come down the line.
    """

    def __init__(self, scored: Scored, seed: int = 0) -> None:
        if not len(scored.scores):
            raise InputError("there is no image to simulate; give a run with a test part")
        self.scored = scored
        self.scores = scored.scores
        self.is_defect = scored.is_defect
        self.order = np.random.default_rng(seed).permutation(len(self.scores))

    def __len__(self) -> int:
        return len(self.scores)

    def decide(self, review: float, threshold: float) -> np.ndarray:
        """(N,) indices into `DECISIONS`: NG from the threshold, review from `review` up to it."""
        return (self.scores >= review).astype(int) + (self.scores >= threshold)

    def figures(self, review: float, threshold: float, seen: int | None = None) -> Figures:
        """Counts over the first `seen` images of the line, over all where left out."""
        chosen = self.order if seen is None else self.order[:seen]
        decided = self.decide(review, threshold)[chosen]
        truth = self.is_defect[chosen]
        table = np.bincount(3 * truth + decided, minlength=6).reshape(2, 3)
        normals, defects = (int(row.sum()) for row in table)
        right = int(table[0, 0] + table[1, 2])
        in_review = int(table[:, 1].sum())
        return Figures(
            table,
            Rate(int(table[1, 0]), defects, DEFECTIVE),
            Rate(int(table[0, 2]), normals, NORMAL),
            Rate(right, normals + defects - in_review, "decided images"),
            Rate(in_review, normals + defects, "images"),
        )

    @cached_property
    def edges(self) -> np.ndarray:
        """Borders of the histogram's bars."""
        low, high = float(self.scores.min()), float(self.scores.max())
        return np.linspace(low, high if high > low else low + 1, _BINS + 1)

    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """(bars,) counts of normal images and of defects."""
        return tuple(
            np.histogram(self.scores[chosen], self.edges)[0]
            for chosen in (~self.is_defect, self.is_defect)
        )

    def in_bar(self, bar: int, defects: bool) -> np.ndarray:
        """Numbers of one kind's images in a bar, highest score first."""
        place = np.clip(np.searchsorted(self.edges, self.scores, "right") - 1, 0, _BINS - 1)
        found = np.flatnonzero((place == bar) & (self.is_defect == defects))
        return found[np.argsort(-self.scores[found], kind="stable")]

    def worst(self, review: float, threshold: float) -> np.ndarray:
        """Numbers of the wrongly decided images: misses first, then false rejects, each by how
        far off they are."""
        decided = self.decide(review, threshold)
        missed = np.flatnonzero(self.is_defect & (decided == 0))
        rejected = np.flatnonzero(~self.is_defect & (decided == 2))
        missed = missed[np.argsort(self.scores[missed], kind="stable")]
        rejected = rejected[np.argsort(-self.scores[rejected], kind="stable")]
        return np.concatenate([missed, rejected])

    def ambiguous(self, review: float, threshold: float, count: int = 30) -> np.ndarray:
        """Numbers of the images whose label is worth a second look, the nearest first.

        Those in the review band, and else those nearest to the threshold.
        """
        outside = np.maximum(np.maximum(review - self.scores, self.scores - threshold), 0)
        middle = np.abs(self.scores - (review + threshold) / 2)
        return np.lexsort((middle, outside))[:count]


def open_simulation(run: Path) -> Simulation:
    """The test part of a run.

    Raises:
        InputError: The run has not been measured.
    """
    return Simulation(read_scores(scores_file(run)))


def chosen_by_hand(
    calibration: Scored, review: float, threshold: float, before: OperatingPoint | None
) -> OperatingPoint:
    """An operating point from two thresholds, with its rates on the calibration part.

    Args:
        calibration: The calibration part's scores, never the test part's.
        review: Where review begins; equal to `threshold` there is no band.
        threshold: Where NG begins.
        before: What it replaces, for its data's hash.
    """
    scores, truth = calibration.scores, calibration.is_defect
    miss = Rate(int((scores[truth] < review).sum()), int(truth.sum()), DEFECTIVE)
    overkill = Rate(int((scores[~truth] >= threshold).sum()), int((~truth).sum()), NORMAL)
    has_band = review < threshold
    in_band = int(((scores >= review) & (scores < threshold)).sum())
    notes = [
        "Set by hand in the simulator, looking at the test part: measure it on images that "
        "nobody has looked at before relying on it.",
        support_note(miss, before.target, "miss rate") if before else "",
    ]
    return OperatingPoint(
        threshold=threshold,
        rule="set by hand in the simulator",
        target=float("nan"),
        miss=miss,
        overkill=overkill,
        data_hash=before.data_hash if before else "",
        review_threshold=review if has_band else None,
        review=Rate(in_band, len(scores), "images") if has_band else None,
        notes=tuple(note for note in notes if note),
    )


def relabel_csv(scored: Scored, numbers: Sequence[int], labels: Sequence[str]) -> str:
    """The relabel queue as CSV: image, label so far, score, new label (empty where not given).

    Raises:
        ValueError: There is not one label for each image.
    """
    rows = [("image", "kind", "score", "new_kind")]
    for number, label in zip(numbers, labels, strict=True):
        row = (scored.images[number], scored.kinds[number], f"{scored.scores[number]:.9g}", label)
        rows.append(row)
    return sheet_text(rows)


class FolderWatch:
    """New images of a folder, each reported once it is whole.

    A file is whole when its size and time have not changed between looks and it can be read.

    Args:
        folder: Watched; it may come into being later.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: set[Path] = set()
        self._waiting: dict[Path, tuple[tuple[int, int], int]] = {}
        self.problems: list[str] = []

    def look(self) -> list[Path]:
        """Images that have become whole since the last look, the oldest first."""
        if not self.folder.is_dir():
            return []
        whole = []
        names: list[str] = []
        listed = list_images(self.folder, names)
        self.problems += [name for name in names if name not in self.problems]
        for path in listed:
            if path in self._done:
                continue
            try:
                stat = path.stat()
            except OSError:  # gone again
                continue
            mark = (stat.st_size, stat.st_mtime_ns)
            before, looks = self._waiting.get(path, (None, 0))
            looks = looks + 1 if mark == before else 1
            self._waiting[path] = (mark, looks)
            if looks < _WHOLE_AFTER:
                continue
            try:
                read_image(path)
            except InputError as error:
                if looks >= _GIVEN_UP_AFTER:
                    self.problems += error.problems
                    self._done.add(path)
                continue
            whole.append((mark[1], path))
            self._done.add(path)
            del self._waiting[path]
        return [path for _, path in sorted(whole)]
