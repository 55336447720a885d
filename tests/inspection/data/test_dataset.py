"""Images with their split, and whether a preparation fits all of them."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.settings import AnomalySettings
from classification.settings import ClassificationSettings
from inspection.data.dataset import check_sizes
from inspection.data.images import write_image
from inspection.data.labelled import find_labelled
from inspection.data.masks import encode_mask
from inspection.data.preparation import Preparation
from inspection.errors import InputError


@pytest.fixture
def images(tmp_path):
    for number, side in enumerate((16, 24)):
        path = tmp_path / "웨이퍼" / "normal" / f"{number}.png"
        write_image(path, np.full((side, 32, 3), 90, np.uint8))
    return find_labelled(tmp_path / "웨이퍼")


@pytest.fixture
def mask(tmp_path):
    white = np.full((16, 32, 3), 255, np.uint8)
    white[:, :8] = 0
    write_image(tmp_path / "mask.png", white)
    return tmp_path / "mask.png"


def test_every_image_that_a_preparation_does_not_fit_is_named(images, mask):
    check_sizes(images, Preparation(16, roi=(0, 0, 32, 16), tile=16))
    for wrong, names in (
        (Preparation(16, roi=(0, 0, 33, 16)), ["0.png", "1.png"]),
        (Preparation(16, roi_mask=encode_mask(mask)), ["1.png"]),
        (Preparation(16, tile=20), ["0.png"]),
    ):
        with pytest.raises(InputError) as caught:
            check_sizes(images, wrong)
        assert len(caught.value.problems) == len(names)
        assert all(name in text for name, text in zip(names, caught.value.problems, strict=True))


@pytest.mark.parametrize("kind", [AnomalySettings, ClassificationSettings])
def test_a_training_of_either_room_may_take_every_step(kind, tmp_path, mask):
    found = kind(
        data=tmp_path, roi=(0, 0, 32, 16), roi_mask=mask, background=True, clahe=2, flatten=True
    ).preparation
    assert found == Preparation(
        found.size,
        roi=(0, 0, 32, 16),
        roi_mask=encode_mask(mask),
        background=True,
        clahe=2.0,
        flatten=True,
    )
    assert "iVBOR" not in str(found.facts())
