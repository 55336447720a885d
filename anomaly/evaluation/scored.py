"""Scores of images as an evaluation wrote them, without the model that gave them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly.data.images import NORMAL
from anomaly.settings import ROOM
from anomaly.training.run import data_now, run_settings
from inspection.cli.commands import command_line
from inspection.errors import InputError
from inspection.files.sheets import sheet_cell
from inspection.finite import NotFinite, check_finite
from inspection.report.evaluation import IMAGES, RECORD


@dataclass(frozen=True, eq=False)
class Scored:
    """What a run decided on its test part.

    Args:
        images: Paths from the data's root.
        kinds: `normal` or the defect's name.
        decisions: `OK`, `review` or `NG`.
        scores: (N,).

    Raises:
        NotFinite: A score is no finite number.
    """

    images: list[str]
    kinds: list[str]
    decisions: list[str]
    scores: np.ndarray

    def __post_init__(self) -> None:
        check_finite(scores=self.scores)

    @property
    def is_defect(self) -> np.ndarray:
        """(N,) bool."""
        return np.array([kind != NORMAL for kind in self.kinds], bool)


def read_scores(path: Path) -> Scored:
    """Reads what an evaluation wrote.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return Scored(
            [sheet_cell(row["image"]) for row in rows],
            [sheet_cell(row["truth" if "truth" in row else "kind"]) for row in rows],
            [row["decision"] for row in rows],
            np.array([float(row["score"]) for row in rows]),
        )
    except NotFinite as error:
        raise NotFinite(f"{path}: {error}") from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read as scores; write it with "
            f"`{command_line(ROOM, 'evaluate', 'RUN')}`"
        ) from error


def scores_file(run: Path) -> Path:
    """Where the scores of a run's test part stand: as now, or as earlier evaluations wrote them."""
    return _first(run / "evaluation_test" / IMAGES, run / "test.csv")


def figures_file(run: Path) -> Path:
    """Where the figures of a run's test part stand, likewise."""
    return _first(run / "evaluation_test" / RECORD, run / "test.json")


def measured_root(run: Path) -> Path:
    """What the paths of the measured images start from, wherever they lie now.

    Raises:
        InputError: There is no such run.
    """
    try:
        root = Path(json.loads(figures_file(run).read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError):  # earlier evaluations do not say
        root = Path()
    if root.is_absolute() and root.is_dir():
        return root
    data = data_now(run, run_settings(run))
    return data.parent if data.is_file() else data


def _first(now: Path, before: Path) -> Path:
    return before if before.is_file() and not now.is_file() else now
