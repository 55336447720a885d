"""Aggregations, their choice, AUROC and pixel metrics, against independent references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from anomaly.evaluation.pixel_metrics import PixelMetrics
from anomaly.evaluation.scored import read_scores
from anomaly.models.scores import (
    AGGREGATIONS,
    Reference,
    aggregate,
    auroc,
    choose_aggregation,
    peak,
)
from inspection.errors import InputError
from inspection.finite import NotFinite

RNG = np.random.default_rng(0)


def test_aggregations_of_a_known_map():
    one = np.zeros((20, 20), np.float32)
    one[0, :2] = [10, 6]
    found = aggregate(one, 5)
    assert found["max"] == 10
    assert found["top-0.5%"] == 8  # two cells of 400
    assert found["mean"] == pytest.approx(16 / 400)
    assert found["std"] == pytest.approx(one.std(), rel=1e-6)
    assert found["area"] == 2 / 400
    assert set(found) == set(AGGREGATIONS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.integers(0, 1000))
def test_auroc_is_scikit_learns(scores, seed):
    truth = np.random.default_rng(seed).random(len(scores)) < 0.5
    if truth.all() or not truth.any():
        assert np.isnan(auroc(np.array(scores), truth))
    else:
        assert auroc(np.array(scores), truth) == pytest.approx(roc_auc_score(truth, scores))


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(InputError, match="1 scores"):
        auroc(np.array([np.nan, 1.0]), np.array([True, False]))


def test_the_best_aggregation_is_chosen_and_told_how_far_it_is_ahead():
    truth = np.arange(200) < 80
    scores = {name: RNG.normal(size=200) for name in AGGREGATIONS}
    scores["mean"] = truth * 3 + RNG.normal(size=200)
    choice = choose_aggregation(scores, truth)
    assert choice.name == "mean"
    assert choice.behind["max"][0] > 0
    # A twin is not ahead of it by more than chance, and of equals the first is taken.
    scores["max"] = scores["mean"].copy()
    choice = choose_aggregation(scores, truth)
    assert (choice.name, choice.behind["mean"]) == ("max", (0.0, 0.0))


def test_without_defects_nothing_is_compared():
    choice = choose_aggregation({name: np.arange(5.0) for name in AGGREGATIONS}, np.zeros(5, bool))
    assert (choice.name, choice.auroc) == ("max", {})


def test_an_aggregation_by_which_all_score_alike_is_not_chosen():
    truth = np.arange(20) < 10
    worse = np.where(truth, 0.0, 1.0) + RNG.normal(0, 0.1, 20)
    scores = {name: np.zeros(20) for name in AGGREGATIONS} | {"mean": worse}
    assert choose_aggregation(scores, truth).name == "mean", "an AUROC of .5 by ties is no lead"


def test_without_defects_a_methods_own_aggregation_is_taken():
    scores = {name: np.arange(5.0) for name in AGGREGATIONS}
    assert choose_aggregation(scores, np.zeros(5, bool), usual="mean").name == "mean"


@pytest.mark.parametrize("tail", ["chi-squared", "chi", "log-normal"])
def test_a_threshold_for_the_maximum_holds_over_image_sizes(tail):
    rng = np.random.default_rng(0)

    def normal_image(cells: int) -> np.ndarray:
        if tail == "log-normal":
            return np.exp(0.4 * rng.normal(size=cells))
        squares = rng.chisquare(10, cells)
        return squares if tail == "chi-squared" else np.sqrt(squares)

    reference = Reference.of([normal_image(1000) for _ in range(60)], raw=True)
    same = normal_image(1000)
    assert peak(same, None, reference) == same.max(), "of the usual size, it is the maximum"
    scores = [peak(normal_image(1000), None, reference) for _ in range(1000)]
    threshold = np.quantile(scores, 0.95)
    for cells in (250, 4000, 16000):
        images = [normal_image(cells) for _ in range(300)]
        rejected = np.mean([peak(one, None, reference) >= threshold for one in images])
        assert rejected < 0.13, f"overkill of 5 % becomes {rejected:.0%} at {cells} cells"
    assert np.mean([one.max() >= threshold for one in images]) > 0.4, "as it is, it grows"


def test_pixel_auroc_is_scikit_learns():
    metrics, scores, truth = PixelMetrics(0, 1), [], []
    for _ in range(6):
        mask = RNG.random((40, 40)) < 0.1
        one = (RNG.normal(size=(40, 40)) + 1.5 * mask).astype(np.float32)
        metrics.update(one, mask)
        scores.append(one.ravel())
        truth.append(mask.ravel())
    wanted = roc_auc_score(np.concatenate(truth), np.concatenate(scores))
    assert metrics.compute()[0] == pytest.approx(wanted, abs=2e-3)


def test_aupro_against_a_plain_integration():
    masks, maps = [], []
    for index in range(4):
        mask = np.zeros((60, 60), bool)
        mask[5:25, 5:25] = True
        mask[40:45, 40:45] = index % 2 == 0
        masks.append(mask)
        maps.append((RNG.normal(size=(60, 60)) + 1.2 * mask).astype(np.float32))
    metrics = PixelMetrics(0, 1)
    for one, mask in zip(maps, masks, strict=True):
        metrics.update(one, mask)
    regions = [
        (one, mask_part)
        for one, mask in zip(maps, masks, strict=True)
        for mask_part in _parts(mask)
    ]
    normal = np.concatenate([one[~mask] for one, mask in zip(maps, masks, strict=True)])
    levels = np.quantile(normal, np.linspace(0.7, 1, 3000))[::-1]
    false = np.array([(normal >= level).mean() for level in levels])
    overlap = np.array([np.mean([(o[p] >= level).mean() for o, p in regions]) for level in levels])
    wanted = np.trapezoid(np.append(overlap, overlap[-1]), np.append(false, 0.3)) / 0.3
    assert metrics.compute()[1] == pytest.approx(wanted, abs=5e-3)


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    big = mask.copy()
    big[40:45, 40:45] = False
    small = mask & ~big
    return [big, small] if small.any() else [big]


def test_perfect_maps_score_one():
    metrics = PixelMetrics(0, 1)
    mask = np.zeros((30, 30), bool)
    mask[3:9, 3:9] = True
    metrics.update(mask.astype(np.float32) * 50, mask)
    metrics.update(np.zeros((30, 30), np.float32), np.zeros((30, 30), bool))
    assert metrics.compute() == (pytest.approx(1.0), pytest.approx(1.0))


def test_without_masks_nothing_is_measured():
    metrics = PixelMetrics(0, 1)
    metrics.update(np.zeros((5, 5), np.float32), np.zeros((5, 5), bool))
    assert np.isnan(metrics.compute()).all()
    with pytest.raises(ValueError, match="a mask of"):
        metrics.update(np.zeros((5, 5), np.float32), np.zeros((4, 5), bool))


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_stored_scores_that_are_not_finite_are_refused(tmp_path, score):
    path = tmp_path / "test.csv"
    path.write_text(f"image,kind,decision,score\na.png,normal,OK,0.1\nb.png,dot,OK,{score}\n")
    with pytest.raises(NotFinite, match=r"test\.csv: 1 of 2 scores"):
        read_scores(path)


@pytest.mark.parametrize("values", [(np.nan, 64.0, 0.0), (1.0, 0.0, 0.0), (1.0, 64.0, np.inf)])
def test_a_reference_of_a_damaged_file_is_refused(values):
    with pytest.raises(ValueError, match="scores are measured by"):
        Reference(*values, raw=True)
