"""Snapshots: whatever moment a run dies at, what is on disk is one whole state."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from detection.models.snapshots import (
    promote_run,
    run_folder,
    snapshot_card,
    snapshot_standing,
    top_line,
)
from inspection.errors import InputError
from inspection.training.snapshots import RunFolder, RunState


class Killed(BaseException):
    """What a process sees of kill -9: nothing; here it ends the code at one point."""


def tiny_model(inputs: int = 3) -> keras.Model:
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.AdamW(0.1), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def mark(model: keras.Model, value: int) -> None:
    """Writes one number into every weight and every optimizer slot."""
    for variable in (*model.weights, *model.optimizer.variables):
        variable.assign(np.full(variable.shape, value, variable.dtype))


def marks(path: Path, state: RunState) -> set[int]:
    """The numbers found in a saved state's model and optimizer."""
    model = keras.models.load_model(path / state.snapshot, compile=False)
    model.compile(keras.optimizers.AdamW(0.1), loss="mse")
    run_folder(path).restore_optimizer(model, state)
    found = set()
    for variable in (*model.weights, *model.optimizer.variables):
        found.update(np.unique(np.asarray(variable)).astype(int).tolist())
    return found


def save(folder: RunFolder, model, epoch: int, step: int, interrupted: bool = False) -> None:
    mark(model, step)
    folder.save(model, RunState(epoch=epoch, step=step), interrupted)


def names(path: Path) -> list[str]:
    return sorted(item.name for item in path.iterdir())


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return tiny_model()


def test_saved_state_comes_back(tmp_path, model):
    mark(model, 20)
    state = RunState(epoch=2, step=20, best_epoch=1, best_score=0.25, sums={"loss": 1.5})
    path = run_folder(tmp_path / "밤").save(model, state)
    assert path == tmp_path / "밤" / "epoch_002.keras"
    again = run_folder(tmp_path / "밤").load_state()
    assert again == state
    assert (again.epoch, again.step, again.sums) == (2, 20, {"loss": 1.5})
    assert marks(tmp_path / "밤", again) == {20}


