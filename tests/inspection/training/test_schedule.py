"""The learning rate of a run whose number of epochs is changed on the way."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inspection.training.optimizer import adamw, rate_schedule
from inspection.training.run import RunRecord
from inspection.training.schedule import describe_change, rate_at
from inspection.training.snapshots import RunState, extend_plan

LR, STEPS = 1e-3, 4


def rates(plan, warmup=None) -> np.ndarray:
    schedule = rate_schedule(LR, 0, warmup, plan)
    return np.array([rate_at(schedule, step) for step in range(plan[-1][1] + 1)])


def test_a_run_of_one_length_keeps_its_cosine():
    found = rates([(0, 120)])
    plain = rate_schedule(LR, 120)
    assert found.tolist() == [rate_at(plain, step) for step in range(121)]
    assert found.max() == pytest.approx(LR)
    assert found[-1] == pytest.approx(LR / 100)


@pytest.mark.parametrize("done", [30, 60, 119, 120])
def test_more_epochs_neither_change_what_was_nor_jump(done):
    before, after = rates([(0, 120)]), rates(extend_plan([(0, 120)], done, 240))
    np.testing.assert_allclose(after[: done + 1], before[: done + 1], rtol=1e-6)
    assert (np.diff(after[done:]) <= 1e-9).all()
    assert np.abs(np.diff(after[done:])).max() < 0.05 * LR
    assert after[-1] == pytest.approx(LR / 100)


def test_fewer_epochs_end_as_low():
    after = rates(extend_plan([(0, 120)], 30, 60))
    assert after[30] == pytest.approx(rates([(0, 120)])[30])
    assert after[-1] == pytest.approx(LR / 100)


def test_a_rise_goes_on_to_its_top_first():
    after = rates(extend_plan([(0, 120)], 5, 240))
    assert after.max() == pytest.approx(LR)


def test_changes_add_up_and_an_equal_length_is_none():
    plan = extend_plan(extend_plan([(0, 120)], 60, 240), 100, 140)
    assert plan == [(0, 120), (60, 240), (100, 140)]
    assert extend_plan(plan, 110, 140) == plan
    assert extend_plan(plan, 60, 300) == [(0, 120), (60, 300)]
    assert extend_plan([(0, 120)], 0, 240) == [(0, 240)]
    jumps = np.abs(np.diff(rates(plan)[20:]))
    assert jumps.max() < 0.05 * LR


def test_it_is_said_what_the_rate_does():
    plan = extend_plan([(0, 120)], 120, 240)
    line = describe_change(rate_schedule(LR, 0, None, plan), plan, STEPS)
    assert line.startswith("Learning rate: 30 epochs were planned, now 60. It stays at 1.0e-05")
    plan = extend_plan([(0, 120)], 60, 240)
    line = describe_change(rate_schedule(LR, 0, None, plan), plan, STEPS)
    assert "from the 5.9e-04 of epoch 15 without a jump and falls to 1.0e-05 by epoch 60" in line


def test_a_run_that_stored_no_plan_goes_on_by_its_record():
    state = RunState(epoch=30, step=120)
    assert state.plan_rate(STEPS, 60, RunRecord(settings={"epochs": 30}))
    assert state.plan == [(0, 120), (120, 240)]
    assert not state.plan_rate(STEPS, 60, RunRecord(settings={"epochs": 60}))
    new = RunState()
    assert not new.plan_rate(STEPS, 60, RunRecord())
    assert new.plan == [(0, 240)]


def test_the_optimizer_follows_it_in_a_graph_and_is_stored():
    plan = extend_plan([(0, 10)], 10, 20)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = adamw(LR, 10, 1e-4, warmup=0, plan=plan)
    model.compile(optimizer, loss="mse")
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(10)
    model.train_on_batch(np.ones((1, 2)), np.ones((1, 1)))
    assert float(np.asarray(optimizer.learning_rate)) == pytest.approx(LR / 100)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert rate_at(again._learning_rate, 3) == pytest.approx(rates(plan, 0)[3])
