"""A sample set to try everything with: wafer images with particles, scratches and stains.

Images and labelImg XML come from one seed. Image k depends on the seed and k alone, so a
larger set contains the smaller one. The set is made to be hard for a threshold and fair to an
eye: most defects stand out by only a few times the noise around them; dust on the chuck beside
the wafer, a little out of focus, reflections, film edges and alignment marks look alike and are
not labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from examples.wafers.lookalikes import (
    draw_alignment_marks,
    draw_clamps,
    draw_marking,
    draw_reflections,
)
from examples.wafers.wafer import Scene, draw_scene, photograph, smooth_noise
from inspection.data.boxes import ImageLabels
from inspection.data.voc import write_voc
from inspection.errors import InputError
from inspection.files.writing import atomic_path
from inspection.progress import Progress

CLASSES = ("particle", "scratch", "stain")
SMALLEST_SIDE, LARGEST_SIDE = 15, 40  # pixels, of every box
MOST_DEFECTS = 6  # on one wafer

_JPEG_QUALITY = 92
_VISIBLE = 0.3  # a box holds the pixels that change by at least this share of the largest change
_PATCH = 72  # pixels, the side of the square that a defect is drawn on
# Peak contrast over the standard deviation of noise and texture around, and the share of strong
# defects. A line of two pixels gives an eye less to add up than a disc of thirty.
_WEAK_CONTRAST, _STRONG_CONTRAST, _STRONG = (2.5, 3.7), (3.7, 6.0), 0.35
_FINENESS = {"particle": 1.2, "scratch": 1.6, "stain": 1.2}
_CHUCK_BLUR = 2.5  # pixels, the defocus of what lies on the chuck
_GAP = 14  # pixels between boxes, so that no two defects merge into one


@dataclass(frozen=True)
class SampleImage:
    """One image with its ground truth.

    Attributes:
        rgb: (H, W, 3) uint8.
        xyxy: (N, 4) float32 boxes in pixels.
        label: N class names.
        free: (H, W) bool, where defects may lie: the wafer without rim, clamps and marking.
    """

    rgb: np.ndarray
    xyxy: np.ndarray
    label: tuple[str, ...]
    free: np.ndarray


def make_sample(
    folder_images: str | Path,
    folder_annotations: str | Path,
    count: int = 150,
    seed: int = 0,
    normals: float = 0.3,
    size: int = 900,
    on_progress: Progress | None = None,
) -> tuple[ImageLabels, ...]:
    """Writes `wafer_001.jpg` ... and one labelImg XML for each.

    Normal wafers get an XML without objects. Files of the same names are replaced.

    Args:
        folder_images: Where the images go; made where missing.
        folder_annotations: Where the XML goes; made where missing.
        count: Number of images.
        seed: Non-negative; image k is the same for one seed, whatever the count.
        normals: Share of wafers without a defect, 0 to 1.
        size: Side of the square images in pixels. Defects keep 15-40 pixels.
        on_progress: Called with (images done, count) after each image.

    Returns:
        The labels as written.

    Raises:
        InputError: An argument is out of range.
        OSError: A file could not be written.
    """
    _check_arguments(count, seed, normals, size)
    images, annotations = Path(folder_images), Path(folder_annotations)
    labels = []
    for index in range(count):
        image = draw_image(seed, index, normal=is_normal(seed, index, normals), size=size)
        name = f"wafer_{index + 1:03d}.jpg"
        write_jpeg(images / name, image.rgb)
        xml = (annotations / name).with_suffix(".xml")
        write_voc(xml, name, (size, size, 3), image.xyxy, image.label, folder=images.name)
        labels.append(
            ImageLabels(
                image=name,
                xyxy=image.xyxy,
                label=image.label,
                difficult=np.zeros(len(image.label), bool),
                source=str(xml),
            )
        )
        if on_progress is not None:
            on_progress(index + 1, count)
    return tuple(labels)


def is_normal(seed: int, index: int, normals: float) -> bool:
    """Whether image `index` shows a wafer without defects.

    Spread evenly instead of drawn, so that small sets have their share of normals too.
    """
    start = np.random.default_rng([seed, 1 << 20]).random()
    return int(np.floor((index + 1) * normals + start)) > int(np.floor(index * normals + start))


def draw_image(
    seed: int, index: int, normal: bool = False, size: int = 900, defects: bool = True
) -> SampleImage:
    """Draws one image.

    Args:
        seed: Seed of the set.
        index: Number of the image in the set, from 0.
        normal: Draw a wafer without defects.
        size: Side in pixels.
        defects: False leaves the defects out and changes nothing else: the boxes stay, which
            lets a test compare both images.
    """
    # One generator per part, so that leaving out defects moves nothing else.
    surface, light, flaws, dust, sensor = (
        np.random.default_rng([seed, index, part]) for part in range(5)
    )
    scene = draw_scene(surface, size)
    if light.random() < 0.6:
        draw_marking(light, scene)
    if light.random() < 0.7:
        draw_alignment_marks(light, scene)
    draw_clamps(light, scene)
    _draw_dust(dust, scene)
    boxes, names = [], []
    if not normal:
        # As many of each class as luck will have it, and at least one defect.
        for name in flaws.choice(CLASSES, int(flaws.integers(1, MOST_DEFECTS + 1))):
            box = _add_defect(flaws, scene, str(name), boxes, defects)
            if box is not None:
                boxes.append(box)
                names.append(str(name))
    draw_reflections(light, scene)
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return SampleImage(photograph(sensor, scene), xyxy, tuple(names), scene.free)


def write_jpeg(path: str | Path, rgb: np.ndarray) -> None:
    """Writes a JPEG of the sample set's quality atomically; the path may be non-ASCII.

    Args:
        path: The file to write.
        rgb: (H, W, 3) uint8.

    Raises:
        OSError: The file could not be written.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, content = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.tobytes())


