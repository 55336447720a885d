"""The optimizer of a training: AdamW with a warm-up and a cosine to nearly nothing."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from inspection.training.schedule import extended

_FINAL = 0.01  # of the highest learning rate
_LONGEST_WARMUP = 200  # steps


def adamw(
    lr: float,
    steps: int,
    weight_decay: float,
    clip_norm: float = 5.0,
    warmup: int | None = None,
    plan: Sequence[tuple[int, int]] = (),
) -> keras.optimizers.Optimizer:
    """AdamW that decays neither norms nor biases.

    Args:
        lr: Highest learning rate.
        steps: Of the whole training.
        weight_decay: Per step, times the learning rate.
        clip_norm: Norm of all gradients together at the most.
        warmup: Steps in which the learning rate rises; a tenth of all, at most 200, where left
            out.
        plan: How the number of steps was changed on the way; see `inspection.training.schedule`.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101; cosine, 2017, arXiv:1608.03983.
    """
    schedule = rate_schedule(lr, steps, warmup, plan)
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=weight_decay, global_clipnorm=clip_norm
    )
    # Decay pulls norms and biases towards zero without making the network any simpler.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def rate_schedule(
    lr: float, steps: int, warmup: int | None = None, plan: Sequence[tuple[int, int]] = ()
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate that `adamw` follows, of the same arguments."""
    steps = plan[0][1] if plan else steps
    if warmup is None:
        warmup = min(_LONGEST_WARMUP, max(1, steps // 10))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=lr / 100,
        warmup_target=lr,
        warmup_steps=warmup,
        decay_steps=max(1, steps - warmup),
        alpha=_FINAL,
    )
    return extended(schedule, plan)
