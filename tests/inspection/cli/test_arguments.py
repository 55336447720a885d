"""A wrong path is answered at once: nothing that takes seconds is imported before."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from inspection.data.images import write_image
from tests.inspection.files.test_archives import CARD, DETECTOR, HEADER, write
from tests.places import ROOT

HEAVY = (
    *("tensorflow", "keras", "keras_cv", "albumentations", "matplotlib", "pandas", "plotly"),
    *("sklearn", "scipy", "streamlit", "openvino", "onnxruntime", "wandb"),
)

# What is typed; the path or word that is wrong must be named.
CASES = {
    "detection": [
        ("label absent", "absent"),
        ("resize absent", "absent"),
        ("convert --annotations absent --images good", "absent"),
        ("convert --csv absent.csv --images good", "absent.csv"),
        ("check --annotations absent --images good", "absent"),
        ("split --annotations absent --images good", "absent"),
        ("anchors --annotations absent --images good", "absent"),
        ("show --images absent", "absent"),
        ("train --images absent", "absent"),
        ("train absent", "absent"),
        ("train good absent", "absent"),
        ("train --annotations absent --images good", "absent"),
        ("train --weights absent.h5 --images good", "absent.h5"),
        (
            "train --weights imagenet --backbone resnet18 --images good",
            "one of resnet50",
        ),
        ("train --norm group --crop 320 --images good", "--norm group with --crop 320"),
        ("train --run absent --resume", "absent"),
        ("train --config absent.yaml", "absent.yaml"),
        ("evaluate absent.keras", "absent.keras"),
        ("evaluate detector.keras --images absent", "absent"),
        ("evaluate detector.keras --annotations absent --images good", "absent"),
        ("evaluate card.keras", "card.keras"),
        ("predict absent --model detector.keras", "absent"),
        ("predict good --model absent.keras", "absent.keras"),
        ("predict good --model detector.keras --output taken", "taken"),
        ("predict detector.keras good --output taken", "taken"),
        ("predict absent.keras good", "absent.keras"),
        ("predict detector.keras absent", "absent"),
        ("predict detector.keras", "give the images or their folder after it"),
        ("predict good", "snapshots/best.keras"),
        ("predict snapshots/run", "give the images or their folder after it"),
        ("predict snapshots/run absent", "absent"),
        ("predict absent --model snapshots/run", "absent"),
        ("export snapshots/run --images absent", "absent"),
        ("export absent.keras", "absent.keras"),
        ("export detector.keras --images absent", "absent"),
        ("export detector.keras --annotations absent --images good", "absent"),
        ("export detector.keras --format absent", "absent"),
        ("export detector.keras --images empty", "empty: holds no"),
        ("export detector.keras --format onnx --int8 --images good", "openvino only"),
        ("export detector.keras --output absent.onnx", "absent.onnx"),
    ],
    "classification": [
        ("train --data absent", "absent"),
        ("train absent", "absent"),
        ("train --data good --weights absent.h5", "absent.h5"),
        ("train good --model resnet18 --weights imagenet", "one of resnet50, mobilenetv2"),
        ("train --name absent --resume", "absent"),
        ("train --data good --group-by absent.csv", "absent.csv"),
        ("show absent", "absent"),
        ("evaluate absent.keras", "absent.keras"),
        ("evaluate card.keras --data absent", "absent"),
        ("evaluate card.keras", "does not stand in its run's folder"),
        ("evaluate detector.keras", "detector.keras"),
        ("predict absent.keras good", "absent.keras"),
        ("predict card.keras absent", "absent"),
        ("predict card.keras good --output taken", "taken"),
        ("export absent.keras", "absent.keras"),
        ("export card.keras --format absent", "absent"),
        ("export card.keras --images absent", "absent"),
        ("export card.keras --images empty", "empty: holds no"),
        ("predict absent.onnx good", "absent.onnx"),
        ("submit card.keras --sample absent.csv --images good", "absent.csv"),
        ("cam card.keras absent", "absent"),
        ("cam card.keras good --method absent", "absent"),
        ("boxes card.keras absent", "absent"),
    ],
    "anomaly": [
        ("train absent", "absent"),
        ("train good --method absent", "absent"),
        ("train good --weights absent.h5", "absent.h5"),
        ("train good --weights self --backbone resnet50", "leave --backbone out"),
        (
            "train good --weights imagenet",
            "resnet152, efficientnet-b5",
        ),
        ("train good --roi-mask absent.png", "absent.png"),
        ("train good --generated absent", "absent"),
        ("evaluate absent", "absent"),
        ("evaluate run --data absent", "absent"),
        ("evaluate run", "split.csv"),
        ("predict absent good", "absent"),
        ("predict run absent", "absent"),
        ("predict run/model.anomaly absent", "absent"),
        ("export run/model.anomaly --images absent", "absent"),
        ("simulate run/model.anomaly --watch absent", "absent"),
        ("predict run good --output taken", "taken"),
        ("compare absent", "absent"),
        ("compare good --methods absent", "absent"),
        ("simulate absent", "absent"),
        ("export absent", "absent"),
        ("export run --format absent", "absent"),
        ("export run --images absent", "absent"),
        ("export run --images empty", "empty: holds no"),
        ("export run --output absent.onnx", "absent.onnx"),
        ("generate absent --output new", "absent"),
        ("generate good --tile 64 --overlap 0.5 --roi-mask absent.png --output new", "absent.png"),
        ("plan absent", "absent"),
    ],
}
CODE = """
import importlib, json, sys
from typer.testing import CliRunner
heavy, cases = json.loads(sys.argv[1]), json.loads(sys.argv[2])
class Watch:
    tried = []
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            self.tried.append(name)
            raise ImportError(f"{name} is heavy")
