"""Losses against KerasCV's, against NumPy, and at the ends of float32."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from detection.models.losses import focal_loss, smooth_l1_loss


def focal_reference(labels, logits, alpha=0.25, gamma=2.0):
    """Equation 5 of the paper in float64; softplus keeps log(p) exact."""
    logits = logits.astype(np.float64)
    total = 0.0
    for batch, anchor in np.ndindex(labels.shape):
        if labels[batch, anchor] == -2:
            continue
        for index, logit in enumerate(logits[batch, anchor]):
            is_positive = index == labels[batch, anchor]
            signed = logit if is_positive else -logit
            p = 1 / (1 + np.exp(-signed))
            weight = alpha if is_positive else 1 - alpha
            total += weight * (1 - p) ** gamma * np.logaddexp(0, -signed)
    return total


def some_batch(seed=0, anchors=40, classes=3, scale=4.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-2, classes, (2, anchors)).astype(np.int32)
    logits = rng.normal(0, scale, (2, anchors, classes)).astype(np.float32)
    return labels, logits


def gradient(function, *tensors):
    """Gradients of a scalar with respect to each tensor, on the running backend."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs TensorFlow's gradient")
    variables = [tf.constant(value) for value in tensors]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        value = function(*variables)
    return [np.asarray(item) for item in tape.gradient(value, variables)]


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5)])
def test_focal_equals_the_paper(alpha, gamma):
    labels, logits = some_batch()
    found = float(focal_loss(labels, logits, alpha, gamma))
    assert found == pytest.approx(focal_reference(labels, logits, alpha, gamma), rel=1e-5)


def test_focal_equals_keras_cv():
    import keras_cv

    labels, logits = some_batch(seed=1, scale=2.0)
    labels = np.maximum(labels, -1)
    one_hot = (labels[..., None] == np.arange(logits.shape[-1])).astype(np.float32)
    theirs = keras_cv.losses.FocalLoss(from_logits=True, reduction="sum")(one_hot, logits)
    assert float(focal_loss(labels, logits)) == pytest.approx(float(theirs), rel=1e-4)


@pytest.mark.parametrize("logit", [-100.0, -30.0, 0.0, 30.0, 100.0])
@pytest.mark.parametrize("label", [0, -1])
def test_focal_gradient_is_finite_and_points_the_right_way(logit, label):
    labels = np.array([[label]], np.int32)
    (slope,) = gradient(
        lambda logits: focal_loss(labels, logits), np.array([[[logit]]], np.float32)
    )
    assert np.isfinite(slope).all()
    wrong = (label == 0) == (logit < 0)
    if logit and wrong:
        # A confident mistake keeps the full gradient: here log(sigmoid(x)) would give 0 or NaN.
        assert abs(slope.item()) == pytest.approx(0.25 if label == 0 else 0.75, rel=1e-3)
        assert (slope.item() < 0) == (label == 0)


def test_losses_are_finite_at_the_ends():
    for logit in (-100.0, 100.0):
        logits = np.full((1, 3, 2), logit, np.float32)
        assert np.isfinite(float(focal_loss(np.array([[0, -1, -2]], np.int32), logits)))


def test_ignored_anchors_contribute_nothing():
    labels, logits = some_batch(seed=2)
    loud = np.where((labels == -2)[..., None], np.float32(90), logits)
    assert float(focal_loss(labels, loud)) == float(focal_loss(labels, logits))
    (slope,) = gradient(lambda values: focal_loss(labels, values), loud)
    assert not slope[labels == -2].any()
    assert slope[labels != -2].any()


def test_smooth_l1_equals_the_definition():
    rng = np.random.default_rng(3)
    labels = rng.integers(-2, 3, (2, 50)).astype(np.int32)
    target = rng.normal(0, 1, (2, 50, 4)).astype(np.float32)
    predicted = (target + rng.normal(0, 0.2, target.shape)).astype(np.float32)
    for sigma in (1.0, 3.0):
        expected = 0.0
        error = np.abs(predicted.astype(np.float64) - target)[labels >= 0]
        for value in error.ravel():
            quadratic = value < 1 / sigma**2
            expected += 0.5 * (sigma * value) ** 2 if quadratic else value - 0.5 / sigma**2
        found = float(smooth_l1_loss(labels, target, predicted, sigma))
        assert found == pytest.approx(expected, rel=1e-5)


def test_smooth_l1_teaches_positive_anchors_only():
    labels = np.array([[1, -1, -2]], np.int32)
    target = np.zeros((1, 3, 4), np.float32)
    (slope,) = gradient(
        lambda value: smooth_l1_loss(labels, target, value), np.ones((1, 3, 4), np.float32)
    )
    np.testing.assert_array_equal(slope, [[[1] * 4, [0] * 4, [0] * 4]])


def test_half_precision_predictions_are_summed_in_float32():
    """The sum over 150,000 anchors overflows float16 and loses all digits in bfloat16."""
    labels = np.full((1, 60_000), -1, np.int32)
    for dtype in ("float16", "bfloat16"):
        logits = keras.ops.zeros((1, 60_000, 3), dtype)
        found = focal_loss(labels, logits)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        assert float(found) == pytest.approx(180_000 * 0.75 * 0.25 * np.log(2), rel=1e-3)


def test_all_normal_batch_teaches():
    labels = np.full((2, 30), -1, np.int32)
    (slope,) = gradient(
        lambda logits: focal_loss(labels, logits), np.full((2, 30, 2), -4.6, np.float32)
    )
    assert (slope > 0).all()
