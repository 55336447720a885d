"""predict, compare, export and plan as they are typed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import anomaly
from anomaly.comparison.compare import Row, Targets, _evaluate_apart
from anomaly.comparison.report import roc
from anomaly.evaluation.plan import plan_lines
from anomaly.evaluation.report import trade_off
from anomaly.evaluation.scored import figures_file, scores_file
from anomaly.prediction.files import HeatPredictor
from inspection.data.images import read_image, write_image
from inspection.decisions.operating_point import OperatingPoint
from inspection.decisions.rates import Rate
from inspection.errors import InputError
from inspection.files.sheets import sheet_text
from inspection.finite import NotFinite
from inspection.prediction.folder import predict_folder
from tests.anomaly.conftest import SMALL, make_product, typed
from tests.journeys.line import on_the_line


def test_predict_writes_what_the_model_says_and_goes_on_past_bad_files(
    runs, shared_product, tmp_path
):
    folder = tmp_path / "새 그림"
    shutil.copytree(shared_product / "normal", folder / "a")
    shutil.copytree(shared_product / "얼룩", folder / "b")
    (folder / "broken.png").write_bytes(b"no image")
    from PIL import Image

    Image.new("L", (64, 64), 120).save(folder / "grey.png")
    output = tmp_path / "결과"
    status, text = typed("predict", runs / "patchcore", folder, "--output", output)
    assert status == 2, text
    assert text.count("Error:") == 2
    assert "broken.png: is no PNG" in text
    assert f"patchcore, trained on {shared_product}" in text.replace("\n", "")
    assert "grey.png: is grey (1 channel)" in text
    with (output / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["decision"] for row in rows].count("not decided") == 2
    rows = [row for row in rows if row["decision"] != "not decided"]
    assert len(rows) == 30
    model = anomaly.load(runs / "patchcore/model.anomaly")
    for row in rows[::10]:
        assert Path(row["file"]) == folder / row["image"]
        found = model.predict(row["file"])
        assert (found.decision, f"{found.score:.9g}") == (row["decision"], row["score"])
    images = [output / row["heat_map"] for row in rows]
    assert set(images) == set((output / "heat_maps").rglob("*.jpg"))
    assert len(images) == 30, "two images of one name share no heat map"
    assert read_image(images[0]).shape == (64, 64, 3)
    # The same model goes on: only what was not decided is asked again.
    times = {path: path.stat().st_mtime_ns for path in images}
    table = (output / "predictions.csv").read_bytes()
    status, text = typed("predict", runs / "patchcore", folder, "--output", output)
    assert status == 2
    assert "0 images done, 30 were done before" in text
    assert text.count("Error:") == 2
    assert (output / "predictions.csv").read_bytes() == table
    assert {path: path.stat().st_mtime_ns for path in images} == times
    status, text = typed("predict", runs / "cs-flow", folder, "--output", output)
    assert status == 2
    assert "holds results of anomaly (run patchcore" in text
    assert (output / "predictions.csv").read_bytes() == table


@pytest.mark.parametrize("aggregation", ["max", "top-2%", "area"])
def test_what_is_no_finite_number_is_a_reject(
    runs, shared_product, tmp_path, aggregation, monkeypatch
):
    """Also of `area`, which counts cells over a level: NaN is over none."""
    model = replace(anomaly.load(runs / "patchcore/model.anomaly"), aggregation=aggregation)
    paths = sorted((shared_product / "normal").iterdir())[:3]
    views = model.preparation(paths[0]).views
    nan = model.score_views(views).copy()
    nan[0, 0, 0] = np.nan
    monkeypatch.setattr(type(model.method), "weighted_features", lambda *_: (nan, None))
    with pytest.raises(NotFinite, match=r"00\.png: .* not finite"):
        model.predict(paths[0])
    result = predict_folder(HeatPredictor(model, heat_maps=False), paths, tmp_path)
    assert result.decisions == {"NG": 3}
    assert len(result.problems) == 3
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as file:
        assert [(row["decision"], row["score"]) for row in csv.DictReader(file)] == [("NG", "")] * 3


def test_weights_and_features_that_are_not_finite_are_refused(runs, shared_product, tmp_path):
    """A ReLU that runs as one with its convolution makes 0 of NaN: the outputs tell nothing."""
    model = anomaly.load(runs / "patchcore/model.anomaly")
    path = next((shared_product / "normal").iterdir())
    views = model.preparation(path).views
    kernel = next(w for w in model.method.extractor.model.weights if w.path.endswith("kernel"))
    values = np.asarray(kernel).copy()
    kernel.assign(values * 1e12)  # more than float16 holds, in which features are kept
    with pytest.raises(NotFinite):
        model.score_views(views)
    with pytest.raises(NotFinite, match=rf"{path.name}: .* not finite"):
        model.predict(path)
    values.flat[0] = np.nan
    kernel.assign(values)
    model.save(tmp_path / "nan.anomaly")
    with pytest.raises(NotFinite, match=r"nan\.anomaly: 1 of \d+ weights of"):
        anomaly.load(tmp_path / "nan.anomaly")


@pytest.mark.parametrize(("format", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_an_exported_model_decides_as_its_run(runs, shared_product, tmp_path, format, suffix):
    output = tmp_path / f"내보내기{suffix}"
    arguments = ("export", runs / "patchcore/model.anomaly", "--format", format, "--output")
    status, text = typed(*arguments, output.with_suffix(""))
    assert status == 0, text
    assert "every decision is the same" in text
    model, exported = anomaly.load(runs / "patchcore"), anomaly.load(output)
    for path in sorted((shared_product / "얼룩").iterdir())[:3]:
        wanted, found = model.predict(path), exported.predict(path)
        assert found.score == pytest.approx(wanted.score, rel=1e-3)
        assert found.decision == wanted.decision
        np.testing.assert_allclose(found.score_map, wanted.score_map, rtol=5e-3, atol=1e-3)
    # An earlier export is replaced, anything else of that name is not.
    status, text = typed(*arguments, output, "--images", shared_product / "얼룩")
    assert status == 0, text
    assert "Parity on 10 images" in text
    output.write_text("<annotation/>")
    status, text = typed(*arguments, output)
    assert status == 2
    assert "is there already" in text
    assert output.read_text() == "<annotation/>"


def test_an_exported_model_needs_no_keras(runs, shared_product, tmp_path):
    output, path = tmp_path / "모델.onnx", shared_product / "얼룩" / "00.png"
    status, text = typed("export", runs / "patchcore", "--format", "onnx", "--output", output)
    assert status == 0, text
    without = (
        "import sys, anomaly; anomaly.load(sys.argv[1]).predict(sys.argv[2]);"
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", without, output, path], check=False).returncode == 0
    )


@pytest.mark.parametrize("graph", ["model.onnx", "model.xml"])
def test_a_folder_that_an_earlier_program_exported_decides(runs, shared_product, tmp_path, graph):
    from anomaly.export.write import onnx_graph
    from inspection.export.write import write_graph

    model, path = anomaly.load(runs / "patchcore/model.anomaly"), shared_product / "얼룩" / "00.png"
    header = {
        "version": 1,
        "format": "onnx" if graph.endswith("onnx") else "openvino",
        "method": "patchcore",
        "preparation": {"size": 64, "fit": "stretch", "bits": 16},
        "aggregation": model.aggregation,
        "normal": model.normal,
        "operating_point": model.operating_point.to_dict(),
        "reference": asdict(model.reference),
    }
    (tmp_path / "model.json").write_text(json.dumps(header), encoding="utf-8")
    write_graph(onnx_graph(model), tmp_path / graph, model.card)
    wanted, found = model.predict(path), anomaly.load(tmp_path).predict(path)
    assert found.score == pytest.approx(wanted.score, rel=1e-3)
    assert found.decision == wanted.decision
    status, text = typed("predict", tmp_path, path, "--output", tmp_path / "결과")
    assert status == 0, text
    (tmp_path / "model.json").write_text(json.dumps(header | {"version": 2}), encoding="utf-8")
    with pytest.raises(InputError, match="of version 2"):
        anomaly.load(tmp_path)


def test_a_pc_on_the_line_decides_without_tensorflow(runs, shared_product, tmp_path):
    status, text = typed("export", runs / "patchcore", "--output", tmp_path / "모델.xml")
    assert status == 0, text
    images, out = sorted((shared_product / "normal").iterdir())[:2], tmp_path / "결과"
    text = on_the_line("anomaly", "predict", tmp_path / "모델.xml", *images, "--output", out)
    assert "run patchcore, patchcore, trained on" in " ".join(text.split())
    model = anomaly.load(runs / "patchcore/model.anomaly")
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        for row, path in zip(csv.DictReader(file), images, strict=True):
            wanted = model.predict(path)
            assert row["decision"] == wanted.decision
            assert float(row["score"]) == pytest.approx(wanted.score, rel=1e-3)
    # The folder is the exported model's: its run does not write there.
    status, text = typed("predict", runs / "patchcore", *images, "--output", out)
    assert status == 2
    assert "--restart" in text


def test_an_export_that_scores_otherwise_is_refused(runs, tmp_path, monkeypatch):
    from anomaly.methods.patchcore import PatchCore

    right = PatchCore.weighted_graph

    def wrong(*given):
        scores, weights = right(*given)
        return scores * 1.01, weights

    monkeypatch.setattr(PatchCore, "weighted_graph", wrong)
    status, text = typed("export", runs / "patchcore", "--output", tmp_path / "x")
    assert status == 2
    assert "Nothing was exported" in text
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_compare_writes_table_and_page_and_goes_on_past_a_method_that_fails(
    shared_product, tmp_path, monkeypatch
):
    from anomaly.methods.pooled import OneClassSVM

    def fails(*given):
        raise InputError("oc-svm: cannot do this")

    monkeypatch.setattr(OneClassSVM, "learn", fails)
    monkeypatch.setattr(
        "anomaly.comparison.compare._evaluate_apart", lambda run: typed("evaluate", run)
    )
    other = make_product(tmp_path / "둘째", normals=14, defects=6)
    command = (
        *("compare", shared_product, other, "--methods", "padim,oc-svm"),
        *("--runs", tmp_path, "--name", "비교", "--target-ms", "100000", "--target-mb", "0.1"),
        *SMALL,
    )
    status, text = typed(*command)
    assert status == 2, text
    assert "oc-svm: cannot do this" in text
    folder = tmp_path / "비교"
    with (folder / "compare.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["padim", "oc-svm"] * 2
    assert {row["product"] for row in rows} == {shared_product.name, "둘째"}
    assert rows[1]["verdict"] == "failed to run"
    assert rows[0]["verdict"] == "fail"
    assert "size" in rows[0]["why"]
    figures = json.loads(figures_file(Path(rows[0]["run"])).read_text(encoding="utf-8"))
    assert float(rows[0]["auroc"]) == pytest.approx(figures["auroc"], abs=1e-5)
    page = (folder / "compare.html").read_text(encoding="utf-8")
    assert page.count("<article") >= 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    # What is there is not trained again.
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("model.anomaly")}
    typed(*command)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("model.anomaly")} == times


def test_a_model_is_measured_apart_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(InputError, match="is no run"):
        _evaluate_apart(tmp_path)


def test_compare_takes_the_backbone_that_stands_there_and_new_images_as_such(
    runs, shared_product, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "anomaly.comparison.compare._evaluate_apart", lambda run: typed("evaluate", run)
    )
    again, data = tmp_path / "again", tmp_path / shared_product.name
    shutil.copytree(runs, again)
    shutil.copytree(shared_product, data)
    command = ("compare", data, "--methods", "isolation-forest", "--runs", again, *SMALL)
    status, text = typed(*command)
    assert status == 0, text
    assert "Backbone trained before on these images" in text
    assert not list((again / "compare").rglob("*.keras"))
    run = again / f"compare/{data.name}-isolation-forest"
    first = [
        (run / name).stat().st_mtime_ns
        for name in ("model.anomaly", "evaluation_test/evaluation.json")
    ]
    with scores_file(run).open(encoding="utf-8") as file:
        image = data / next(csv.DictReader(file))["image"]
    write_image(image, 255 - read_image(image))  # under the same name
    status, text = typed(*command)
    assert status == 0, text
    assert "trained before with these settings" not in text
    second = [
        (run / name).stat().st_mtime_ns
        for name in ("model.anomaly", "evaluation_test/evaluation.json")
    ]
    assert all(old < new for old, new in zip(first, second, strict=True))


def row(miss: tuple[int, int], overkill: tuple[int, int], mb: float = 10) -> Row:
    figures = {"model_mb": mb, "ms_p95": 50.0}
    for name, (count, total), of in (
        ("miss", miss, "defects"),
        ("overkill", overkill, "normal images"),
    ):
        figures[name] = Rate(count, total, of).to_dict()
    return Row("p", "m", Path(), figures)


def test_verdicts():
    targets = Targets(0.005, 0.3, 400, 100)
    assert row((0, 598), (0, 2000)).verdict(targets) == ("pass", "")
    verdict, why = row((0, 100), (20, 100)).verdict(targets)
    assert verdict == "pass, not shown"
    assert "498 more defects would show miss" in why
    assert row((1, 100), (0, 100)).verdict(targets) == ("fail", "miss 1.00 %")
    assert row((0, 598), (0, 2000), 500).verdict(targets) == ("fail", "size 500 MB")
    assert row((0, 0), (0, 100)).verdict(targets)[0] == "fail"
    assert Row("p", "m", Path(), {}, problems=("x",)).verdict(targets) == ("failed to run", "x")


def test_curves_are_scikit_learns():
    from sklearn.metrics import auc, precision_recall_curve, roc_curve

    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + truth, 1)  # with ties
    false, found, precision = roc(scores, truth)
    wanted = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, wanted[0])
    np.testing.assert_allclose(found, wanted[1])
    assert auc(false, found) == pytest.approx(auc(*wanted[:2]))
    theirs, recall, _ = precision_recall_curve(truth, scores)
    np.testing.assert_allclose(precision[1:], theirs[::-1][1:])
    np.testing.assert_allclose(found[1:], recall[::-1][1:])


def test_plan_tells_what_a_test_needs(runs):
    status, text = typed("plan", "--target-miss", "0.005")
    assert status == 0
    assert "598 with 0" in " ".join(text.split())
    status, text = typed("plan", runs / "patchcore")
    assert status == 0
    assert "Measured miss" in text
    assert typed("plan", "--target-miss", "2")[0] == 2
    assert typed("plan", "absent")[0] == 2
    shown = plan_lines(0.05, 0.05, Rate(0, 100, "defects"), Rate(0, 10, "normal images"))
    assert any("That shows 5.00 %" in line for line in shown)
    assert any("49 more normal images" in line for line in shown)


def test_unknown_names_are_told_together(shared_product, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, text = typed("compare", shared_product, "--methods", "patchcor,cfo")
    assert status == 2
    assert text.count("is unknown") == 2
    status, text = typed("compare", shared_product, "--profile", "gpu")
    assert status == 2
    assert "cpu or paper" in text
    status, text = typed("compare", shared_product, shared_product)
    assert status == 2
    assert "twice" in text
    assert not list(tmp_path.iterdir())


def test_evaluate_leaves_a_page_that_stands_alone(runs, tmp_path):
    run = shutil.copytree(runs / "patchcore", tmp_path / "run")
    test = run / "evaluation_test/evaluation.html"
    page = test.read_text(encoding="utf-8")
    for word in ("Trade-off", "Worst misses", "heat map: ", "Miss rate", "SHA-256", "rule"):
        assert word in page
    assert "얼룩" in page
    assert 'src="http' not in page
    assert page.count("data:image/png") == 1, "the histogram"
    assert page.count("data:image/jpeg") >= 2, "an image and its map"
    status, text = typed("evaluate", run, "--split", "val")
    assert status == 0, text
    assert str(run / "evaluation_val/evaluation.html") in text
    assert test.read_text(encoding="utf-8") == page


def test_the_trade_off_gives_the_least_overkill_for_each_miss_rate():
    scores = np.array([0.1, 0.3, 0.5, 0.7, 0.2, 0.6, 0.8, 0.9])
    is_defect = np.array([0, 0, 0, 0, 1, 1, 1, 1], bool)
    point = OperatingPoint(0.55, "by hand", float("nan"), Rate(0, 0), Rate(0, 0))
    rows = trade_off(scores, is_defect, point)
    found = [
        (row["allowed"], row["threshold"], row["miss"].count, row["overkill"].count) for row in rows
    ]
    assert found == [(0.0, 0.2, 0, 3), (None, 0.55, 1, 1)]
    many = np.concatenate([scores, np.linspace(1, 2, 16)])
    rows = trade_off(many, np.concatenate([is_defect, np.ones(16, bool)]), point)
    assert [(row["allowed"], row["miss"].count) for row in rows if row["allowed"]] == [
        (0.05, 1),
        (0.1, 2),
        (0.2, 4),
    ]
    assert [row["allowed"] for row in trade_off(scores[:4], is_defect[:4], point)] == [None]


def test_names_that_are_not_utf8_are_refused_before_anything_is_scored(
    runs, shared_product, tmp_path
):
    folder, output = tmp_path / "새 그림", tmp_path / "결과"
    shutil.copytree(shared_product / "normal", folder)
    bad = Path(os.fsdecode(os.fsencode(folder) + b"/\xb1\xdc.png"))
    bad.write_bytes((folder / "00.png").read_bytes())
    for path in (folder, bad):
        status, text = typed("predict", runs / "patchcore", path, "--output", output)
        assert status == 2
        assert "1 name is not UTF-8" in text
    assert not output.exists()


def test_scores_of_names_like_formulas_are_read_back(tmp_path):
    from anomaly.evaluation.scored import read_scores

    path = tmp_path / "scores.csv"
    for header in ("image,truth,score,decision", "image,kind,decision,score"):  # now, and before
        row = {"image": "=a.png", "decision": "NG", "score": "-0.5"}
        row |= {"truth": "-crack", "kind": "-crack"}
        names = header.split(",")
        rows = [names, [row[name] for name in names]]
        path.write_text(sheet_text(rows), encoding="utf-8")
        assert "'=a.png,'-crack," in path.read_text(encoding="utf-8")
        found = read_scores(path)
        assert (found.images, found.kinds) == (["=a.png"], ["-crack"])
        assert (found.scores.tolist(), found.decisions) == ([-0.5], ["NG"])