@dataclass(frozen=True)
class _Mark:
    """A defect on a square of its own.

    Attributes:
        change: (P, P, 3) float32, change of grey level per unit of contrast; its peak is 1.
        xyxy: (4,) int box of the visible pixels in the square.
    """

    change: np.ndarray
    xyxy: np.ndarray


def _add_defect(
    rng: np.random.Generator,
    scene: Scene,
    name: str,
    boxes: list[np.ndarray],
    draw: bool,
) -> np.ndarray | None:
    """Draws one defect where there is room and returns its box; None when there is no room."""
    mark = _draw_mark(rng, scene, name)
    for corner in rng.integers(0, scene.geometry.size - _PATCH, (400, 2)):
        placed = mark.xyxy + np.concatenate([corner, corner])
        left, top, right, bottom = (int(edge) for edge in placed)
        if not scene.free[top:bottom, left:right].all():
            continue
        if any(_near(placed, other) for other in boxes):
            continue
        x, y = (int(edge) for edge in corner)
        window = scene.image[y : y + _PATCH, x : x + _PATCH]
        contrast = _contrast(rng, name, window, scene)
        if draw:
            window += np.float32(contrast) * mark.change
        return placed
    return None


def _near(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two boxes overlap or lie within the gap that is kept between defects."""
    return bool((first[:2] < second[2:] + _GAP).all() and (second[:2] < first[2:] + _GAP).all())


def _contrast(rng: np.random.Generator, name: str, window: np.ndarray, scene: Scene) -> float:
    """Peak contrast of a defect in grey levels, mostly a small multiple of what surrounds it.

    Args:
        rng: Source of randomness.
        name: Class of the defect.
        window: (P, P, 3) float32, the scene where the defect will lie.
        scene: The scene, for the sensor's noise.
    """
    grey = window.mean(axis=2)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 10)
    # The median ignores a film edge or a street that happens to cross the window.
    texture = 1.4826 * float(np.median(np.abs(fine)))
    noise = scene.noise * np.sqrt(max(float(grey.mean()), 8.0) / 128)
    around = float(np.clip(np.hypot(noise, texture), 2.4, 5.0))
    strong = rng.random() < _STRONG
    times = float(rng.uniform(*(_STRONG_CONTRAST if strong else _WEAK_CONTRAST)))
    return _FINENESS[name] * times * around


def _draw_mark(rng: np.random.Generator, scene: Scene, name: str) -> _Mark:
    """Draws defects of a class until one has a legal size."""
    draw = {"particle": _particle, "scratch": _scratch, "stain": _stain}[name]
    while True:
        change = cv2.GaussianBlur(draw(rng, scene.light_angle), (0, 0), scene.blur)
        strength = np.abs(change).max(axis=2)
        peak = float(strength.max())
        rows, columns = np.nonzero(strength >= _VISIBLE * peak)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        sides = box[2:] - box[:2]
        if sides.min() >= SMALLEST_SIDE and sides.max() <= LARGEST_SIDE:
            return _Mark(change / np.float32(peak), box)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of a square's pixels, from its centre."""
    y, x = np.mgrid[0:_PATCH, 0:_PATCH].astype(np.float32)
    return x - _PATCH / 2 + 0.5, y - _PATCH / 2 + 0.5


def _particle(rng: np.random.Generator, light_angle: float) -> np.ndarray:
    """A lump of grains, lit from one side, shaded on the other, in a thin halo."""
    x, y = _grid()
    reach = rng.uniform(4.5, 8.5)
    inside = np.full(x.shape, -99.0, np.float32)
    for _ in range(int(rng.integers(4, 8))):
        turn, away = rng.uniform(0, 2 * np.pi), reach * np.sqrt(rng.uniform(0, 1))
        grain = reach * rng.uniform(0.4, 0.75)
        distance = np.hypot(x - away * np.cos(turn), y - away * np.sin(turn))
        inside = np.maximum(inside, np.float32(grain) - distance)
    body = np.clip(inside + 0.5, 0, 1)
    side = (x * np.cos(light_angle) + y * np.sin(light_angle)) / np.float32(reach * 1.5)
    relief = 0.8 + 0.28 * np.clip(side, -1, 1) + 0.1 * smooth_noise(rng, _PATCH, 4)
    halo = np.exp(-(((inside + 1.6) / np.float32(1.3)) ** 2))
    sign = 1.0 if rng.random() < 0.75 else -1.0
    grey = np.float32(sign) * (body * relief - 0.8 * halo * (1 - body))
    tint = 1 + rng.uniform(-0.08, 0.08, 3)
    return grey[..., None] * tint.astype(np.float32)


def _scratch(rng: np.random.Generator, light_angle: float) -> np.ndarray:
    """A thin, slightly bent diagonal line with a shaded burr along it."""
    width, height = rng.uniform(16, 38, 2)
    direction = 1.0 if rng.random() < 0.5 else -1.0
    t = np.linspace(-0.5, 0.5, 24)
    bend = rng.uniform(-0.10, 0.10) * np.hypot(width, height)
    length = np.hypot(width, height)
    bow = bend * (1 - 4 * t * t)
    x = t * width + bow * height / length
    y = direction * (t * height - bow * width / length)
    points = np.stack([x, y], axis=1) + _PATCH / 2
    line = _polyline(points, rng.uniform(1.5, 2.1))
    across = np.array([-direction * height, width]) / length
    burr = _polyline(points + across * 2.0, 1.3)
    sign = 1.0 if rng.random() < 0.7 else -1.0
    uneven = 1 + 0.15 * np.clip(smooth_noise(rng, _PATCH, 7), -2, 2)
    grey = np.float32(sign) * (line * uneven - 0.35 * burr * (1 - line))
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)


