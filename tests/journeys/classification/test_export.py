"""export as it is typed, and what a PC on the line makes of it."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest

import classification
from tests.journeys.classification.test_commands import call
from tests.journeys.line import on_the_line


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_pc_on_the_line_decides_without_tensorflow(run, shared_set, tmp_path, format):
    code, text = call("export", run, "--format", format)
    assert code == 0, text
    assert "every decision is the same" in text
    exported = run / ("best.onnx" if format == "onnx" else "best.xml")
    out = tmp_path / "결과"
    on_the_line("classification", "predict", exported, shared_set / "dot", "--output", out)
    model = classification.load(run)
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        wanted = model.predict(shared_set / "dot" / row["image"])
        assert (row["label"], row["decision"]) == (wanted.label, wanted.decision)
        assert float(row["score"]) == pytest.approx(wanted.score, rel=1e-3, abs=1e-6)


def test_an_export_is_compared_on_what_is_named(run, shared_set, tmp_path):
    """A run whose data is gone is exported all the same."""
    run = run.rename(tmp_path / "옮긴 런")
    (run / "split.csv").unlink()
    output = tmp_path / "모델"
    code, text = call("export", run, "--output", output, "--images", shared_set / "dot")
    assert code == 0, text
    assert "Parity on 8 images" in text
    path = output.with_suffix(".xml")
    without = (
        "import sys, classification; classification.load(sys.argv[1]).predict(sys.argv[2]);"
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    image = next((shared_set / "dot").iterdir())
    assert subprocess.run([sys.executable, "-c", without, path, image]).returncode == 0
    assert classification.load(path).card.provenance.run == "run"
