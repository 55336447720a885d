"""Sampling, losses, mixing and pasting against their definitions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classification.data.images import open_images
from classification.training.batches import Batches, Views
from classification.training.losses import cross_entropy, focal, logit_adjusted, make_loss, weighted
from classification.training.mixing import cutmix, mixup
from classification.training.paste import paste_by_mask
from classification.training.sampling import SAMPLERS
from inspection.data.preparation import Preparation
from tests.classification.conftest import SIZE


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(0, 3), st.integers(0, 4))
def test_every_sampler_is_the_same_for_the_same_seed(labels, seed, epoch):
    labels = [*labels, 0, 1, 2, 3]
    for kind in SAMPLERS.values():
        one, other = kind(labels, 4, seed), kind(labels, 4, seed)
        np.testing.assert_array_equal(one.order(epoch), other.order(epoch))
        assert one.prior.sum() == pytest.approx(1)
    np.testing.assert_array_equal(
        np.sort(SAMPLERS["plain"](labels, 4, seed).order(epoch)), np.arange(len(labels))
    )


def test_class_aware_sampling_goes_through_a_class_before_it_repeats():
    labels = np.array([0] * 50 + [1] * 3)
    sampler = SAMPLERS["class-aware"](labels, 2, 5)
    drawn = np.concatenate([sampler.order(epoch) for epoch in range(4)])
    kinds = labels[drawn]
    assert abs((kinds == 1).mean() - 0.5) < 0.01
    rare = drawn[kinds == 1]
    for start in range(0, len(rare) - 3, 3):
        assert len(set(rare[start : start + 3])) == 3
    assert len(set(drawn[kinds == 0][:50])) == 50


def test_balanced_sampling_draws_classes_alike():
    labels = np.array([0] * 900 + [1] * 100)
    drawn = np.concatenate([SAMPLERS["balanced"](labels, 2, 0).order(e) for e in range(5)])
    assert (labels[drawn] == 1).mean() == pytest.approx(0.5, abs=0.03)


def batch(seed=0, count=12, classes=4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)).astype(np.float32) * 2
    truth = rng.integers(0, classes, count)
    return logits, np.eye(classes, dtype=np.float32)[truth], truth


def test_losses_equal_those_of_keras_and_their_limits():
    logits, targets, truth = batch()
    plain = keras.losses.categorical_crossentropy(targets, logits, from_logits=True)
    np.testing.assert_allclose(cross_entropy(targets, logits), plain, rtol=1e-5)
    told = keras.losses.categorical_focal_crossentropy(
        targets, logits, alpha=1.0, gamma=2.0, from_logits=True
    )
    np.testing.assert_allclose(focal(2.0)(targets, logits), told, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(focal(0.0)(targets, logits), plain, rtol=1e-5)
    prior = np.array([0.7, 0.1, 0.1, 0.1])
    found = weighted(prior)(targets, logits)
    np.testing.assert_allclose(found, np.asarray(plain) / (4 * prior[truth]), rtol=1e-5)
    even = logit_adjusted(np.full(4, 0.25))(targets, logits)
    np.testing.assert_allclose(even, plain, rtol=1e-4)
    # A constant network is best under logit adjustment when it prefers no class at all.
    soft = np.tile(prior.astype(np.float32), (1, 1))
    at = [
        float(logit_adjusted(prior)(soft, np.array([[s, 0, 0, 0]], "float32"))[0])
        for s in (-1, 0, 1)
    ]
    assert at[1] == min(at)
    assert make_loss("cross-entropy", prior) is cross_entropy


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixed_targets_are_the_shares_that_are_seen(mix):
    rng = np.random.default_rng(1)
    # Images of one colour each: what is seen of whom can be counted.
    colours = np.arange(8, dtype=np.float32) * 10
    images = np.broadcast_to(colours[:, None, None, None], (8, 32, 32, 3)).copy()
    targets = np.eye(8, dtype=np.float32)
    mixed, shares = mix(images, targets, 1.0, rng)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), shares @ colours, rtol=1e-3, atol=1e-2)
    assert not np.array_equal(mixed, images)


def test_a_paste_brings_the_defect_and_leaves_the_rest():
    rng = np.random.default_rng(0)
    source = np.full((64, 64, 3), 100, np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20:30, 20:34] = True
    source[mask] = 220
    target = np.full((64, 64, 3), 60, np.uint8)
    for _ in range(20):
        pasted = paste_by_mask(target, source, mask, rng).astype(int)
        changed = (pasted != 60).any(axis=2)
        assert 60 <= changed.sum() < 700
        assert pasted.max() > 60 + 0.7 * 120
        assert pasted.min() >= 55  # no seam
        assert pasted.max() <= 60 + 120  # never stronger than it is
    np.testing.assert_array_equal(paste_by_mask(target, source, mask & False, rng), target)


def grained(rng: np.random.Generator, level: float, side: int = 128) -> np.ndarray:
    grey = np.clip(np.rint(rng.normal(level, 6, (side, side))), 0, 255)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def test_a_paste_cannot_be_told_by_its_grain():
    rng = np.random.default_rng(0)
    mask = np.zeros((128, 128), bool)
    mask[30:70, 30:70] = True
    ratios = []
    for _ in range(12):
        # Nothing but grain: what is pasted has no contrast at all.
        target = grained(rng, 110)
        pasted = paste_by_mask(target, grained(rng, 140), mask, rng)
        changed = (pasted != target).any(axis=2)
        assert changed.sum() > 1000
        grain = pasted.astype(float)[..., 0] - 110
        ratios.append(grain[changed].std() / grain[~changed].std())
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


def test_a_normal_image_stays_normal_where_nothing_is_pasted(shared_set, monkeypatch):
    """A crack of a large image may be gone at the network's size."""
    images = open_images(shared_set)
    labels = [images.classes.index(item.kind) for item in images.items]
    views = Views(images.items, Preparation(SIZE))
    normal = images.classes.index("normal")
    sampler = SAMPLERS["plain"](labels, 3, 0)
    batches = Batches(views, labels, 3, sampler, 4, normal=normal, paste=1.0, seed=3)
    monkeypatch.setattr(Views, "mask", lambda self, index: np.zeros((SIZE, SIZE), bool))
    index = labels.index(normal)
    for position in range(6):
        image, label = batches.sample(index, position)
        assert label == normal
        np.testing.assert_array_equal(image, views[index])


