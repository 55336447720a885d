"""A silicon wafer on a chuck, drawn from a random generator.

The scene is built as a camera would meet it: a turned metal chuck, the wafer with its bevel and
flat, an oxide whose thickness decides its colour, uneven light, then lens and sensor.
`examples.wafers.lookalikes` and `examples.wafers.sample` add the rest in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Centre wavelengths of a camera's red, green and blue in nanometres, and the index of SiO2.
_WAVELENGTHS = np.array([610.0, 540.0, 460.0], np.float32)
_OXIDE_INDEX = 1.46


@dataclass(frozen=True)
class Geometry:
    """Where the wafer lies.

    Attributes:
        size: Side of the square image in pixels.
        centre: Wafer centre (x, y) in pixels.
        radius: Wafer radius in pixels.
        flat_angle: Direction of the flat seen from the centre, in radians.
        distance_to_flat: From the centre, in pixels.
        clamp_angles: Directions of the clamps, in radians.
        inside: (H, W) float32, distance in pixels to the wafer's edge, negative outside.
        distance: (H, W) float32, distance in pixels from the centre.
        angle: (H, W) float32, direction from the centre in radians, 0 to 2 pi.
    """

    size: int
    centre: tuple[float, float]
    radius: float
    flat_angle: float
    distance_to_flat: float
    clamp_angles: tuple[float, ...]
    inside: np.ndarray
    distance: np.ndarray
    angle: np.ndarray


@dataclass
class Scene:
    """A wafer before lens and sensor.

    Attributes:
        geometry: Where the wafer lies.
        image: (H, W, 3) float32 RGB in grey levels, not yet clipped.
        light_angle: Direction the light comes from in radians.
        blur: Standard deviation of the defocus in pixels.
        noise: Standard deviation of the sensor noise at mid grey, in grey levels.
        free: (H, W) bool, wafer area that neither rim, clamp nor clamp shadow touches.
    """

    geometry: Geometry
    image: np.ndarray
    light_angle: float
    blur: float
    noise: float
    free: np.ndarray


def draw_geometry(rng: np.random.Generator, size: int) -> Geometry:
    """Places wafer, flat and clamps in an image of `size` pixels."""
    scale = size / 900
    radius = float(rng.uniform(372, 412)) * scale
    centre = tuple(float(size / 2 + rng.uniform(-18, 18) * scale) for _ in range(2))
    flat = float(rng.uniform(-np.pi, np.pi))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = x + 0.5 - np.float32(centre[0]), y + 0.5 - np.float32(centre[1])
    distance, angle = cv2.cartToPolar(x, y)
    chord = radius * float(rng.uniform(0.925, 0.95))
    to_flat = chord - (x * np.float32(np.cos(flat)) + y * np.float32(np.sin(flat)))
    count = int(rng.integers(3, 7))
    turn = rng.uniform(0, 2 * np.pi)
    clamps = tuple(
        float(turn + 2 * np.pi * k / count + rng.uniform(-0.12, 0.12)) for k in range(count)
    )
    return Geometry(
        size=size,
        centre=centre,
        radius=radius,
        flat_angle=flat,
        distance_to_flat=chord,
        clamp_angles=clamps,
        inside=np.minimum(np.float32(radius) - distance, to_flat),
        distance=distance,
        angle=angle,
    )


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draws chuck and wafer of `size` pixels, without defects, clamps and reflections."""
    geometry = draw_geometry(rng, size)
    light_angle = float(rng.uniform(-np.pi, np.pi))
    image = _chuck(rng, geometry, light_angle)
    wafer = _film(rng, geometry)
    wafer *= _texture(rng, geometry)[..., None]
    if rng.random() < 0.5:
        wafer *= _die_grid(rng, geometry)[..., None]
    edge = np.clip(geometry.inside + 0.5, 0, 1)[..., None]
    image += edge * (wafer - image)
    _bevel(rng, geometry, image, light_angle)
    image *= _illumination(rng, geometry, light_angle)[..., None]
    free = geometry.inside > 14 * size / 900
    return Scene(
        geometry=geometry,
        image=image,
        light_angle=light_angle,
        blur=float(rng.uniform(0.55, 0.85)),
        noise=float(rng.uniform(1.3, 2.0)),
        free=free,
    )


