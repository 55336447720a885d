"""Runs of an earlier program, moved with their data, serve as they did; see `old_files/make.py`."""

from __future__ import annotations

import importlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

FOLDER = Path(__file__).parent / "old_files"
ROOMS = ("detection", "classification", "anomaly")
MODELS = {
    "detection": "snapshots/old/best.keras",
    "classification": "runs/old",
    "anomaly": "runs/old/model.anomaly",
}
DATA = {"detection": "images", "classification": "parts", "anomaly": "product"}


def expected(room: str) -> dict[str, Any]:
    return json.loads((FOLDER / room / "expected.json").read_text(encoding="utf-8"))


def unpacked(room: str, folder: Path) -> Path:
    with tarfile.open(FOLDER / room / "run.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def settings_moved(room: str, run: Path, root: Path) -> None:
    """Names the data's new place in a run's settings, as a user does with an editor."""
    path = run / "settings.yaml"
    text = path.read_text(encoding="utf-8")
    assert f"/tmp/old_run_data/{room}/" in text
    path.write_text(text.replace(f"/tmp/old_run_data/{room}", str(root)), encoding="utf-8")


def typed(room: str, *arguments: object) -> str:
    """What a verb says that must go well."""
    app = importlib.import_module(f"{room}.cli").app
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def figures(path: Path, keys: dict[str, Any]) -> dict[str, Any]:
    """An evaluation's file, cut down to what is compared."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return {
        key: [found[key]["count"], found[key]["total"]] if isinstance(value, list) else found[key]
        for key, value in keys.items()
    }


@pytest.mark.parametrize("room", ROOMS)
def test_an_old_model_decides_as_it_did(room, tmp_path):
    root = unpacked(room, tmp_path / "옮김")
    model = importlib.import_module(room).load(root / MODELS[room])
    predictions = expected(room)["predictions"]
    assert len({told["decision"] for told in predictions.values()}) == 2
    for name, told in predictions.items():
        found = model.predict(root / DATA[room] / name)
        assert found.decision == told["decision"], name
        if room == "detection":
            np.testing.assert_allclose(found.score[:5], told["scores"], rtol=1e-4)
            np.testing.assert_allclose(found.xyxy[0], told["best_box"], rtol=1e-4, atol=1e-3)
        elif room == "classification":
            assert found.label == told["label"], name
            assert found.probability == pytest.approx(told["probability"], rel=1e-4, abs=1e-7)
        else:
            assert found.score == pytest.approx(told["score"], rel=1e-4), name
            assert found.score_map.mean() == pytest.approx(told["map_mean"], rel=1e-4), name


def folders(room: str) -> tuple[str, ...]:
    return ("annotations", "images") if room == "detection" else (DATA[room],)


@pytest.mark.parametrize("room", ROOMS)
def test_an_old_run_is_measured_on_its_own_split_wherever_it_and_its_data_are(room, tmp_path):
    """Moved together they are found; where the data went elsewhere a flag says where."""
    root = unpacked(room, tmp_path / "옮김")
    model = root / MODELS[room]
    wanted = expected(room)["figures"]
    part = (model if model.is_dir() else model.parent) / "evaluation_test"
    said = typed(room, "evaluate", model)
    assert "alone" not in said, "nothing is guessed where the settings lead to the data"
    found = figures(part / "evaluation.json", wanted)
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-4), key

    away = tmp_path / "elsewhere"
    away.mkdir()
    for name in folders(room):
        (root / name).rename(away / name)
    flags = data_flags(room, away)
    flags = flags if room == "detection" else ["--data", *flags]
    again = tmp_path / "again"
    typed(room, "evaluate", model, *flags, "--output", again)
    tables = [(place / "images.csv").read_text(encoding="utf-8") for place in (part, again)]
    assert tables[0] == tables[1]
    record = json.loads((again / "evaluation.json").read_text(encoding="utf-8"))
    assert record["part"] == "test"
    assert record["data"].startswith(str(away))


def test_what_an_old_evaluation_wrote_still_serves(tmp_path):
    """To the simulator, the plan and the comparison, without another evaluation."""
    from anomaly.evaluation.plan import measured
    from anomaly.evaluation.scored import measured_root
    from anomaly.simulator.figures import open_simulation

    root = unpacked("anomaly", tmp_path / "옮김")
    run = root / "runs/old"
    simulation = open_simulation(run)
    miss, overkill = measured(run)
    assert len(simulation) == miss.total + overkill.total == 6
    point = simulation.figures(0.1213, 0.1213)
    assert (point.miss.count, point.overkill.count) == (miss.count, overkill.count)
    assert all((measured_root(run) / image).is_file() for image in simulation.scored.images)


def log_of(run: Path) -> list[str]:
    return (run / "log.csv").read_text(encoding="utf-8-sig").splitlines()


def data_flags(room: str, root: Path) -> list[object]:
    """Where the data are now."""
    if room == "detection":
        return ["--images", root / "images", "--annotations", root / "annotations"]
    return [root / DATA[room]]


def run_of(room: str, root: Path) -> Path:
    return root / ("snapshots/old" if room == "detection" else "runs/old")


@pytest.mark.parametrize(("room", "epochs"), [("detection", 1), ("classification", 2)])
def test_an_old_run_goes_on_wherever_it_and_its_data_are(room, epochs, tmp_path):
    """Takes 5 to 9 s: a real step, since only its optimizer shows that the stored one fits."""
    root = unpacked(room, tmp_path / "옮김")
    run = run_of(room, root)
    before = log_of(run)
    assert len(before) == epochs + 1
    split = (run / "split.csv").read_bytes()
    # Made anew in another way since, it would put what was learnt into the test part.
    for stored in (root / "annotations/split.csv", *root.glob("runs/splits/*.csv")):
        stored.unlink(missing_ok=True)

    flags = ("--resume", "--epochs", epochs + 1, "--run", "old", "--runs", run.parent)
    typed(room, "train", *flags, *data_flags(room, root))

    after = log_of(run)
    assert len(after) == epochs + 2
    assert [row.split(",")[0] for row in after[1:]] == [str(n + 1) for n in range(epochs + 1)]
    assert after[: epochs + 1] == before
    assert (run / "split.csv").read_bytes() == split
    assert json.loads((run / "state.json").read_text(encoding="utf-8"))["epoch"] == epochs + 1
    importlib.import_module(room).load(run / "best.keras")
    check_record(run)
    settings = (run / "settings.yaml").read_text(encoding="utf-8")
    assert "old_run_data" not in settings, "from now on it is known where the data are"


def check_record(run: Path) -> None:
    """What every room records of a run, under the same names."""
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    keys = ("id", "settings", "versions", "backend", "data_hash", "split_hash", "images", "seed")
    assert set(keys) <= set(record)
    assert set(record["images"]) == {"train", "val", "test"}
    assert {"python", "keras", "tensorflow", "numpy"} <= set(record["versions"])


def test_an_old_anomaly_run_is_finished_and_its_settings_train_again(tmp_path):
    root = unpacked("anomaly", tmp_path / "옮김")
    run = run_of("anomaly", root)
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    said = typed("anomaly", "train", "--resume", "--run", "old", "--runs", run.parent)
    assert "this run is finished" in said
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    typed(
        "anomaly",
        *("train", root / "product", "--config", run / "settings.yaml", "--run", "again"),
        *("--runs", run.parent),
    )
    again = importlib.import_module("anomaly").load(root / "runs/again/model.anomaly")
    assert again.predict(root / "product/normal/00.png").decision in ("OK", "NG")
    check_record(root / "runs/again")


def test_a_taken_name_is_refused_by_all_rooms_in_the_same_words(tmp_path):
    """Also where another room has it."""
    for room in ROOMS:
        root = unpacked(room, tmp_path / room)
        run = run_of(room, root)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        for other in ROOMS:
            data = data_flags(other, unpacked(other, tmp_path / other))
            app = importlib.import_module(f"{other}.cli").app
            line = ["train", *data, "--run", "old", "--runs", run.parent]
            result = CliRunner().invoke(app, [str(item) for item in line])
            assert result.exit_code == 2, result.output
            assert result.output.strip().splitlines() == [
                f"Error: {run}: this run exists already; add --resume to go on with it, or give "
                "another --run"
            ]
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
