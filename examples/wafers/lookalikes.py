"""What looks like a defect on a wafer's image and is none, and what holds the wafer.

Reflections of lamps, alignment marks, the maker's serial number, clamps and their shadows.
"""

from __future__ import annotations

import cv2
import numpy as np

from examples.wafers.wafer import Scene, smooth_noise, spot


def draw_reflections(rng: np.random.Generator, scene: Scene) -> None:
    """Adds lamps mirrored in the wafer: soft, without an edge, also at the rim.

    They are as large as defects or larger and often brighter; only their softness tells.
    """
    geometry = scene.geometry
    size, scale = geometry.size, geometry.size / 900
    for _ in range(int(rng.integers(2, 7))):
        reach = geometry.radius * np.sqrt(rng.uniform(0, 1))
        turn = rng.uniform(-np.pi, np.pi)
        where = np.array(geometry.centre) + reach * np.array([np.cos(turn), np.sin(turn)])
        across = rng.uniform(7, 13) * max(scale, 0.7)
        along = across * rng.choice((rng.uniform(1.0, 1.3), rng.uniform(2.0, 4.5)))
        height = rng.uniform(7, 26)
        window, light = spot(size, where, np.array([along, across]), rng.uniform(0, np.pi))
        light *= np.clip(geometry.inside[window] / 6, 0, 1)
        colour = (np.array([1.0, 0.98, 0.94]) + rng.uniform(-0.06, 0.06, 3)) * height
        scene.image[window] += light[..., None] * colour.astype(np.float32)


def draw_clamps(rng: np.random.Generator, scene: Scene) -> None:
    """Draws the clamps that hold the rim, with their shadows, and takes them out of `free`."""
    geometry = scene.geometry
    size, scale = geometry.size, geometry.size / 900
    half_width, grip = rng.uniform(11, 19) * scale, rng.uniform(10, 20) * scale
    length = rng.uniform(45, 80) * scale
    away = np.array([-np.cos(scene.light_angle), -np.sin(scene.light_angle)])
    shift = away * rng.uniform(4, 10) * scale
    covered, shadow, screws = (np.zeros((size, size), np.float32) for _ in range(3))
    for angle in geometry.clamp_angles:
        out = np.array([np.cos(angle), np.sin(angle)])
        side = np.array([-out[1], out[0]]) * half_width
        # The clamp on the flat reaches further in.
        on_flat = np.cos(angle - geometry.flat_angle) > 0.93
        rim = np.array(geometry.centre) + geometry.radius * (0.94 if on_flat else 1.0) * out
        near, shoulder, far = (rim + out * at for at in (-grip, 8 * scale - grip, length))
        right, left = (
            (near + side * 0.7, shoulder + side, far + side),
            (far - side, shoulder - side),
        )
        outline = np.array([near - side * 0.7, *right, *left])
        _fill(covered, outline)
        _fill(shadow, outline + shift)
        turn = np.linspace(0, 2 * np.pi, 24)[:, None]
        circle = np.cos(turn) * out + np.sin(turn) * side / half_width
        _fill(screws, rim + out * 0.55 * length + circle * 0.45 * half_width)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 3.5 * max(scale, 0.5))
    scene.image *= 1 - 0.5 * shadow[..., None]
    # A milled face: lit edge towards the light, dark one away from it; the screw sits deeper.
    soft = cv2.GaussianBlur(covered - 0.7 * screws, (0, 0), 1.6)
    relief = cv2.Sobel(soft, cv2.CV_32F, 1, 0) * np.float32(away[0])
    relief += cv2.Sobel(soft, cv2.CV_32F, 0, 1) * np.float32(away[1])
    face = rng.uniform(70, 150) * (1 + 0.05 * smooth_noise(rng, size, 40 * scale + 4))
    face = face + 2.5 * smooth_noise(rng, size, 4) + 55 * relief - 22 * screws
    at = np.nonzero(covered)
    scene.image[at] += covered[at][:, None] * (face[at][:, None] - scene.image[at])
    scene.free &= cv2.dilate(np.maximum(covered, shadow), np.ones((13, 13))) < 0.04


def _fill(mask: np.ndarray, outline: np.ndarray) -> None:
    """Sets a polygon given in pixels to 1, with a smooth edge."""
    points = np.round(outline * 16).astype(np.int32)
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, 4)
    np.maximum(mask, canvas.astype(np.float32) / 255, out=mask)


def draw_marking(rng: np.random.Generator, scene: Scene) -> None:
    """Engraves a serial number along the flat, as wafer makers do, and takes it out of `free`."""
    geometry = scene.geometry
    text = "".join(rng.choice(list("ABCDEFHKLMNPRSTUVXZ0123456789"), int(rng.integers(7, 12))))
    canvas = np.zeros((32, 200), np.uint8)
    cv2.putText(canvas, text, (4, 22), cv2.FONT_HERSHEY_PLAIN, 0.9, 255, 1, cv2.LINE_AA)
    used = np.flatnonzero(canvas.any(axis=0))
    out = np.array([np.cos(geometry.flat_angle), np.sin(geometry.flat_angle)])
    along = np.array([-out[1], out[0]])
    chord = geometry.distance_to_flat - rng.uniform(20, 26) * geometry.size / 900
    middle = np.array(geometry.centre) + chord * out + rng.uniform(-40, 40) * along
    matrix = np.stack([along, out], axis=1)
    origin = middle - matrix @ np.array([used.mean(), 17.0])
    marking = cv2.warpAffine(
        canvas.astype(np.float32) / 255,
        np.column_stack([matrix, origin]),
        (geometry.size, geometry.size),
        flags=cv2.INTER_AREA,
    )
    marking *= geometry.inside > 0
    scene.image -= marking[..., None] * np.float32(rng.uniform(9, 20))
    scene.free &= cv2.dilate(marking, np.ones((21, 21))) < 0.05


def draw_alignment_marks(rng: np.random.Generator, scene: Scene) -> None:
    """Prints the crosses by which an exposure is aligned, and takes them out of `free`.

    They are as large as a particle and plainer to see; their shape is always the same, square
    to the flat.
    """
    geometry = scene.geometry
    turn = np.array([np.cos(geometry.flat_angle), np.sin(geometry.flat_angle)])
    axes = np.stack([turn, [-turn[1], turn[0]]])
    arm, width = rng.uniform(6.5, 10), rng.uniform(1.0, 1.6)
    bars = np.array([[arm, width], [width, arm]])
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    marks = np.zeros((geometry.size, geometry.size), np.float32)
    for share in rng.choice((0.3, 0.45, 0.6, 0.75), int(rng.integers(1, 3)), replace=False):
        start = rng.choice((0.0, np.pi / 4))
        for angle in geometry.flat_angle + start + np.arange(4) * np.pi / 2:
            way = np.array([np.cos(angle), np.sin(angle)])
            at = np.array(geometry.centre) + share * geometry.radius * way
            for bar in bars:
                _fill(marks, at + (corners * bar) @ axes)
    strength = float(rng.uniform(9, 20) * rng.choice((-1.0, 1.0)))
    scene.image += marks[..., None] * np.float32(strength)
    scene.free &= cv2.dilate(marks, np.ones((19, 19))) < 0.05