def test_training_goes_on_exactly_where_it_stopped(tmp_path):
    """Adam's moments and the step count of its schedule come back, to the bit."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))

    def fresh() -> keras.Model:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
        schedule = keras.optimizers.schedules.CosineDecay(
            0.01, 9, warmup_target=0.1, warmup_steps=3
        )
        model.compile(keras.optimizers.AdamW(schedule, global_clipnorm=1.0), loss="mse")
        return model

    keras.utils.set_random_seed(1)
    whole = fresh()
    for _ in range(3):
        whole.train_on_batch(x, y)
    folder, state = run_folder(tmp_path), RunState(epoch=1, step=3)
    folder.save(whole, state)
    resumed = fresh()
    stored = keras.models.load_model(tmp_path / state.snapshot, compile=False)
    resumed.set_weights(stored.get_weights())
    folder.restore_optimizer(resumed, state)
    for _ in range(4):
        whole.train_on_batch(x, y)
        resumed.train_on_batch(x, y)
    for first, second in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_saving_leaves_the_optimizer_in_place(tmp_path, model):
    optimizer = model.optimizer
    save(run_folder(tmp_path), model, 1, 10)
    assert model.optimizer is optimizer


def test_snapshot_holds_no_optimizer(tmp_path, model):
    folder = run_folder(tmp_path)
    save(folder, model, 1, 10)
    with zipfile.ZipFile(tmp_path / "epoch_001.keras") as archive:
        weights = archive.getinfo("model.weights.h5").file_size
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.save_weights(tmp_path / "plain.weights.h5")
    assert weights <= (tmp_path / "plain.weights.h5").stat().st_size + 2048


def test_only_the_newest_epoch_keeps_its_optimizer(tmp_path, model):
    folder = run_folder(tmp_path)
    for epoch in (1, 2, 3):
        save(folder, model, epoch, 10 * epoch)
    assert names(tmp_path) == [
        "epoch_001.keras",
        "epoch_002.keras",
        "epoch_003.keras",
        "epoch_003.optimizer.npz",
        "state.json",
    ]


def test_keep_removes_the_oldest(tmp_path, model):
    folder = run_folder(tmp_path, keep=2)
    for epoch in (1, 2, 3, 4):
        save(folder, model, epoch, 10 * epoch)
    assert [name for name in names(tmp_path) if name.endswith(".keras")] == [
        "epoch_003.keras",
        "epoch_004.keras",
    ]
    assert marks(tmp_path, folder.load_state()) == {40}


def test_keep_goes_by_number_beyond_epoch_999(tmp_path, model):
    folder = run_folder(tmp_path, keep=1)
    save(folder, model, 999, 10)
    save(folder, model, 1000, 20)
    save(folder, model, 1001, 30)
    assert [name for name in names(tmp_path) if name.endswith(".keras")] == ["epoch_1001.keras"]


def test_keep_leaves_best_and_foreign_files(tmp_path, model):
    (tmp_path / "best.keras").write_bytes(b"best")
    (tmp_path / "epoch_notes.keras").write_bytes(b"mine")
    folder = run_folder(tmp_path, keep=1)
    for epoch in (1, 2):
        save(folder, model, epoch, 10 * epoch)
    assert {"best.keras", "epoch_notes.keras", "epoch_002.keras"} <= set(names(tmp_path))


def test_interrupted_state_is_replaced_by_the_next_epoch(tmp_path, model):
    folder = run_folder(tmp_path)
    save(folder, model, 1, 10)
    save(folder, model, 1, 14, interrupted=True)
    state = folder.load_state()
    assert (state.epoch, state.step) == (1, 14)
    assert marks(tmp_path, state) == {14}
    assert (tmp_path / "epoch_001.keras").is_file()
    save(folder, model, 2, 20)
    assert not list(tmp_path.glob("interrupted*"))


# --- dying at any point ------------------------------------------------------------------------


class Trap:
    """Ends the program, or fills the disk, at the n-th thing that touches a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
        self.count, self.at, self.error = 0, at, error
        for owner, name in (
            (Path, "replace"),
            (Path, "rename"),
            (Path, "unlink"),
            (os, "replace"),
            (os, "rename"),
            (os, "fsync"),
            (np, "savez"),
            (keras.Model, "save"),
            (shutil, "copyfile"),
        ):
            monkeypatch.setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, function):
        def trapped(*arguments, **options):
            self.count += 1
            if self.count == self.at:
                raise self.error
            return function(*arguments, **options)

        return trapped


HISTORIES = {
    "second epoch": [(1, 10, False), (2, 20, False)],
    "interrupt": [(1, 10, False), (1, 13, True)],
    "second interrupt": [(1, 10, False), (1, 13, True), (1, 16, True)],
    "epoch after interrupt": [(1, 10, False), (1, 13, True), (2, 20, False)],
    "keep": [(1, 10, False), (2, 20, False), (3, 30, False)],
}


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize(
    "error", [Killed(), OSError(errno.ENOSPC, "No space left on device")], ids=["killed", "full"]
)
def test_state_is_whole_whenever_saving_breaks_off(tmp_path, model, history, error):
    """The old state or the new one, and each with its own model and its own optimizer."""
    *before, last = HISTORIES[history]
    keep = 1 if history == "keep" else None
    for epoch, step, interrupted in before:
        save(run_folder(tmp_path / "before", keep), model, epoch, step, interrupted)
    mark(model, last[1])
    for at in range(1, 60):
        path = tmp_path / str(at)
        shutil.copytree(tmp_path / "before", path)
        folder = run_folder(path, keep)
        state = RunState(epoch=last[0], step=last[1])
        with pytest.MonkeyPatch.context() as patch:
            trap = Trap(patch, at, error)
            finished = False
            try:
                folder.save(model, state, last[2])
                finished = True
            except type(error):
                pass
        found = run_folder(path).load_state()
        assert found.step in (before[-1][1], last[1]), f"point {at}"
        assert marks(path, found) == {found.step}, f"point {at}"
        if finished and trap.count < at:
            assert found.step == last[1]
            return
    raise AssertionError("saving never came to its end")


