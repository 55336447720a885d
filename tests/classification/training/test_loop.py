"""A run from start to end: its files, going on after a stop, what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import classification
from classification.cli.arguments import check_settings, resume_settings
from classification.settings import ClassificationSettings
from classification.training.loop import seed_dropout, train
from classification.training.wandb_log import WandbLog
from inspection.errors import InputError
from inspection.models.card import read_card
from inspection.training.run import read_record
from tests.classification.conftest import draw, quiet, settings_of
from tests.places import ROOT


def test_a_run_leaves_snapshots_records_and_a_model_that_decides(shared_run, shared_set):
    names = {path.name for path in shared_run.iterdir()}
    assert {f"epoch_{n:03d}.keras" for n in (1, 5, 8)} <= names
    assert {"best.keras", "log.csv", "curves.png", "augmentation.png", "split.csv"} <= names
    record = json.loads((shared_run / "record.json").read_text(encoding="utf-8"))
    assert record["classes"] == ["normal", "dot", "긁힘"]
    assert record["data_hash"]
    assert record["versions"]["keras"]
    model = classification.load(shared_run)
    assert model.card.operating_point is not None
    rights = []
    for kind in ("normal", "dot", "긁힘"):
        for number in range(100, 108):  # drawn anew: none of them was learnt or calibrated on
            found = model.predict(draw(kind, number)[0])
            assert sum(found.probability.values()) == pytest.approx(1)
            rights.append(found.label == kind)
            assert (found.decision == "OK") == (found.label == "normal")
    assert sum(rights) >= 20, f"the drawn defects are easy to tell: {rights}"


def test_every_dropout_draws_for_itself_and_the_same_again():
    """Stochastic depth leaves out each branch by its own chance, not all of them at once."""
    inputs = x = keras.Input((1, 1, 8))
    for number in range(6):
        x = keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1), name=f"drop{number}")(x)
    inner = keras.Model(inputs, [keras.layers.Flatten()(x)], name="inner")
    taps = [inner.get_layer(f"drop{number}") for number in range(6)]
    ones = np.ones((200, 1, 1, 8), np.float32)

    def left_out(step: int) -> np.ndarray:
        seed_dropout(keras.Sequential([inner]), 0, step)
        return np.stack([np.asarray(tap(ones, training=True))[:, 0, 0, 0] == 0 for tap in taps])

    drawn = left_out(7)
    assert drawn.mean() == pytest.approx(0.5, abs=0.06)
    assert drawn.all(axis=0).mean() < 0.06  # 1.6 % where they are independent, 50 % as one
    np.testing.assert_array_equal(left_out(7), drawn)
    assert (left_out(8) != drawn).any()


def test_what_cannot_be_trained_is_said_before_the_work(shared_set, tmp_path):
    def refused(match: str, **options) -> None:
        with pytest.raises(InputError, match=match):
            train(settings_of(ClassificationSettings, shared_set, tmp_path, **options), say=quiet)

    with pytest.raises(ValidationError, match="'macro-f1', 'least-overkill'"):
        settings_of(ClassificationSettings, shared_set, tmp_path, rule="huh")
    refused("the val part is empty", fractions=(0.8, 0.0, 0.2))
    bare = tmp_path / "bare"
    for kind in ("a", "b"):
        (bare / kind).mkdir(parents=True)
        for path in sorted((shared_set / "dot").iterdir())[:4]:
            (bare / kind / f"{kind}{path.name}").write_bytes(path.read_bytes() + kind.encode())
    with pytest.raises(InputError, match=r"--paste: .* no class is called normal"):
        train(settings_of(ClassificationSettings, bare, tmp_path, paste=0.5), say=quiet)
    with pytest.raises(InputError, match="--paste cuts defects out by their masks"):
        train(settings_of(ClassificationSettings, bare, tmp_path, paste=0.5, normal="a"), say=quiet)


def test_a_run_is_not_written_over_and_keeps_its_settings(run, shared_set):
    runs = run.parent
    with pytest.raises(InputError, match="exists already; add --resume"):
        train(settings_of(ClassificationSettings, shared_set, runs), say=quiet)
    typed = ClassificationSettings(runs=runs, name="run", epochs=12, lr=0.5)
    with pytest.raises(InputError, match=r"--lr 0.5: this run was started with 0.002"):
        resume_settings(typed)
    with pytest.raises(InputError, match="no such run"):
        resume_settings(ClassificationSettings(runs=runs, name="huh"))
    assert resume_settings(ClassificationSettings(runs=runs)).name == "run"


def test_a_resume_takes_wandb_as_typed(run):
    """False used to be taken for silence."""
    stored = run / "settings.yaml"
    text = stored.read_text(encoding="utf-8")
    stored.write_text(text.replace("wandb: false", "wandb: true"), encoding="utf-8")
    for typed, wandb in ((None, True), (True, True), (False, False)):
        options = {} if typed is None else {"wandb": typed}
        settings = ClassificationSettings(runs=run.parent, name="run", **options)
        assert resume_settings(settings).wandb is wandb


def test_a_run_goes_on_to_more_epochs_without_a_jump_of_its_rate(run, tmp_path):
    state = json.loads((run / "state.json").read_text(encoding="utf-8"))
    said: list[str] = []
    typed = ClassificationSettings(runs=run.parent, name="run", epochs=9)
    settings = resume_settings(typed)
    # Its mask is in the snapshots, wherever the file is now.
    settings = settings.model_copy(update={"roi_mask": tmp_path / "gone.png"})
    check_settings(settings, resume=True)
    train(settings, resume=True, say=said.append)
    assert any("8 epochs were planned, now 9. It stays at 2.0e-05" in line for line in said)
    log = pd.read_csv(run / "log.csv")
    assert log["epoch"].tolist() == list(range(1, 10))
    again = json.loads((run / "state.json").read_text(encoding="utf-8"))
    assert again["plan"] == [*state["plan"], [state["step"], state["step"] * 9 // 8]]


def test_a_run_whose_record_is_damaged_is_one_sentence(run):
    for text in ("", "[]", '{"settings": 1}', '{"id": "../x"}', "\x00"):
        (run / "record.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"record\.json: is damaged .*; remove it") as caught:
            read_record(run)
        assert len(caught.value.problems) == 1


def test_a_run_of_weights_and_biases_is_told_by_its_id(monkeypatch, tmp_path):
    """By its path another training in a folder of the same name would go on with it."""
    begun = []

    class Wandb:
        Settings = staticmethod(lambda **options: None)

        @staticmethod
        def init(**options):
            begun.append(options)
            return Wandb()

        def log(self, values, step):
            begun.append({"step": step, **values})

    monkeypatch.setitem(sys.modules, "wandb", Wandb)
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = ClassificationSettings(name="run")
    for run_id in ("0123456789ab", "ba9876543210"):
        WandbLog(settings, tmp_path / "run", run_id, False, quiet).log(3, {"loss": 1.0})
    assert [options["id"] for options in begun[::2]] == ["0123456789ab", "ba9876543210"]
    assert begun[1] == {"step": 3, "epoch": 3, "loss": 1.0}


def test_weights_of_another_run_are_taken_and_its_classes_are_not(run, shared_set, tmp_path):
    told: list[str] = []
    options = {"weights": str(run / "best.keras"), "epochs": 1, "lr": 1e-9, "name": "second"}
    folder = train(
        settings_of(ClassificationSettings, shared_set, tmp_path, **options), say=told.append
    )
    (line,) = (line for line in told if "took" in line)
    total = len(classification.load(run).model.weights)
    assert line.endswith(f"took {total} of {total} weights.")
    one, other = (classification.load(path).model for path in (run, folder))
    np.testing.assert_allclose(
        one.get_layer("conv5_block2_2_conv").get_weights()[0],
        other.get_layer("conv5_block2_2_conv").get_weights()[0],
        atol=1e-4,
    )


def test_model_files_of_others_are_refused(tmp_path, run):
    import keras

    (tmp_path / "x.keras").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.keras: is no classifier of this tool"):
        classification.load(tmp_path / "x.keras")
    with pytest.raises(InputError, match="there is no such model"):
        classification.load(tmp_path / "none.keras")
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    plain.save(tmp_path / "plain.keras")
    with pytest.raises(InputError, match="is no classifier of this tool"):
        classification.load(tmp_path / "plain.keras")
    card = read_card(run / "best.keras", "classification")
    newer = tmp_path / "newer.keras"
    plain.save(newer)
    import zipfile

    with zipfile.ZipFile(newer, "a") as archive:
        archive.writestr("card.json", card.to_json().replace('"version": 1', '"version": 99'))
    with pytest.raises(InputError, match="newer version of this tool"):
        classification.load(newer)


def test_weights_and_biases_is_written_offline(shared_set, tmp_path):
    pytest.importorskip("wandb")
    code = (
        "import sys\n"
        "from classification.settings import ClassificationSettings as S\n"
        "from classification.training.loop import train\n"
        "train(S.model_validate_json(sys.argv[1]))\n"
    )
    options = settings_of(ClassificationSettings, shared_set, tmp_path, epochs=1, wandb=True)
    done = subprocess.run(
        [sys.executable, "-c", code, options.model_dump_json()],
        cwd=ROOT,
        env=os.environ | {"WANDB_MODE": "offline", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "offline" in done.stdout
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