def _polyline(points: np.ndarray, thickness: float) -> np.ndarray:
    """(P, P) float32 coverage of a line of any thickness, drawn at four times the size."""
    canvas = np.zeros((_PATCH * 4, _PATCH * 4), np.uint8)
    path = np.round(points * 4 * 16).astype(np.int32)
    cv2.polylines(canvas, [path], False, 255, max(1, round(thickness * 4)), cv2.LINE_8, 4)
    return cv2.resize(canvas, (_PATCH, _PATCH), interpolation=cv2.INTER_AREA) / np.float32(255)


def _stain(rng: np.random.Generator, light_angle: float) -> np.ndarray:
    """A dried drop: a tinted disc with the dark edge that drying leaves."""
    x, y = _grid()
    radius = rng.uniform(10.0, 18.5)
    aspect, turn = rng.uniform(1.0, 1.2), rng.uniform(0, np.pi)
    along = (x * np.cos(turn) + y * np.sin(turn)) / np.sqrt(aspect)
    across = (y * np.cos(turn) - x * np.sin(turn)) * np.sqrt(aspect)
    angle = np.arctan2(across, along)
    outline = np.full(x.shape, radius, np.float32)
    for wave in (2, 3, 4, 5):
        height = radius * rng.uniform(0, 0.1) / wave
        outline += height * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    inside = outline - np.hypot(along, across)
    body = np.clip(inside + 0.5, 0, 1)
    edge = rng.uniform(1.6, 2.4)
    ring = body * np.exp(-np.clip(inside - 0.8, 0, None) / np.float32(edge))
    fill = body * rng.uniform(0.25, 0.5) * (1 + 0.12 * smooth_noise(rng, _PATCH, 6))
    hue = 1 + np.array([-0.25, 0.0, 0.25]) * rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 1.0)
    change = -(ring * rng.uniform(0.85, 1.0))[..., None] - fill[..., None] * hue
    return change.astype(np.float32)


def _draw_dust(rng: np.random.Generator, scene: Scene) -> None:
    """Puts particles and fibres on the chuck, as on the wafer but out of focus: no defects there.

    The camera is focused on the wafer's face, and the chuck lies a wafer's thickness deeper.
    """
    corners = iter(rng.integers(0, scene.geometry.size - _PATCH, (400, 2)))
    wanted = int(rng.integers(2, 7))
    for x, y in corners:
        if wanted == 0:
            break
        if scene.geometry.inside[y : y + _PATCH, x : x + _PATCH].max() > 0:
            continue
        name = "particle" if rng.random() < 0.75 else "scratch"
        change = cv2.GaussianBlur(_draw_mark(rng, scene, name).change, (0, 0), _CHUCK_BLUR)
        change /= np.abs(change).max()
        window = scene.image[y : y + _PATCH, x : x + _PATCH]
        window += np.float32(_contrast(rng, name, window, scene)) * change
        wanted -= 1


def _check_arguments(count: int, seed: int, normals: float, size: int) -> None:
    problems = []
    if count < 1:
        problems.append(f"count is {count}; give at least 1 image.")
    if seed < 0:
        problems.append(f"seed is {seed}; give 0 or more.")
    if not 0 <= normals <= 1:
        problems.append(f"normals is {normals}; give a share from 0 to 1.")
    if size < 400:
        problems.append(f"size is {size}; give at least 400 pixels, so that defects find room.")
    if problems:
        raise InputError(problems)