def test_failed_save_leaves_the_model_usable(tmp_path, model, monkeypatch):
    optimizer = model.optimizer
    folder = run_folder(tmp_path)

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "save", full)
        with pytest.raises(OSError, match="No space"):
            save(folder, model, 1, 10)
    assert model.optimizer is optimizer
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    save(folder, model, 1, 10)
    assert marks(tmp_path, folder.load_state()) == {10}


# --- reading back ------------------------------------------------------------------------------


def test_run_without_a_finished_epoch_says_so(tmp_path):
    with pytest.raises(InputError, match="--resume"):
        run_folder(tmp_path).load_state()


@pytest.mark.parametrize("text", ["", "{", "[]", '"epoch"', '{"epoch": 1, "colour": 2}', "null"])
def test_damaged_state_is_named(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match=r"state\.json"):
        run_folder(tmp_path).load_state()


@pytest.mark.parametrize("name", ["epoch_001.keras", "epoch_001.optimizer.npz"])
def test_missing_files_are_named(tmp_path, model, name):
    folder = run_folder(tmp_path)
    save(folder, model, 1, 10)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=name):
        folder.load_state()


def test_optimizer_of_another_model_is_refused(tmp_path, model):
    folder = run_folder(tmp_path)
    save(folder, model, 1, 10)
    with pytest.raises(InputError, match="optimizer"):
        folder.restore_optimizer(tiny_model(5), folder.load_state())


def test_damaged_optimizer_is_refused(tmp_path, model):
    folder = run_folder(tmp_path)
    save(folder, model, 1, 10)
    path = tmp_path / "epoch_001.optimizer.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="optimizer"):
        folder.restore_optimizer(tiny_model(), folder.load_state())


# --- the best one ------------------------------------------------------------------------------


def fake_snapshot(path: Path, run: str | None, content: str = "", **stored) -> Path:
    """A file that says which run it is of, without weights."""
    preprocessing = {"size": 900, **stored} | ({} if run is None else {"run": run})
    config = {"config": {"preprocessing": preprocessing, "content": content, "classes": ["긁힘"]}}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    return path


def test_promote_copies_to_the_run_and_to_the_top(tmp_path):
    folder = run_folder(tmp_path / "run_a")
    snapshot = fake_snapshot(tmp_path / "run_a" / "epoch_003.keras", "run_a")
    assert folder.promote(snapshot) is None
    for path in (tmp_path / "run_a" / "best.keras", tmp_path / "best.keras"):
        assert path.read_bytes() == snapshot.read_bytes()
        assert not path.is_symlink()
    measured = [tmp_path / name / "evaluation_test" for name in ("run_a", "")]
    for place in measured:
        place.mkdir()
        (place / "evaluation.json").write_text("{}")
    assert folder.promote(snapshot) is None
    assert all(place.is_dir() for place in measured), "of the model that stands there"
    better = fake_snapshot(tmp_path / "run_a" / "epoch_004.keras", "run_a", "better")
    assert folder.promote(better) is None
    assert (tmp_path / "best.keras").read_bytes() == better.read_bytes()
    assert not any(place.exists() for place in measured), "of a model that is gone"
    assert names(tmp_path) == ["best.keras", "run_a"]


