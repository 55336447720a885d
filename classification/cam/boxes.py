"""Boxes from class activation maps, written as proposals that a person has to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inspection.data.boxes import box_iou
from inspection.data.images import list_images
from inspection.data.voc import PROPOSAL, is_sealed, seal, whole_boxes, write_voc
from inspection.errors import InputError
from inspection.files.listing import list_files
from inspection.files.sheets import sheet_cell, sheet_text
from inspection.files.tables import read_rows
from inspection.files.writing import write_text_atomic
from inspection.prediction.detections import Detections

HEADER = ("image", "x1", "y1", "x2", "y2", "label", "score")
CSV_NAME = "proposals.csv"


@dataclass(frozen=True)
class BoxRule:
    """How a map becomes boxes.

    Args:
        threshold: `otsu`, `quantile:0.95`, or a share of the map's maximum such as `0.5`.
        min_area: Smallest area of an object in pixels of the image.
        most: Boxes of an image at the most, the strongest first; 0 for all.

    Raises:
        InputError: The threshold cannot be read.
    """

    threshold: str = "0.5"
    min_area: int = 25
    most: int = 0

    def __post_init__(self) -> None:
        self.level(np.zeros((1, 1), np.float32))

    def level(self, cam: np.ndarray) -> float:
        """The value from which on a place belongs to an object.

        Args:
            cam: (H, W) from 0 to 1.
        """
        kind, _, value = self.threshold.partition(":")
        if kind == "otsu":
            grey = np.rint(255 * np.clip(cam, 0, 1)).astype(np.uint8)
            return (cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0] + 1) / 255
        try:
            number = float(value if kind == "quantile" else self.threshold)
        except ValueError:
            number = -1.0
        if not 0 < number < 1:
            raise InputError(
                f"--threshold {self.threshold}: must be otsu, a share of the maximum such as 0.5, "
                "or quantile:0.95"
            )
        return float(np.quantile(cam, number)) if kind == "quantile" else number


def boxes_of(cam: np.ndarray, rule: BoxRule, label: str) -> Detections:
    """The objects of a map: threshold, connected components, boxes.

    Args:
        cam: (H, W) from 0 to 1, in pixels of the image.
        rule: How.
        label: Of all boxes.

    Returns:
        Boxes by their highest value in the map; none for a map of zeros.
    """
    # A map of zeros has no object whatever the threshold.
    over = (cam >= rule.level(cam)) & (cam > 0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(over.astype(np.uint8))
    boxes, scores = [], []
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        if area < rule.min_area:
            continue
        window = np.s_[y : y + height, x : x + width]
        boxes.append((x, y, x + width, y + height))
        scores.append(float(cam[window][labels[window] == number].max()))
    found = Detections(boxes, scores, (label,) * len(boxes))
    if rule.most and len(found) > rule.most:
        return Detections(
            found.xyxy[: rule.most], found.score[: rule.most], found.label[: rule.most]
        )
    return found


def mask_boxes(mask: np.ndarray) -> np.ndarray:
    """(N, 4) float32 boxes of a mask's connected areas."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    x, y, width, height = stats[1:count, :4].T.astype(np.float32)
    return np.stack([x, y, x + width, y + height], axis=1).reshape(-1, 4)


@dataclass(frozen=True)
class BoxFigures:
    """Boxes found against boxes of the masks.

    Args:
        iou: What a hit needs.
        hits: Boxes found that cover one of the masks' boxes, each one once.
        found: Boxes found.
        wanted: Boxes of the masks.
    """

    iou: float
    hits: int
    found: int
    wanted: int

    @property
    def recall(self) -> float:
        """Share of the masks' boxes that were found; NaN without any."""
        return self.hits / self.wanted if self.wanted else float("nan")

    @property
    def precision(self) -> float:
        """Share of the boxes found that are right; NaN without any."""
        return self.hits / self.found if self.found else float("nan")


