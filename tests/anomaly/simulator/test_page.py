"""The simulator: figures by hand, its page by AppTest, a watched folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import anomaly
from anomaly.evaluation.scored import Scored, read_scores, scores_file
from anomaly.simulator.figures import FolderWatch, Simulation, chosen_by_hand, relabel_csv
from inspection.data.images import encode_image
from inspection.errors import InputError
from inspection.finite import NotFinite
from inspection.training.run import MODEL


def scored(scores, truth) -> Scored:
    kinds = ["crack" if one else "normal" for one in truth]
    return Scored(
        [f"{i}.png" for i in range(len(kinds))], kinds, ["OK"] * len(kinds), np.array(scores, float)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_figures_are_a_plain_count(rows, one, other):
    review, threshold = min(one, other), max(one, other)
    simulation = Simulation(scored(*zip(*rows, strict=True)))
    found = simulation.figures(review, threshold)
    wanted = np.zeros((2, 3), int)
    for score, is_defect in rows:
        decision = 2 if score >= threshold else 1 if score >= review else 0
        wanted[int(is_defect), decision] += 1
    np.testing.assert_array_equal(found.table, wanted)
    assert (found.miss.count, found.miss.total) == (wanted[1, 0], wanted[1].sum())
    assert (found.overkill.count, found.overkill.total) == (wanted[0, 2], wanted[0].sum())
    assert found.accuracy.count == wanted[0, 0] + wanted[1, 2]
    assert found.review.count == wanted[:, 1].sum()
    assert sum(c.sum() for c in simulation.histogram()) == len(rows)
    for bar in range(60):
        for defects in (False, True):
            assert len(simulation.in_bar(bar, defects)) == simulation.histogram()[defects][bar]


def test_the_line_counts_what_has_passed():
    simulation = Simulation(scored([0.1, 0.9, 0.2, 0.8], [0, 1, 1, 0]))
    counts = [int(simulation.figures(0.5, 0.5, seen).table.sum()) for seen in range(5)]
    assert counts == [0, 1, 2, 3, 4]
    assert sorted(simulation.order) == [0, 1, 2, 3]


def test_the_worst_come_first_and_the_nearest_are_ambiguous():
    simulation = Simulation(scored([0.1, 0.4, 0.9, 0.7, 0.5, 0.05], [1, 1, 0, 0, 1, 0]))
    assert simulation.worst(0.5, 0.5).tolist() == [0, 1, 2, 3]
    assert simulation.ambiguous(0.45, 0.55, 3).tolist() == [4, 1, 3]
    text = relabel_csv(simulation.scored, [4, 1], ["normal", ""])
    assert text.splitlines()[1:] == ["4.png,crack,0.5,normal", "1.png,crack,0.4,"]


def test_an_operating_point_by_hand_is_measured_on_calibration():
    calibration = scored([0.1, 0.2, 0.7, 0.8, 0.5], [0, 0, 0, 1, 1])
    point = chosen_by_hand(calibration, 0.4, 0.6, None)
    assert (point.miss.count, point.overkill.count, point.review.count) == (0, 1, 1)
    assert [point.decide(value) for value in (0.3, 0.4, 0.6)] == ["OK", "review", "NG"]
    assert chosen_by_hand(calibration, 0.6, 0.6, None).review_threshold is None


def script(run: str, watch: str | None = None) -> None:
    from pathlib import Path

    from anomaly.simulator.page import page

    page(Path(run), Path(watch) if watch else None)


def page_of(run: Path, watch: Path | None = None) -> AppTest:
    arguments = {"run": str(run), "watch": str(watch) if watch else None}
    test = AppTest.from_function(script, kwargs=arguments, default_timeout=60).run()
    assert not test.exception, test.exception
    return test


@pytest.fixture
def run(runs, tmp_path) -> Path:
    return shutil.copytree(runs / "patchcore", tmp_path / "run")


def test_moving_the_threshold_changes_every_figure_and_can_be_saved(run):
    test = page_of(run)
    simulation = Simulation(read_scores(scores_file(run)))
    test.slider(key="threshold").set_value(float(simulation.scores.max() + 0.001)).run()
    assert test.metric[0].value == "100 %"
    test.slider(key="threshold").set_value(float(simulation.scores.min())).run()
    assert test.metric[1].value == "100 %"
    middle = float(np.median(simulation.scores))
    test.slider(key="threshold").set_value(middle).run()
    test.button(key="save").click().run()
    assert not test.exception
    point = anomaly.load(run / MODEL).operating_point
    assert point.threshold == pytest.approx(middle, rel=0.01)
    assert "simulator" in point.rule
    assert page_of(run).slider(key="threshold").value == pytest.approx(point.threshold)


def test_saving_can_be_undone(run):
    before = anomaly.load(run / MODEL).operating_point
    test = page_of(run)
    assert test.button(key="undo").disabled
    for share in (0.3, 0.6):
        slider = test.slider(key="threshold")
        slider.set_value(slider.min + share * (slider.max - slider.min)).run()
        test.button(key="save").click().run()
    first = test.slider(key="threshold").value
    for _ in range(2):
        test.button(key="undo").click().run()
        assert not test.exception
    assert test.slider(key="threshold").value != first
    assert test.slider(key="threshold").value == pytest.approx(before.threshold)
    assert anomaly.load(run / MODEL).operating_point.to_dict() == before.to_dict()
    assert test.button(key="undo").disabled


def test_a_saved_relabel_queue_can_be_undone(run):
    (run / "relabel.csv").write_text("mine\n", encoding="utf-8")
    test = page_of(run)
    test.session_state["views"] = "Relabel queue"
    test.run()
    test.button(key="save_relabel").click().run()
    assert (run / "relabel.csv").read_text(encoding="utf-8") != "mine\n"
    test.button(key="undo_relabel").click().run()
    assert (run / "relabel.csv").read_text(encoding="utf-8") == "mine\n"


def test_tables_of_cases_show_the_images(run):
    test = page_of(run)
    slider = test.slider(key="threshold")
    slider.set_value(slider.max).run()
    tables = [one.value for one in test.dataframe if "preview" in one.value]
    assert len(tables) == 1
    assert all(one.startswith("data:image/jpeg") for one in tables[0]["preview"])
    test.session_state["views"] = "Relabel queue"
    test.run()
    queue = next(one.value for one in test.dataframe if "new label" in one.value)
    assert all(one.startswith("data:image/jpeg") for one in queue["preview"])


def test_nothing_is_said_of_review_while_there_is_no_band(run):
    test = page_of(run)
    assert [one.label for one in test.metric] == ["Miss", "Overkill", "Accuracy"]
    assert not any("review" in one.value for one in test.dataframe)
    test.toggle(key="has_band").set_value(True).run()
    assert [one.label for one in test.metric] == ["Miss", "Overkill", "Accuracy", "Review"]
    assert any("review" in one.value for one in test.dataframe)


def test_a_run_that_is_trained_again_shows_its_own_maps(run, shared_product):
    from anomaly.simulator.watch import pictures

    path = next((shared_product / "normal").iterdir())
    first = pictures(run, path)[1]
    model = anomaly.load(run / MODEL)
    replace(model, normal=(-9.0, -8.0)).save(run / MODEL)
    record = (run / "record.json").read_text(encoding="utf-8")
    (run / "record.json").write_text(record + "\n", encoding="utf-8")
    assert (pictures(run, path)[1] != first).any()


def test_a_review_band_opens_under_the_threshold(run):
    test = page_of(run)
    test.toggle(key="has_band").set_value(True).run()
    assert not test.exception
    low, high = test.slider(key="band").value
    assert low < high
    test.toggle(key="has_band").set_value(False).run()
    assert test.slider(key="threshold").value == pytest.approx(high)


def test_a_rule_moves_the_threshold(run):
    test = page_of(run)
    test.slider(key="threshold").set_value(float(test.slider(key="threshold").max)).run()
    test.selectbox(key="rule").set_value("normal-quantile").run()
    test.number_input(key="target_overkill").set_value(50.0).run()
    test.button(key="use_rule").click().run()
    assert not test.exception
    calibration = read_scores(run / "calibration.csv")
    normals = calibration.scores[~calibration.is_defect]
    threshold = test.slider(key="threshold").value
    assert (normals >= threshold).mean() == pytest.approx(0.5, abs=0.2)


def test_the_line_starts_and_stops_and_the_queue_is_kept(run):
    test = page_of(run)
    test.button(key="start").click().run()
    assert test.session_state["position"] >= 1
    test.button(key="stop").click().run()
    assert not test.session_state["playing"]
    test.button(key="rewind").click().run()
    assert test.session_state["position"] == 0
    test.session_state["views"] = "Relabel queue"
    test.run()
    test.button(key="save_relabel").click().run()
    assert (run / "relabel.csv").read_text(encoding="utf-8").startswith("image,kind,score,new_kind")


def test_a_run_that_was_not_measured_says_so(run):
    scores_file(run).unlink()
    test = page_of(run)
    assert "python -m anomaly evaluate" in test.error[0].value


def test_half_written_images_are_left_until_they_are_whole(tmp_path):
    watch = FolderWatch(tmp_path / "새 폴더")
    assert watch.look() == []
    watch.folder.mkdir()
    content = encode_image(np.full((40, 40, 3), 99, np.uint8), ".png")
    half = watch.folder / "부품.png"
    half.write_bytes(content[: len(content) // 2])
    assert [watch.look() for _ in range(4)] == [[]] * 4
    half.write_bytes(content)
    (watch.folder / "b.png").write_bytes(content)
    seen = [path.name for _ in range(4) for path in watch.look()]
    assert sorted(seen) == ["b.png", "부품.png"]
    (watch.folder / "never.png").write_bytes(b"no image")
    assert all(watch.look() == [] for _ in range(40))
    assert len(watch.problems) == 1
    assert "never.png" in watch.problems[0]
    bad = os.fsdecode(os.fsencode(watch.folder) + b"/\xb1\xdc.png")
    Path(bad).write_bytes(content)
    assert all(watch.look() == [] for _ in range(4))
    assert len(watch.problems) == 2
    assert "1 name is not UTF-8" in watch.problems[1]


def test_the_page_watches_a_folder(run, shared_product, tmp_path):
    folder = tmp_path / "새 그림"
    folder.mkdir()
    shutil.copy(next((shared_product / "normal").iterdir()), folder / "a.png")
    test = page_of(run, folder)
    test.run()
    assert sum(int(metric.value) for metric in test.metric) == 1


def test_no_image_cannot_be_simulated():
    with pytest.raises(InputError, match="no image"):
        Simulation(scored([], []))


def test_a_watched_image_without_a_finite_score_is_rejected(tmp_path):
    from anomaly.simulator.watch import score_of

    class Broken:
        def __init__(self, error: InputError) -> None:
            self.error = error

        def predict(self, path):
            raise self.error

    problems = []
    assert score_of(Broken(NotFinite("a.png: NaN")), tmp_path / "a.png", problems) == np.inf
    assert score_of(Broken(InputError("b.png: is grey")), tmp_path / "b.png", problems) is None
    assert problems == ["a.png: NaN", "b.png: is grey"]