@pytest.mark.parametrize(
    ("theirs", "ours", "replaced", "words"),
    [
        ({"val_map": 0.9, "val_hash": "x"}, {"val_map": 0.0, "val_hash": "x"}, False, "not beaten"),
        ({"val_map": 0.9, "val_hash": "x"}, {"val_map": 0.9, "val_hash": "x"}, False, "not beaten"),
        ({"val_map": 0.9, "val_hash": "x"}, {"val_map": 1.0, "val_hash": "x"}, True, "now it is"),
        ({"val_map": 0.2, "val_hash": "x"}, {"val_map": 1.0, "val_hash": "y"}, False, "of other"),
        ({"val_map": 0.2}, {"val_map": 1.0, "val_hash": "y"}, False, "of other"),
        ({}, {}, False, "of other"),
    ],
)
def test_another_runs_best_stays_until_it_is_beaten_on_the_same_images(
    tmp_path, theirs, ours, replaced, words
):
    old = fake_snapshot(tmp_path / "best.keras", "어제", **theirs).read_bytes()
    folder = run_folder(tmp_path / "run_b")
    snapshot = fake_snapshot(tmp_path / "run_b" / "epoch_001.keras", "run_b", **ours)
    rival = folder.promote(snapshot)
    assert (rival.standing.run, rival.replaced) == ("어제", replaced)
    expected = snapshot.read_bytes() if replaced else old
    assert (tmp_path / "best.keras").read_bytes() == expected
    assert (tmp_path / "run_b" / "best.keras").read_bytes() == snapshot.read_bytes()
    line = top_line(folder.path, "run_b", rival)
    assert "어제" in line
    assert words in line
    assert ("--promote run_b" in line) is not replaced


def test_a_new_run_of_an_old_name_is_another_run(tmp_path):
    """The folder was deleted, and another product trained under the same name."""
    old = fake_snapshot(tmp_path / "best.keras", "run", run_id="1", val_map=0.9).read_bytes()
    snapshot = fake_snapshot(tmp_path / "run" / "epoch_001.keras", "run", run_id="2", val_map=0.0)
    assert run_folder(tmp_path / "run").promote(snapshot).replaced is False
    assert (tmp_path / "best.keras").read_bytes() == old


def test_promoting_by_hand_asks_for_no_comparison(tmp_path):
    fake_snapshot(tmp_path / "best.keras", "어제", val_map=0.9)
    best = fake_snapshot(tmp_path / "밤" / "best.keras", "밤", epoch=3, val_map=0.5)
    line = promote_run(tmp_path, "밤")
    assert (tmp_path / "best.keras").read_bytes() == best.read_bytes()
    for words in ("run 밤, epoch 3, val mAP 0.500", "1 class (긁힘)", "before of run 어제"):
        assert words in line
    for wrong in ("absent", "../밤", ".."):
        with pytest.raises(InputError, match="--promote"):
            promote_run(tmp_path, wrong)
    (tmp_path / "밤" / "best.keras").write_bytes(b"no snapshot")
    with pytest.raises(InputError, match=r"best\.keras: is no snapshot"):
        promote_run(tmp_path, "밤")
    assert snapshot_card(tmp_path / "best.keras").provenance.run == "밤"


def test_promote_over_something_unreadable(tmp_path):
    (tmp_path / "best.keras").write_bytes(b"?")
    snapshot = fake_snapshot(tmp_path / "run_b" / "epoch_001.keras", "run_b")
    run_folder(tmp_path / "run_b").promote(snapshot)
    assert snapshot_card(tmp_path / "best.keras").provenance.run == "run_b"


def test_full_disk_while_promoting_keeps_the_old_best(tmp_path, monkeypatch):
    old = fake_snapshot(tmp_path / "best.keras", "run_a").read_bytes()
    snapshot = fake_snapshot(tmp_path / "run_b" / "epoch_001.keras", "run_b")

    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        run_folder(tmp_path / "run_b").promote(snapshot)
    assert (tmp_path / "best.keras").read_bytes() == old
    assert names(tmp_path / "run_b") == ["epoch_001.keras"]


def test_settings_of_a_snapshot(tmp_path):
    path = fake_snapshot(tmp_path / "a.keras", "밤 교대")
    assert snapshot_card(path).preparation.size == 900
    assert snapshot_card(path).provenance.run == "밤 교대"
    assert snapshot_standing(fake_snapshot(tmp_path / "b.keras", None)) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}"])
def test_what_is_no_snapshot_is_named(tmp_path, content):
    path = tmp_path / "photo.keras"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"photo\.keras"):
        snapshot_card(path)
    assert snapshot_standing(path) is None


@pytest.mark.parametrize("config", ["[]", "{}", '{"config": []}', '{"config": {"name": "x"}}', "?"])
def test_archives_of_something_else_are_named(tmp_path, config):
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
    with pytest.raises(InputError, match=r"other\.keras"):
        snapshot_card(path)