def match(found: Sequence[Detections], wanted: Sequence[np.ndarray], iou: float) -> BoxFigures:
    """Matches each image's boxes, the strongest first, one for one.

    Args:
        found: Boxes of each image.
        wanted: (N, 4) boxes of the masks, of each image.
        iou: What a hit needs.
    """
    hits = 0
    for boxes, truth in zip(found, wanted, strict=True):
        overlap = box_iou(boxes.xyxy, truth)
        for row in range(len(boxes)):
            if overlap.shape[1] and overlap[row].max() >= iou:
                hits += 1
                overlap[:, overlap[row].argmax()] = -1
    return BoxFigures(iou, hits, sum(map(len, found)), sum(map(len, wanted)))


@dataclass(frozen=True)
class Proposal:
    """Boxes of one image.

    Args:
        image: Its path from the images' folder.
        path: Its file.
        size: (width, height) in pixels.
        boxes: What was found.
    """

    image: str
    path: Path
    size: tuple[int, int]
    boxes: Detections


def check_folder(folder: Path, images: Sequence[str]) -> None:
    """Whether proposals may go there: never into or over a person's annotations.

    Args:
        folder: Where they are to go.
        images: The images they are of.

    Raises:
        InputError: The folder holds annotations that are no proposals, or two images would
            share a file.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    for image in images:
        stems[Path(image).stem.casefold()].append(image)
    shared = [same for same in stems.values() if len(same) > 1]
    problems = []
    if shared:
        problems.append(
            f"{len(shared)} names stand in several folders, such as {' and '.join(shared[0][:3])}: "
            "labelImg names its files by the image's name alone, so one would overwrite the "
            "other; rename them, or propose folder by folder, each into an --output of its own"
        )
    if folder.is_dir() and list_images(folder):
        problems.append(
            f"{folder}: holds images; proposals need a folder of their own, give another --output"
        )
    for path in list_files(folder, (".xml",), "proposals") if folder.is_dir() else ():
        if not is_sealed(path, PROPOSAL):
            problems.append(
                f"{path}: is no proposal as this tool wrote it but somebody's annotation, "
                "and guesses never go where those are; give another --output"
            )
            break
    if problems:
        raise InputError(problems)


def write_proposals(folder: Path, proposals: Sequence[Proposal]) -> None:
    """Writes labelImg XML for each image with a box, and one CSV of all.

    Each file says that it is a proposal; the detector's training refuses such files until a
    person has saved them in labelImg. Proposals of an earlier run that found nothing now go.

    Args:
        folder: See `check_folder`.
        proposals: Of all images.

    Raises:
        InputError: As `check_folder`.
    """
    check_folder(folder, [one.image for one in proposals])
    rows: list[Sequence[str]] = [HEADER]
    rows += _other_rows(folder / CSV_NAME, {one.image for one in proposals})
    for one in proposals:
        path = folder / f"{Path(one.image).stem}.xml"
        if not len(one.boxes):
            path.unlink(missing_ok=True)
            continue
        edges, flags = whole_boxes(one.boxes.xyxy, *one.size), [False] * len(one.boxes)
        write_voc(
            path,
            Path(one.image).name,
            (*one.size, 3),
            edges,
            one.boxes.label,
            image_path=one.path.resolve(),
            database=seal(PROPOSAL, edges, one.boxes.label, flags),
        )
        for box, score, label in zip(one.boxes.xyxy, one.boxes.score, one.boxes.label, strict=True):
            rows.append([one.image, *(f"{edge:g}" for edge in box), label, f"{score:.4f}"])
    write_text_atomic(folder / CSV_NAME, sheet_text(rows))


def _other_rows(path: Path, images: set[str]) -> list[list[str]]:
    """Rows of an earlier table about other images whose proposals are still there."""
    if not path.is_file():
        return []
    lines = (map(sheet_cell, cells) for _, cells in read_rows(path)[1:])
    rows = [cells for cells in map(list, lines) if len(cells) == len(HEADER)]
    return [
        cells
        for cells in rows
        if cells[0] not in images and path.with_name(f"{Path(cells[0]).stem}.xml").is_file()
    ]
