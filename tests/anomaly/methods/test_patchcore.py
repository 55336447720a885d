"""PatchCore: exact distances, bounded memory, defects near the noise over normal images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from anomaly.features.augment import Augmentation
from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.features.maps import patches
from anomaly.methods.patchcore import PatchCore, weighted_distance
from anomaly.models.model import AnomalyModel
from anomaly.models.scores import Reference
from inspection.data.images import write_image
from inspection.data.masks import encode_mask
from inspection.data.preparation import Preparation
from inspection.errors import InputError
from tests.anomaly.conftest import small_backbone, tile
from tests.anomaly.methods.test_methods import products

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor(small_backbone(), ["out1", "out2"])


def test_distances_are_scipys():
    vectors, bank = RNG.normal(3, 1, (50, 7)), RNG.normal(3, 1, (20, 7))
    found, _ = weighted_distance(vectors.astype(np.float32), bank.astype(np.float32), None)
    np.testing.assert_allclose(found, cdist(vectors, bank).min(axis=1), rtol=1e-4)


def papers_score(patches_of_image: np.ndarray, bank: np.ndarray, b: int) -> float:
    """Roth et al. 2022, equations 6 and 7, as they stand there."""
    distance = cdist(patches_of_image, bank)
    test = distance.min(axis=1).argmax()
    nearest = distance[test].argmin()
    highest = distance[test, nearest]
    neighbours = np.argsort(cdist(bank[nearest : nearest + 1], bank)[0])[:b]
    return (1 - np.exp(highest) / np.exp(distance[test, neighbours]).sum()) * highest


@pytest.mark.parametrize(("tile_side", "most"), [(None, 60), (32, 60), (None, 4)])
def test_the_image_score_is_the_papers(extractor, tmp_path, tile_side, most):
    source = products(tmp_path / "train", 1, 6)
    method = PatchCore(extractor, ratio=1, most=most, block=10_000)
    method.fit(source)
    preparation = Preparation(64, tile=tile_side)
    model = AnomalyModel(method, preparation, reference=Reference(0.0, 1.0, 0.0, raw=True))
    bank = method.bank.astype(np.float64)
    for seed in (5, 6):
        rgb = tile(np.random.default_rng(seed))
        rgb[20:26, 30:36] = 90
        found = patches(extractor(preparation(rgb).views)).astype(np.float64)
        wanted = papers_score(found.reshape(-1, found.shape[-1]), bank, min(9, most))
        assert wanted > 0
        assert model.predict(rgb).score == pytest.approx(wanted, rel=1e-4)


def test_a_bank_of_one_has_no_neighbours_to_weigh_by(extractor, tmp_path):
    method = PatchCore(extractor, most=1)
    source = products(tmp_path / "train", 1, 3)
    method.fit(source)
    model = AnomalyModel(method, Preparation(64), reference=Reference(0.0, 1.0, 0.0, raw=True))
    assert model.predict(source.paths[0]).score == pytest.approx(method.score(source, 0).max())


def test_masked_cells_do_not_enter_the_bank(extractor, tmp_path):
    source = products(tmp_path / "a", 1, 4)
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[:, :32] = 255
    write_image(tmp_path / "mask.png", mask)
    masked = Preparation(64, roi_mask=encode_mask(tmp_path / "mask.png"))
    method = PatchCore(extractor, ratio=1, most=2000, block=10_000)
    copies = Augmentation(rotations=True)
    method.fit(Source(source.paths, masked, augmentation=copies))
    assert method.seen == 4 * 4 * 16 * 8, "half of the cells of each image and of its turned copies"


def test_patches_are_means_on_the_finest_grid():
    fine = RNG.normal(size=(1, 8, 8, 6)).astype(np.float32)
    coarse = np.full((1, 4, 4, 5), 2.5, np.float32)
    found = patches([fine, coarse])
    assert found.shape == (1, 8, 8, 11)
    np.testing.assert_allclose(found[0, 3, 4, :6], fine[0, 2:5, 3:6].mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found[..., 6:], 2.5, rtol=1e-6)


def test_the_bank_is_bounded_and_reduced_by_blocks(extractor, tmp_path):
    source = products(tmp_path / "train", 1, 12)  # 12 x 256 patches
    method = PatchCore(extractor, ratio=0.5, most=300, block=700)
    method.fit(source)
    assert (method.bank.shape, method.seen) == ((300, 56), 12 * 256)
    every = [
        patches(source.features(index, extractor)).reshape(-1, 56) for index in range(len(source))
    ]
    assert cdist(method.bank, np.concatenate(every)).min(axis=1).max() < 1e-6, "made-up patches"


def test_more_images_join_what_is_known(extractor, tmp_path):
    method = PatchCore(extractor, ratio=0.2, most=400, block=5000)
    method.fit(products(tmp_path / "a", 1, 8))
    odd = products(tmp_path / "b", 2, 6, rough=24)
    before = max(method.score(odd, index).max() for index in range(6))
    method.extend(odd)
    assert max(method.score(odd, index).max() for index in range(6)) < 0.6 * before
    assert method.seen == 14 * 256


def test_save_and_reload_gives_the_same_scores(extractor, tmp_path):
    source = products(tmp_path / "a", 1, 4)
    method = PatchCore(extractor, ratio=0.1, most=100, block=5000)
    method.fit(source)
    again = PatchCore.from_state(method.state())
    np.testing.assert_array_equal(again.score(source, 2), method.score(source, 2))
    assert again.state().settings == method.state().settings


def test_options_out_of_range(extractor):
    with pytest.raises(InputError, match="ratio"):
        PatchCore(extractor, ratio=0)
    with pytest.raises(InputError, match="block"):
        PatchCore(extractor, most=100, block=150)


def test_the_cache_gives_what_was_computed(extractor, tmp_path):
    source = products(tmp_path / "a", 1, 2)
    cached = Source(source.paths, source.preparation, tmp_path / "cache")
    fresh = source.features(1, extractor)
    for _ in range(2):
        for one, other in zip(fresh, cached.features(1, extractor), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2
    write_image(source.paths[1], tile(np.random.default_rng(9)))  # another image, the same name
    assert any((a != b).any() for a, b in zip(fresh, cached.features(1, extractor), strict=True))
    with pytest.MonkeyPatch.context() as patch:  # another program, other features
        patch.setattr("anomaly.features.extractor._VERSION", 0)
        before = len(list((tmp_path / "cache").rglob("*.npy")))
        cached.features(0, extractor)
        assert len(list((tmp_path / "cache").rglob("*.npy"))) == before + 2
    other = Source(source.paths, Preparation(32), tmp_path / "cache")
    assert other.features(1, extractor)[0].shape[1] == 8
