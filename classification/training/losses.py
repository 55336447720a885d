"""Losses for classes of very different sizes, from logits and shares of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

Loss = Callable[[Any, Any], Any]


def cross_entropy(targets: Any, logits: Any) -> Any:
    """(B, K) shares and logits to (B,) losses."""
    return -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)


def weighted(prior: np.ndarray) -> Loss:
    """Cross-entropy, every class weighted by one over its share; the mean weight drawn is 1.

    Args:
        prior: (K,) share of each class among what is learnt.
    """
    weight = (1 / (len(prior) * np.maximum(prior, 1e-9))).astype(np.float32)

    def loss(targets: Any, logits: Any) -> Any:
        return -ops.sum(targets * weight * ops.log_softmax(logits, axis=-1), axis=-1)

    return loss


def focal(gamma: float) -> Loss:
    """Cross-entropy that fades where the class is already predicted rightly.

    Args:
        gamma: 0 is cross-entropy.

    Source: Lin et al. 2017, arXiv:1708.02002, equation 4, for classes by softmax.
    """

    def loss(targets: Any, logits: Any) -> Any:
        told = ops.log_softmax(logits, axis=-1)
        fading = ops.power(1 - ops.exp(told), gamma)
        return -ops.sum(targets * fading * told, axis=-1)

    return loss


def logit_adjusted(prior: np.ndarray) -> Loss:
    """Cross-entropy on logits raised by the log of each class's share, while learning only.

    What is learnt is then as good for a rare class as for a common one: the minimiser of the
    balanced error.

    Args:
        prior: (K,) share of each class among what is learnt.

    Source: Menon et al. 2021, arXiv:2007.07314, equation 10, with tau = 1.
    """
    offset = np.log(np.maximum(prior, 1e-9)).astype(np.float32)

    def loss(targets: Any, logits: Any) -> Any:
        return cross_entropy(targets, logits + offset)

    return loss


def make_loss(name: str, prior: np.ndarray, gamma: float = 2.0) -> Loss:
    """A loss by its name: `cross-entropy`, `weighted`, `focal` or `logit-adjusted`."""
    if name == "weighted":
        return weighted(prior)
    if name == "focal":
        return focal(gamma)
    return logit_adjusted(prior) if name == "logit-adjusted" else cross_entropy
