"""Any image file as 8-bit RGB, and back."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TypeVar

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from inspection.data.letterbox import Image8
from inspection.errors import InputError
from inspection.files.listing import list_files
from inspection.files.writing import atomic_path

# What is larger is refused below with an InputError; Pillow's warning would only double it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 89_478_485
"""Pillow's own bound against decompression bombs: 256 MB of RGB."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_ORIENTATION = 0x0112
_ARRAYS = (np.uint8, np.uint16)
_Result = TypeVar("_Result")


def list_images(folder: str | Path, problems: list[str] | None = None) -> list[Path]:
    """All image files in a folder and the folders below it; see `listing.list_files`.

    Args:
        folder: Where to look.
        problems: See there.

    Raises:
        InputError: The folder does not exist, or names are not UTF-8.
    """
    return list_files(folder, IMAGE_SUFFIXES, "images", problems)


def path_problems(paths: Iterable[Path]) -> list[str]:
    """A sentence for each file or folder that is not there, or folder without an image."""
    problems = []
    for path in paths:
        if not path.exists():
            problems.append(f"{path}: there is no such file or folder; correct the path")
        elif path.is_dir() and not list_images(path):
            problems.append(f"{path}: holds no PNG, JPEG, BMP or TIFF image; give another folder")
    return problems


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF rotation, from the file's header alone.

    Raises:
        InputError: The file is no image, or larger than `MAX_PIXELS`.
    """
    path = Path(path)

    def size() -> tuple[int, int]:
        with path.open("rb") as file:
            try:
                image = _open(file)
            except UnidentifiedImageError:
                width, height, orientation = _tiff_header(file)
                return (height, width) if orientation >= 5 else (width, height)
            # Pillow has already turned a TIFF's size.
            turned = image.format != "TIFF" and _orientation(image) >= 5
            return image.size[::-1] if turned else image.size

    width, height = _guarded(path, size)
    _check_pixels(path, width, height)
    return width, height


def colour_channels(path: str | Path) -> int:
    """1 for a grey image, 3 for one in colour, from the file's header; alpha does not count.

    Raises:
        InputError: The file is no image.
    """
    path = Path(path)

    def count() -> int:
        with path.open("rb") as file:
            try:
                bands = _open(file).getbands()
            except UnidentifiedImageError:
                _tiff_header(file)  # what Pillow cannot open of these is colour
                return 3
        return 1 if bands[0] in ("L", "1", "I", "F") else 3

    return _guarded(path, count)


def is_deep(path: str | Path) -> bool:
    """Whether a file has 16 bits a sample, from its header.

    Raises:
        InputError: The file is no image.
    """
    return _described(path, lambda image: image.mode.startswith("I") or ";16" in str(image.tile))  # type: ignore[attr-defined]


def has_palette_or_alpha(path: str | Path) -> bool:
    """Whether a file has a palette of colours, or transparency, from its header.

    Raises:
        InputError: The file is no image.
    """
    modes = ("P", "PA", "LA", "La", "RGBA", "RGBa")
    return _described(path, lambda image: image.mode in modes or "transparency" in image.info)


def _described(path: str | Path, what: Callable[[Image.Image], bool]) -> bool:
    path = Path(path)

    def look() -> bool:
        with path.open("rb") as file:
            try:
                return what(_open(file))
            except UnidentifiedImageError:
                _tiff_header(file)  # of floating-point colour, which Pillow cannot open
                return False

    return _guarded(path, look)


def read_image(path: str | Path, bits: int = 16) -> Image8:
    """An image file as 8-bit RGB, turned as its EXIF says.

    Grey becomes three equal channels, 1-bit images 0 and 255, transparency is composited on
    black, of several TIFF pages the first is read. Floating point is taken as 0 to 1, unless
    values above 1 show that it is 0 to 255 or the range of `bits`.

    Args:
        path: PNG, JPEG, BMP or TIFF; the content decides, not the suffix.
        bits: How many bits of a 16-bit file the camera fills: 16 maps 65535 to 255, 12 maps
            4095 to 255. Files of 8 bits do not change.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: The file is missing, no image, truncated, or larger than `MAX_PIXELS`.
        ValueError: `bits` is not within 8 to 16.
    """
    if not 8 <= bits <= 16:
        raise ValueError(f"bits must lie within 8 and 16, not {bits}")
    path = Path(path)
    content = _guarded(path, path.read_bytes)
    return _guarded(path, lambda: _decode(path, content, bits))


def write_image(path: str | Path, rgb: Image8) -> None:
    """Writes an RGB image atomically in the format of its suffix; JPEG with quality 95.

    Args:
        path: The file; its name may hold any character.
        rgb: (H, W, 3) uint8.

    Raises:
        ValueError: The suffix names no known format, or the array is not RGB.
    """
    path = Path(path)
    content = encode_image(rgb, path.suffix)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def encode_image(rgb: Image8, suffix: str) -> bytes:
    """An RGB image as the bytes of a file.

    Args:
        rgb: (H, W, 3) uint8.
        suffix: One of `IMAGE_SUFFIXES`, any case.

    Raises:
        ValueError: The suffix names no known format, or the array is not RGB.
    """
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"images are written as {', '.join(sorted(IMAGE_SUFFIXES))}: {suffix!r}")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image needs the shape (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}")
    # OpenCV's defaults are lossless, and quality 95 for JPEG.
    done, content = cv2.imencode(suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]))
    if not done:
        raise ValueError(f"an image of shape {rgb.shape} cannot be written as {suffix}")
    return content.tobytes()


def _guarded(path: Path, action: Callable[[], _Result]) -> _Result:
    """Runs `action`; whatever a decoder stumbles over becomes a sentence about the file."""
    try:
        return action()
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{path}: has more than {MAX_PIXELS // 10**6} million pixels; cut it into tiles first"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: is no PNG, JPEG, BMP or TIFF image; remove it or save it as PNG"
        ) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(
            f"{path}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from error
    # Decoders raise nearly every exception there is on damaged bytes.
    except Exception as error:
        raise InputError(
            f"{path}: is damaged or truncated ({error}); copy it again from the camera"
        ) from error


def _open(file: IO[bytes]) -> Image.Image:
    return Image.open(file, formats=_FORMATS)


def _decode(path: Path, content: bytes, bits: int) -> Image8:
    try:
        image = _open(io.BytesIO(content))
    except UnidentifiedImageError:
        # Pillow knows no colour TIFF of floating point.
        width, height, _ = _tiff_header(io.BytesIO(content))
        _check_pixels(path, width, height)
        return _decode_deep(path, content, bits)
    with image:
        _check_pixels(path, *image.size)
        is_tiff = image.format == "TIFF"
        orientation = 1 if is_tiff else _orientation(image)
        deep = ";16" in str(image.tile)  # type: ignore[attr-defined]
        # Loading finds truncation, also where the pixels are taken from OpenCV's decoder.
        image.load()
        if image.mode.startswith(("I", "F")):
            rgb = _to_rgb(_to_8_bit(path, np.asarray(image), bits))
        elif deep:
            # Pillow keeps only the upper byte of deep colour, which empties a 12-bit image.
            rgb = _decode_deep(path, content, bits)
        else:
            rgb = _to_rgb(_plain(image))
    return np.ascontiguousarray(_turn(rgb, orientation))


def _plain(image: Image.Image) -> Image8:
    """An 8-bit Pillow image of any mode as L, RGB or RGBA samples."""
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBa"):
        return np.asarray(image.convert("RGBA"))
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))


def _decode_deep(path: Path, content: bytes, bits: int) -> Image8:
    """16-bit and floating-point colour by OpenCV, in the file's own orientation for PNG."""
    flags = cv2.IMREAD_UNCHANGED
    samples = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if samples is None:
        raise UnidentifiedImageError(str(path))
    if samples.ndim == 3 and samples.shape[2] >= 3:
        samples = samples[..., [2, 1, 0, *range(3, samples.shape[2])]]
    return _to_rgb(_to_8_bit(path, samples, bits))


