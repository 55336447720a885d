"""Disturbances of normal images, so that a network can learn what normal looks like.

Source: pasted patches and scars, Li et al. 2021, CutPaste, arXiv:2104.04015; noise-shaped regions
    of another texture, Zavrtanik et al. 2021, DRAEM, arXiv:2108.07610.
"""

from __future__ import annotations

import cv2
import numpy as np

_LEAST_CHANGE = 4.0  # grey levels, on average over a disturbance


def disturb(
    view: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Puts one to three disturbances onto a normal image.

    Args:
        view: (S, S, 3) uint8.
        other: Another normal image of the same shape, the source of what is pasted.
        rng: Source of chance.

    Returns:
        The disturbed image, and (S, S) float32 in [0, 1], how much of each pixel is not its
        own.
    """
    image = view.astype(np.float32)
    changed = np.zeros(view.shape[:2], np.float32)
    for _ in range(int(rng.integers(1, 4))):
        kind, fillings = _KINDS[int(rng.integers(len(_KINDS)))]
        shape = kind(view.shape[0], rng)
        filling = fillings[int(rng.integers(len(fillings)))](image, other, rng)
        new = np.clip(image + shape[..., None] * (filling - image), 0, 255)
        # Of two halves neither is the odd one: what tells is the border between them.
        marked = _border(shape) if kind is _half else shape
        if np.average(np.abs(new - image).mean(axis=2), weights=shape + 1e-6) < _LEAST_CHANGE:
            continue  # a shade of black on black is nothing to learn
        image, changed = new, np.maximum(changed, marked)
    return image.astype(np.uint8), changed


def _noise(side: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side) smooth noise of mean 0 and deviation 1, `cells` bumps across."""
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return (fine - fine.mean()) / (fine.std() + 1e-6)


def _blob(side: int, rng: np.random.Generator) -> np.ndarray:
    """A region of smooth noise over a level, inside a window of chance."""
    noise = _noise(side, int(2 ** rng.integers(2, 6)), rng)
    shape = np.clip((noise - rng.uniform(0.8, 1.8)) * rng.uniform(3, 10), 0, 1)
    return shape * _ellipse(side, rng.uniform(0.08, 0.4), rng)


def _spot(side: int, rng: np.random.Generator) -> np.ndarray:
    return _ellipse(side, rng.uniform(0.01, 0.06), rng)


def _ellipse(side: int, reach: float, rng: np.random.Generator) -> np.ndarray:
    shape = np.zeros((side, side), np.uint8)
    centre = tuple(int(value) for value in rng.integers(0, side, 2))
    axes = tuple(max(1, int(reach * side * rng.uniform(0.5, 1.5))) for _ in range(2))
    cv2.ellipse(shape, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    return _softened(shape, rng)


def _scar(side: int, rng: np.random.Generator) -> np.ndarray:
    """A bent line, thin or broad."""
    shape = np.zeros((side, side), np.uint8)
    start = rng.uniform(0, side, 2)
    turn = rng.uniform(0, 2 * np.pi)
    steps = rng.normal(0, 0.25, int(rng.integers(4, 12))).cumsum() + turn
    length = side * rng.uniform(0.05, 0.5) / len(steps)
    path = start + np.cumsum(length * np.stack([np.cos(steps), np.sin(steps)], 1), axis=0)
    width = max(1, round(side * float(rng.choice([0.006, 0.012, 0.03]))))
    cv2.polylines(shape, [path.round().astype(np.int32)], False, 255, width, cv2.LINE_AA)
    return _softened(shape, rng)


def _crack(side: int, rng: np.random.Generator) -> np.ndarray:
    """A hair line that wanders over much of the image, deeper here than there."""
    shape = np.zeros((side, side), np.uint8)
    steps = int(rng.integers(10, 30))
    turns = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.5, steps)
    length = side * rng.uniform(0.15, 0.9) / steps
    path = rng.uniform(0, side, 2) + np.cumsum(
        length * np.stack([np.cos(turns), np.sin(turns)], 1), axis=0
    )
    cv2.polylines(shape, [path.round().astype(np.int32)], False, 255, 1, cv2.LINE_AA)
    depth = np.clip(0.8 + 0.4 * _noise(side, 8, rng), 0.2, 1)
    soft = cv2.GaussianBlur(shape.astype(np.float32) / 255, (0, 0), float(rng.uniform(0.4, 1)))
    return np.clip(soft * rng.uniform(1.2, 2.5) * depth, 0, 1).astype(np.float32)


def _edge(side: int, rng: np.random.Generator) -> np.ndarray:
    """A ragged bite out of one side or corner."""
    return _beyond_a_line(side, rng.uniform(0.85, 0.985), rng.uniform(0.01, 0.06), 4, rng)


def _half(side: int, rng: np.random.Generator) -> np.ndarray:
    """Everything beyond a line through the image, nearly straight, sharp or gradual."""
    ramp = side * float(2 ** rng.uniform(-7, -3))
    return _beyond_a_line(side, rng.uniform(0.2, 0.85), rng.uniform(0, 0.03), ramp, rng)


def _beyond_a_line(
    side: int, share: float, roughness: float, ramp: float, rng: np.random.Generator
) -> np.ndarray:
    turn = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    distance = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    level = np.quantile(distance, share)
    rough = distance + np.float32(roughness) * _noise(side, 12, rng)
    return np.clip((rough - level) * side / ramp, 0, 1).astype(np.float32)


def _border(shape: np.ndarray) -> np.ndarray:
    """Where a shape begins and ends, a few cells of a feature map wide."""
    between = ((shape > 0.05) & (shape < 0.95)).astype(np.uint8)
    reach = max(3, round(shape.shape[0] * 0.04))
    return cv2.dilate(between, np.ones((reach, reach), np.uint8)).astype(np.float32)


def _softened(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    soft = shape.astype(np.float32) / 255
    return cv2.GaussianBlur(soft, (0, 0), float(rng.uniform(0.5, 2.5)))


def _other_place(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The other image, rolled, turned and flipped, a little lighter or darker."""
    moved = np.roll(other, tuple(rng.integers(0, other.shape[0], 2)), axis=(0, 1))
    moved = np.rot90(moved, int(rng.integers(4)))
    return moved.astype(np.float32) * np.float32(rng.uniform(0.6, 1.4)) + np.float32(
        rng.uniform(-20, 20)
    )


def _shade(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image itself, lighter or darker by a few times its own deviation."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    step = sign * rng.uniform(0.8, 4.0) * max(float(image.std()), 3.0)
    return image + np.float32(step)


def _texture(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey noise of chance coarseness about a grey of chance."""
    side = image.shape[0]
    noise = _noise(side, int(2 ** rng.integers(3, 8)), rng)
    grey = np.float32(rng.uniform(10, 245)) + np.float32(rng.uniform(2, 40)) * noise
    return np.repeat(grey[..., None], 3, axis=2)


def _blur(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(2, 6)))


def _dark(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image itself, darker by several times its own deviation; seldom lighter."""
    sign = 1.0 if rng.random() < 0.15 else -1.0
    return image + np.float32(sign * rng.uniform(1, 5) * max(float(image.std()), 3.0))


def _contrast(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image itself with more or less contrast, a little lighter or darker."""
    mean, deviation = float(image.mean()), max(float(image.std()), 3.0)
    gain = float(2 ** rng.uniform(-1.3, 1.3))
    return mean + np.float32(gain) * (image - mean) + np.float32(rng.uniform(-1, 1) * deviation)


_ANY = (_other_place, _shade, _shade, _texture, _blur)
_KINDS = (
    (_blob, _ANY),
    (_spot, _ANY),
    (_scar, _ANY),
    (_scar, _ANY),
    (_edge, _ANY),
    (_crack, (_dark,)),
    (_crack, (_dark,)),
    (_half, (_other_place, _shade, _contrast, _contrast)),
)