def test_only_the_training_side_is_pasted_from_and_normals_become_defects(shared_set):
    images = open_images(shared_set)
    items = [i for i in images.items if int(i.image[-6:-4]) < 4]
    labels = [images.classes.index(i.kind) for i in items]
    views = Views(items, Preparation(SIZE))
    sampler = SAMPLERS["plain"](labels, 3, 0)
    batches = Batches(views, labels, 3, sampler, 4, normal=0, paste=0.5, seed=3)
    shown = np.concatenate([batches[step].targets for step in range(60)]).argmax(axis=1)
    share = np.bincount(shown, minlength=3) / len(shown)
    np.testing.assert_allclose(share, batches.prior, atol=0.08)
    assert batches.prior[0] == pytest.approx(4 / 12 / 2)
    assert set(views._masks) <= {n for n, item in enumerate(items) if item.mask}
    again = Batches(views, labels, 3, sampler, 4, normal=0, paste=0.5, seed=3)
    np.testing.assert_array_equal(again[17].images, batches[17].images)


def test_views_beyond_memory_are_read_again(shared_set):
    images = open_images(shared_set)
    small = Views(images.items, Preparation(SIZE), most_bytes=3 * 3 * SIZE**2)
    whole = Views(images.items, Preparation(SIZE))
    for index in (0, 5, 9, 0, 9):
        np.testing.assert_array_equal(small[index], whole[index])
    assert len(small._kept) == 3
