"""A classifier's training that is killed or interrupted goes on as if nothing had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd

import classification
from classification.cli.arguments import resume_settings
from classification.settings import ClassificationSettings
from classification.training.loop import train
from tests.classification.conftest import quiet, settings_of
from tests.places import ROOT


def test_a_killed_run_goes_on_as_if_nothing_had_been(shared_set, tmp_path):
    """Epochs 1 and 2 in one go equal epoch 1, a stop, and epoch 2."""
    whole = settings_of(ClassificationSettings, shared_set, tmp_path / "whole", epochs=2)
    parts = settings_of(ClassificationSettings, shared_set, tmp_path / "parts", epochs=2)
    train(whole, say=quiet)
    code = (
        "import sys; from pathlib import Path\n"
        "from classification.settings import ClassificationSettings as S\n"
        "from classification.training.loop import train\n"
        "from inspection.training.snapshots import RunFolder\n"
        "save = RunFolder.save\n"
        "def once(self, model, state, interrupted=False):\n"
        "    path = save(self, model, state, interrupted)\n"
        "    print('saved', flush=True)\n"
        "    import time; time.sleep(60)\n"
        "RunFolder.save = once\n"
        "train(S.model_validate_json(sys.argv[1]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, parts.model_dump_json()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "saved" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    train(resume_settings(parts), resume=True, say=quiet)
    one, other = (
        classification.load(tmp_path / name / "run" / "epoch_002.keras")
        for name in ("whole", "parts")
    )
    for first, second in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)
    log = pd.read_csv(tmp_path / "parts" / "run" / "log.csv")
    assert log["epoch"].tolist() == [1, 2]
    # Killed between the snapshot and its copy, the best one is there all the same.
    best = json.loads((tmp_path / "parts/run/state.json").read_text(encoding="utf-8"))["best_epoch"]
    names = (f"epoch_{best:03d}.keras", "best.keras")
    first, second = ((tmp_path / "parts/run" / name).read_bytes() for name in names)
    assert first == second


def test_ctrl_c_saves_in_the_midst_of_an_epoch(shared_set, tmp_path):
    options = settings_of(ClassificationSettings, shared_set, tmp_path, epochs=400)
    code = (
        "import signal, sys\n"
        # A shell's background job, which the tests may be, has Ctrl-C ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from classification.settings import ClassificationSettings as S\n"
        "from classification.training.loop import train\n"
        "train(S.model_validate_json(sys.argv[1]))\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, options.model_dump_json()],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    end = time.monotonic() + 120
    while time.monotonic() < end and not (tmp_path / "run" / "state.json").is_file():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert "Interrupted and saved. Go on with: python -m classification train" in text
    state = json.loads((tmp_path / "run" / "state.json").read_text(encoding="utf-8"))
    assert (tmp_path / "run" / state["snapshot"]).is_file()
