"""Focal loss and smooth L1 on the running Keras backend."""

from __future__ import annotations

from keras import ops


def focal_loss(labels, logits, alpha: float = 0.25, gamma: float = 2.0):
    """Sum of the focal loss over anchors and classes, from logits.

    Args:
        labels: (B, A) int: class index, -1 for background, -2 for ignored anchors.
        logits: (B, A, C) float32.
        alpha: Weight of positives; negatives get 1 - alpha.
        gamma: How strongly well-classified anchors are faded out.

    Returns:
        A scalar, not normalised.

    Source: Lin et al. 2017, arXiv:1708.02002, equation 5.
    """
    logits = ops.cast(logits, "float32")
    positive = ops.expand_dims(labels, -1) == ops.arange(ops.shape(logits)[-1], dtype=labels.dtype)
    # For a negative the loss is that of a positive with the logit's sign turned.
    signed = ops.where(positive, logits, -logits)
    # softplus keeps its gradient where log(sigmoid(x)) has run into -inf.
    cross_entropy = ops.softplus(-signed)
    weight = ops.where(positive, alpha, 1.0 - alpha)
    loss = weight * ops.sigmoid(-signed) ** gamma * cross_entropy
    counted = ops.cast(ops.expand_dims(labels, -1) != -2, "float32")
    return ops.sum(loss * counted)


def smooth_l1_loss(labels, target, predicted, sigma: float = 3.0):
    """Sum of the smooth L1 loss over the four offsets of the positive anchors.

    Args:
        labels: (B, A) int: class index, negative where there is no box.
        target: (B, A, 4) float32 offsets.
        predicted: (B, A, 4) float32 offsets.
        sigma: The loss is quadratic below 1 / sigma**2.

    Returns:
        A scalar, not normalised.

    Source: Girshick 2015, arXiv:1504.08083, equation 3; sigma as in keras-retinanet.
    """
    error = ops.abs(ops.cast(predicted, "float32") - target)
    squared = sigma**2
    loss = ops.where(error < 1 / squared, 0.5 * squared * error**2, error - 0.5 / squared)
    positive = ops.cast(ops.expand_dims(labels, -1) >= 0, "float32")
    return ops.sum(loss * positive)
