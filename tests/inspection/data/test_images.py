import contextlib
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from inspection.data.images import encode_image, image_size, list_images, read_image, write_image
from inspection.data.letterbox import PAD_VALUE, fit_for
from inspection.errors import InputError
from tests.places import DATA

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)

# Orientation -> how the stored image has to be turned to stand upright (EXIF, tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def tiff(samples: np.ndarray, orientation: int = 1) -> bytes:
    """An uncompressed little-endian TIFF; Pillow cannot write deep colour."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    data, number = samples.tobytes(), samples.dtype.itemsize * 8
    after = 8 + len(data)
    depth = struct.pack(f"<{channels}H", *[number] * channels)
    kind = struct.pack(f"<{channels}H", *[3 if samples.dtype.kind == "f" else 1] * channels)
    at_depth = depth if channels == 1 else struct.pack("<I", after)
    at_kind = kind if channels == 1 else struct.pack("<I", after + len(depth))
    photometric = 2 if channels >= 3 else 1
    tags = [
        (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", height)),
        (258, 3, channels, at_depth),
        (259, 3, 1, struct.pack("<H", 1)),
        (262, 3, 1, struct.pack("<H", photometric)),
        (273, 4, 1, struct.pack("<I", 8)),
        (274, 3, 1, struct.pack("<H", orientation)),
        (277, 3, 1, struct.pack("<H", channels)),
        (278, 4, 1, struct.pack("<I", height)),
        (279, 4, 1, struct.pack("<I", len(data))),
        (339, 3, channels, at_kind),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHI", tag, form, count) + value.ljust(4, b"\0")
        for tag, form, count, value in tags
    )
    header = b"II*\0" + struct.pack("<I", after + len(depth) + len(kind))
    return header + data + depth + kind + directory + struct.pack("<I", 0)


def file_of(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path):
    def write(content: bytes, name: str = "사진 1.png") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_files_come_back_as_they_are(store, form):
    path = store(file_of(Image.fromarray(RGB), form))
    assert np.array_equal(read_image(path), RGB)
    assert image_size(path) == (9, 6)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
def test_written_images_come_back_as_they_are(tmp_path, suffix):
    path = tmp_path / "하위 폴더" / f"웨이퍼{suffix}"
    write_image(path, RGB)
    assert np.array_equal(read_image(path), RGB)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_jpeg_is_near(tmp_path):
    smooth = np.tile(np.arange(0, 240, 3, np.uint8)[:, None, None], (1, 90, 3))
    write_image(tmp_path / "a.jpg", smooth)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_exif_rotation_is_applied(store, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :8] = 255
    image[8:, :8] = 128
    path = store(file_of(Image.fromarray(image), form, exif=exif))
    upright = UPRIGHT[orientation](image)
    result = read_image(path)
    assert image_size(path) == result.shape[1::-1] == upright.shape[1::-1]
    assert np.abs(result.astype(int) - upright).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_tiffs_are_scaled_and_turned(store, dtype, channels, orientation):
    samples = RGB[..., :channels]
    deep = samples * dtype(257) if dtype is np.uint16 else samples / dtype(255)
    path = store(tiff(deep.squeeze().astype(dtype), orientation), "a.tif")
    upright = UPRIGHT[orientation](np.broadcast_to(samples, RGB.shape))
    assert np.array_equal(read_image(path), upright)
    assert image_size(path) == upright.shape[1::-1]


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_png_with_exif_is_turned_once(store, channels):
    deep = cv2.imencode(".png", (RGB[..., ::-1] * np.uint16(257))[..., :channels])[1].tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path = store(deep[:33] + chunk + deep[33:])
    expected = RGB if channels == 3 else np.repeat(RGB[..., 2:], 3, axis=2)
    assert np.array_equal(read_image(path), np.rot90(expected, -1))
    assert image_size(path) == (6, 9)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_twelve_bit_camera_fills_the_range(store, suffix, channels):
    samples = np.linspace(0, 4095, 48).round().astype(np.uint16).reshape(4, 4, 3)[..., :channels]
    path = store(cv2.imencode(suffix, samples[..., ::-1])[1].tobytes(), f"a{suffix}")
    result = read_image(path, bits=12)
    assert np.array_equal(result[..., :channels], np.rint(samples / 4095 * 255))
    assert read_image(path).max() <= 16
    assert read_image(store(encode_image(RGB, ".png"), "8.png"), bits=12).tolist() == RGB.tolist()


def test_one_bit_images_are_0_and_255(store):
    bits = RGB[..., 0] > 128
    path = store(file_of(Image.fromarray(bits), "PNG"))
    assert np.array_equal(read_image(path), np.repeat(bits[..., None] * np.uint8(255), 3, 2))


def test_grey_becomes_three_equal_channels(store):
    path = store(file_of(Image.fromarray(RGB[..., 0]), "PNG"))
    assert np.array_equal(read_image(path), np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_black(store, mode):
    alpha = Image.fromarray(np.full((6, 9), 51, np.uint8))
    image = Image.fromarray(np.full((6, 9, 3), 200, np.uint8)).convert(mode)
    image.putalpha(alpha)
    assert np.all(read_image(store(file_of(image, "PNG"))) == 40)


def test_palette_images_have_their_colours(store):
    image = Image.fromarray(np.repeat(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), 3, 0))
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(read_image(store(file_of(palette, "PNG"))), np.asarray(image))


def test_cmyk_jpeg_has_its_colours(store):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    mean = read_image(store(file_of(image, "JPEG"), "a.jpg")).mean(axis=(0, 1))
    assert mean == pytest.approx([254, 0, 0], abs=4)


def test_the_first_page_of_a_tiff_is_read(store):
    pages = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    path = store(file_of(pages[0], "TIFF", save_all=True, append_images=pages[1:]), "a.tif")
    assert np.array_equal(read_image(path), RGB)


@pytest.mark.parametrize("values", [[[np.nan, 1]], [[-1, 1]], [[1e9, 0]]])
def test_values_without_a_meaning_are_refused(store, values):
    path = store(tiff(np.array(values, np.float32)), "a.tif")
    with pytest.raises(InputError, match="export it with"):
        read_image(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_files_are_input_errors(store, form, kept):
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    content = file_of(Image.fromarray(noise), form)
    path = store(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="사진 1"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_truncated_deep_tiffs_are_input_errors(store, dtype):
    content = tiff(np.ones((40, 40, 3), dtype))
    with pytest.raises(InputError):
        read_image(store(content[:-4000], "a.tif"))


def test_decompression_bombs_are_input_errors(store):
    header = b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    idat = b"IDAT" + zlib.compress(b"")
    end = struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    path = store(b"\x89PNG\r\n\x1a\n" + chunk + end)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="million"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a" + bytes(40)])
def test_other_files_are_input_errors(store, content):
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="PNG, JPEG, BMP or TIFF"):
            read(store(content))


def test_a_missing_file_is_an_input_error(tmp_path):
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="cannot be opened"):
            read(tmp_path / "none.png")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF"]), st.data())
def test_damaged_files_are_read_or_input_errors(store, form, data):
    content = bytearray(file_of(Image.fromarray(RGB), form))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = store(bytes(content))
    for read in (read_image, image_size):
        with contextlib.suppress(InputError):
            read(path)


def test_lists_images_of_all_folders_sorted(tmp_path):
    for name in ("b/나.PNG", "a.jpeg", "a.txt", ".hidden.png", ".cache/x.png", "b/c.Tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == ["a.jpeg", "b/c.Tif", "b/나.PNG"]
    with pytest.raises(InputError, match="no folder"):
        list_images(tmp_path / "none")


SIDES = st.integers(1, 300)


@given(SIDES, SIDES, st.integers(1, 300), st.sampled_from(["letterbox", "stretch"]), st.data())
def test_boxes_come_back_from_the_fit(width, height, size, mode, data):
    fit = fit_for(width, height, size, mode)
    x = sorted(data.draw(st.tuples(*[st.floats(0, width, width=32)] * 2)))
    y = sorted(data.draw(st.tuples(*[st.floats(0, height, width=32)] * 2)))
    box = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    fitted = fit.to_fitted(box)
    assert fitted.dtype == np.float32
    assert -1e-3 <= fitted.min() <= fitted.max() <= size + 1e-3
    # float32 has 24 bits, of which the result's scale may take some.
    slack = 1e-4 * max(1, 1 / fit.scale_x, 1 / fit.scale_y)
    assert np.abs(fit.to_source(fitted) - box).max() <= slack


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (7, 500), (300, 301), (64, 64)])
def test_a_box_stays_around_its_image(shape, mode):
    image = np.zeros((*shape, 3), np.uint8)
    height, width = shape
    x1, y1, x2, y2 = width // 4, height // 4, width - width // 4, height - height // 4
    image[y1:y2, x1:x2] = 255
    fit = fit_for(width, height, 128, mode)
    rows, columns = np.where(fit.apply(image)[..., 0] > 127)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert fit.to_fitted([[x1, y1, x2, y2]])[0] == pytest.approx(seen, abs=1)


def test_the_right_size_is_passed_through_bit_for_bit():
    image = RNG.integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(fit_for(32, 32, 32).apply(image), image)


def test_letterbox_pads_evenly():
    result = fit_for(10, 20, 40).apply(np.full((20, 10, 3), 9, np.uint8))
    assert result.shape == (40, 40, 3)
    assert (result[:, :10] == PAD_VALUE).all()
    assert (result[:, 30:] == PAD_VALUE).all()
    assert (result[:, 10:30] == 9).all()


def test_predictions_are_clipped_to_the_source():
    fit = fit_for(10, 20, 40)
    assert fit.to_source([[-5, -5, 60, 60]]).tolist() == [[0, 0, 10, 20]]


def test_fits_refuse_nonsense():
    with pytest.raises(ValueError, match="at least 1"):
        fit_for(0, 5, 5)
    with pytest.raises(ValueError, match="letterbox or stretch"):
        fit_for(5, 5, 5, "crop")
    with pytest.raises(ValueError, match="this fit is for"):
        fit_for(5, 6, 5).apply(RGB)


def test_published_one_bit_images(tmp_path):
    folder = DATA / "deeppcb" / "images"
    if not folder.is_dir():
        pytest.skip("deeppcb is not there; set INSPECTION_DATA")
    image = read_image(min(folder.iterdir()))
    assert image.shape == (640, 640, 3)
    assert set(np.unique(image)) == {0, 255}