sys.meta_path.insert(0, Watch())
found = []
for room, lines in cases.items():
    app = importlib.import_module(f"{room}.cli").app
    for line, _ in lines:
        Watch.tried.clear()
        result = CliRunner().invoke(app, line.split())
        found.append([room, line, result.exit_code, result.output, list(Watch.tried)])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[tuple[str, str], tuple[int, str, list[str]]]:
    """What every case ends with; all of them in one process without any heavy package."""
    place = tmp_path_factory.mktemp("자료")
    for number in range(4):
        for kind in ("normal", "dot"):
            image = np.full((40, 40, 3), 10 * number + len(kind), np.uint8)
            write_image(place / f"good/{kind}/{kind}_{number}.png", image)
    write(place / "detector.keras", {"config.json": {"config": DETECTOR}})
    write(place / "card.keras", {"classification.json": CARD})
    (place / "snapshots/run").mkdir(parents=True)
    write(place / "snapshots/run/best.keras", {"config.json": {"config": DETECTOR}})
    (place / "run").mkdir()
    write(place / "run/model.anomaly", {"model.json": HEADER})
    (place / "run/settings.yaml").write_text("data: good\n", encoding="utf-8")
    (place / "empty").mkdir()
    (place / "taken").mkdir()
    (place / "taken/prediction.json").write_text('{"room": "elsewhere"}', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(HEAVY), json.dumps(CASES)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {(room, line): tuple(rest) for room, line, *rest in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("room", "line", "wrong"),
    [(room, line, wrong) for room, lines in CASES.items() for line, wrong in lines],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else value,
)
def test_what_is_wrong_is_said_before_anything_slow_is_imported(answers, room, line, wrong):
    status, output, tried = answers[room, line]
    assert status == 2, output
    assert not tried, output
    errors = [text for text in output.splitlines() if text.startswith("Error: ")]
    assert wrong in errors[0]
    assert len(errors) == 1 or line.startswith("label"), output  # which also misses its display
    assert "Details:" not in output