def photograph(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """Lens and sensor: defocus, shot and read noise, 8 bits.

    Args:
        rng: Source of randomness.
        scene: The finished scene.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = cv2.GaussianBlur(scene.image, (0, 0), scene.blur)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    # Demosaicing spreads noise over neighbours; without it the grain looks computed.
    kernel = cv2.getGaussianKernel(5, 0.6)
    noise = cv2.sepFilter2D(noise, -1, kernel, kernel)
    noise *= np.float32(scene.noise / float((kernel**2).sum()) / np.sqrt(128))
    noise *= np.sqrt(np.maximum(image, np.float32(8)))
    image += noise
    return cv2.convertScaleAbs(np.maximum(image, 0, out=image))


def smooth_noise(rng: np.random.Generator, size: int, period: float) -> np.ndarray:
    """Smooth noise with zero mean and unit standard deviation.

    Args:
        rng: Source of randomness.
        size: Side of the square result in pixels.
        period: Typical distance between neighbouring bumps in pixels.

    Returns:
        (size, size) float32.
    """
    # Drawn small and enlarged, but blurred first: bare interpolation shows its lattice.
    step = max(period / 6, 1)
    cells = max(4, round(size / step) + 8)
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    coarse = cv2.GaussianBlur(coarse, (0, 0), period / step / 3.2)[4:-4, 4:-4]
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(coarse))
    coarse = (coarse - np.float32(mean)) / np.float32(max(deviation, 1e-6))
    if coarse.shape[0] == size:
        return coarse
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _chuck(rng: np.random.Generator, geometry: Geometry, light_angle: float) -> np.ndarray:
    """(H, W, 3) float32: turned metal with grooves and the two-lobed sheen of turning marks."""
    scale = geometry.size / 900
    rings = rng.standard_normal(int(geometry.size * 1.2)).astype(np.float32)
    rings = cv2.GaussianBlur(rings[None], (0, 0), 1.1)[0] * 2.2
    rings += (
        cv2.GaussianBlur(rng.standard_normal((1, rings.size)).astype(np.float32), (0, 0), 9)[0] * 9
    )
    grey = rng.uniform(42, 84) + rings[geometry.distance.astype(np.int32)]
    grey *= 1 + rng.uniform(0.1, 0.3) * np.cos(2 * (geometry.angle - np.float32(light_angle)))
    grey += 1.5 * smooth_noise(rng, geometry.size, 5 * scale + 1)
    for radius in geometry.radius + rng.uniform(25, 210, 2) * scale:
        offset = geometry.distance - np.float32(radius)
        grey -= 26 * np.exp(-((offset / 2.2) ** 2))
        grey += 14 * np.exp(-(((offset - 3.2) / 1.3) ** 2))
    # The wafer keeps light from the chuck beside it.
    shade = np.clip(1 + geometry.inside / np.float32(rng.uniform(9, 20) * scale), 0, 1)
    grey *= 1 - 0.55 * shade
    tint = np.array([1.0, 1.0, 1.0]) + rng.uniform(-0.05, 0.05, 3)
    return grey[..., None] * tint.astype(np.float32)


def _film(rng: np.random.Generator, geometry: Geometry) -> np.ndarray:
    """(H, W, 3) float32: silicon under an oxide whose colour follows its thickness."""
    size = geometry.size
    radial = (geometry.distance / np.float32(geometry.radius)) ** 2
    thickness = rng.uniform(110, 420) + rng.uniform(-95, 95) * radial
    thickness += rng.uniform(6, 26) * smooth_noise(rng, size, size / rng.uniform(1.0, 2.2))
    for _ in range(int(rng.choice((0, 1, 2), p=(0.35, 0.45, 0.2)))):
        thickness += _film_step(rng, geometry)
    if rng.random() < 0.45:  # a film stripped along the rim
        rim = rng.uniform(16, 46) * size / 900
        thickness -= rng.uniform(8, 22) * _rise(np.float32(rim) - geometry.inside, 1.2)
    thickness = thickness.astype(np.float32)
    strength = np.float32(rng.uniform(0.12, 0.42))
    # A camera's channels are wide, so colours fade as the order of interference rises.
    fading = np.exp(-thickness / np.float32(900))
    colour = np.empty((size, size, 3), np.float32)
    for channel, wavelength in enumerate(_WAVELENGTHS):
        phase = thickness * np.float32(4 * np.pi * _OXIDE_INDEX / wavelength)
        colour[..., channel] = 1 - strength * fading * np.cos(phase)
    grey = rng.uniform(86, 132)
    silicon = grey * (np.array([0.97, 1.0, 1.06]) + rng.uniform(-0.04, 0.04, 3))
    return colour * silicon.astype(np.float32)


def _film_step(rng: np.random.Generator, geometry: Geometry) -> np.ndarray:
    """(H, W) float32: one terrace of the film in nanometres, ending on a long contour."""
    size = geometry.size
    field = smooth_noise(rng, size, size / rng.uniform(0.7, 1.5))
    slope = max(float(np.abs(np.gradient(field[size // 2])).mean()), 1e-4)
    width = rng.uniform(0.8, 2.6)  # pixels
    step = float(rng.uniform(5, 13) * rng.choice((-1.0, 1.0)))
    return step * _rise((field - np.float32(rng.uniform(-0.8, 0.8))) / slope, width)


def _rise(distance: np.ndarray, width: float) -> np.ndarray:
    """A smooth step from 0 to 1 over about four widths (pixels)."""
    return 0.5 + 0.5 * np.tanh(distance / np.float32(width))


def _texture(rng: np.random.Generator, geometry: Geometry) -> np.ndarray:
    """(H, W) float32 factor near 1: grain, mottling and clouds of a lapped surface."""
    size = geometry.size
    texture = rng.uniform(0.008, 0.013) * smooth_noise(rng, size, 3.5)
    texture += rng.uniform(0.009, 0.016) * smooth_noise(rng, size, 9)
    texture += rng.uniform(0.006, 0.014) * smooth_noise(rng, size, rng.uniform(18, 34))
    texture += rng.uniform(0.015, 0.04) * smooth_noise(rng, size, rng.uniform(90, 180))
    return 1 + texture


def _die_grid(rng: np.random.Generator, geometry: Geometry) -> np.ndarray:
    """(H, W) float32 factor: faint streets between dies, square to the flat."""
    turned = geometry.angle - np.float32(geometry.flat_angle)
    across = geometry.distance * np.cos(turned)
    along = geometry.distance * np.sin(turned)
    depth = rng.uniform(0.02, 0.055) * rng.choice((-1.0, 1.0), p=(0.35, 0.65))
    factor = np.ones_like(across)
    street = np.zeros_like(across)
    for axis in (across, along):
        pitch = rng.uniform(44, 84) * geometry.size / 900
        shifted = axis + np.float32(rng.uniform(0, pitch))
        nearest = np.abs(shifted - np.float32(pitch) * np.round(shifted / np.float32(pitch)))
        np.maximum(street, np.exp(-((nearest / np.float32(1.1)) ** 2)), out=street)
    margin = np.clip((geometry.inside - 12) / 3, 0, 1)
    factor += np.float32(depth) * street * margin
    return factor


def _bevel(
    rng: np.random.Generator, geometry: Geometry, image: np.ndarray, light_angle: float
) -> None:
    """Draws the ground rim: a line that is bright towards the light and dark away from it."""
    at = np.nonzero(np.abs(geometry.inside - 5) < 9)
    inside = geometry.inside[at]
    facing = np.cos(geometry.angle[at] - np.float32(light_angle))
    line = np.exp(-(((inside - 2.2) / np.float32(1.5)) ** 2))
    dark = np.exp(-(((inside - 6) / np.float32(2.2)) ** 2))
    line *= rng.uniform(22, 48) + rng.uniform(20, 45) * facing
    image[at] += (line - dark * np.float32(rng.uniform(6, 16)))[:, None]


def _illumination(rng: np.random.Generator, geometry: Geometry, light_angle: float) -> np.ndarray:
    """(H, W) float32 factor: gradient, vignetting, and a broad sheen across everything."""
    size = geometry.size
    towards = geometry.distance * np.cos(geometry.angle - np.float32(light_angle)) / size
    light = 1 + np.float32(rng.uniform(0.15, 0.5)) * towards
    light -= np.float32(rng.uniform(0.15, 0.45)) * (geometry.distance / size) ** 2
    where = rng.uniform(0.2, 0.8, 2) * size
    reach = rng.uniform(0.10, 0.3, 2) * size
    window, sheen = spot(size, where, reach, rng.uniform(0, np.pi))
    light[window] += np.float32(rng.uniform(0.05, 0.28)) * sheen
    return light


def spot(
    size: int, centre: np.ndarray, sigma: np.ndarray, angle: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """A Gaussian spot as far as it can be seen.

    Args:
        size: Side of the square image in pixels.
        centre: (2,) x and y in pixels.
        sigma: (2,) standard deviations along and across, in pixels.
        angle: Direction of the first axis in radians.

    Returns:
        The rows and columns that it covers, and its (rows, columns) float32 with a peak of 1.
    """
    reach = 4 * max(sigma)
    window = tuple(
        slice(int(np.clip(at - reach, 0, size)), int(np.clip(at + reach, 0, size)))
        for at in (centre[1], centre[0])
    )
    y, x = np.ogrid[window]
    x = x.astype(np.float32) - np.float32(centre[0])
    y = y.astype(np.float32) - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = (x * cos + y * sin) / np.float32(sigma[0])
    across = (y * cos - x * sin) / np.float32(sigma[1])
    return window, np.exp(-0.5 * (along * along + across * across))