def _to_8_bit(path: Path, samples: np.ndarray, bits: int) -> Image8:
    """Samples of any type as uint8, scaled so that the top of their range becomes 255."""
    if samples.dtype == np.uint8:
        return samples
    low, high = (float(samples.min()), float(samples.max())) if samples.size else (0.0, 0.0)
    is_float = samples.dtype.kind == "f"
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 65535:
        raise InputError(
            f"{path}: holds values from {low:g} to {high:g}, outside 0 to 65535; export it with "
            "8 or 16 bits"
        )
    top = float(2**bits - 1)
    if is_float and high <= 255:
        top = 1.0 if high <= 1 else 255.0
    scaled = samples.astype(np.float32) * np.float32(255 / top)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _to_rgb(samples: Image8) -> Image8:
    """Grey, grey with alpha, RGB or RGBA samples as RGB, transparency on black."""
    if samples.ndim == 2:
        samples = samples[..., None]
    channels = samples.shape[2]
    if channels in (2, 4):
        alpha = samples[..., -1:].astype(np.uint16)
        colour = samples[..., :-1].astype(np.uint16)
        samples = ((colour * alpha + 127) // 255).astype(np.uint8)
    return np.repeat(samples, 3, axis=2) if samples.shape[2] == 1 else samples[..., :3]


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and not _png_has_metadata(image.fp):  # type: ignore[attr-defined]
        return 1
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _png_has_metadata(file: io.BufferedIOBase | None) -> bool:
    """Whether a PNG file may state an orientation; Pillow would decode all pixels to find out."""
    if file is None:
        return True
    place = file.tell()
    file.seek(8)
    found = False
    while not found and len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        keyword = file.read(min(length, 17))
        found = kind == b"eXIf" or (
            kind in (b"tEXt", b"zTXt", b"iTXt")
            and keyword.startswith((b"Raw profile type ", b"XML:com.adobe.xmp"))
        )
        file.seek(length - len(keyword) + 4, io.SEEK_CUR)
    file.seek(place)
    return found


def _turn(rgb: Image8, orientation: int) -> Image8:
    """Applies an EXIF orientation of 1 to 8 (EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        rgb = rgb.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return rgb


def _tiff_header(file: IO[bytes]) -> tuple[int, int, int]:
    """(width, height, orientation) of a TIFF's first page, width and height as stored."""
    file.seek(0)
    header = file.read(8)
    if header[:4] not in (b"II*\0", b"MM\0*"):
        raise UnidentifiedImageError("no TIFF")
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    file.seek(tags.next)
    tags.load(file)
    orientation = tags.get(_ORIENTATION, 1)
    return int(tags[256]), int(tags[257]), orientation if orientation in range(1, 9) else 1


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"{path}: has no pixels; copy it again from the camera")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} million; "
            "cut it into tiles first"
        )


def as_rgb(image: np.ndarray, bits: int = 16) -> Image8:
    """An image given as an array, as `read_image` gives one of a file.

    Args:
        image: (H, W, 3) RGB, (H, W) or (H, W, 1) grey; uint8 or uint16.
        bits: How many bits of uint16 the camera fills, see `read_image`.

    Returns:
        (H, W, 3) uint8; the same array where it is that already.

    Raises:
        InputError: It has another form or type, or no pixels.
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    right = image.ndim in (2, 3) and channels in (1, 3) and image.dtype in _ARRAYS
    if not right or 0 in image.shape:
        raise InputError(
            "an image given as an array must be (H, W, 3) RGB, or (H, W) or (H, W, 1) grey, of "
            f"uint8 or uint16, not {image.shape} {image.dtype}; inspection.data.images.read_image "
            "returns that."
        )
    return _to_rgb(_to_8_bit(Path("the array"), image, bits))
