"""Which --bits fit images of 16-bit files."""

import cv2
import numpy as np
import pytest

from inspection.data.depth import bits_note


def write(path, highest, dtype=np.uint16):
    pixels = np.linspace(0, highest, 30 * 40).reshape(30, 40).astype(dtype)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


@pytest.mark.parametrize(
    ("highest", "bits", "says"),
    [
        (4095, 16, "4095 (2 looked at): they come out 16 times too dark; give --bits 12"),
        (1000, 16, "give --bits 10"),
        (16000, 16, "give --bits 14"),
        (4095, 12, ""),
        (65535, 16, ""),
        (40000, 16, ""),
        (0, 16, ""),
        (5000, 12, "more than --bits 12 takes"),
    ],
)
def test_the_brightest_value_says_which_bits_fit(tmp_path, highest, bits, says):
    paths = [write(tmp_path / "a.png", highest // 2), write(tmp_path / "b.tiff", highest)]
    note = bits_note(paths, bits)
    assert says in note if says else note == ""


def test_images_of_8_bits_and_broken_ones_say_nothing(tmp_path):
    (tmp_path / "b.png").write_bytes(b"no image")
    paths = [write(tmp_path / "a.png", 200, np.uint8), tmp_path / "b.png", tmp_path / "gone.png"]
    assert bits_note(paths, 16) == ""
    assert bits_note([], 16) == ""
