"""Tables, decisions, confusion and the report of a small known case."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from benchmarks.evaluate_5000 import CLASSES, simulate
from detection.evaluation.measure import (
    choose_operating_point,
    evaluate_detections,
)
from detection.evaluation.report import (
    print_evaluation,
    worst_false_alarms,
    worst_misses,
    write_report,
)
from inspection.data.boxes import ImageLabels
from inspection.decisions.operating_point import OperatingPoint, choose_threshold, fixed_threshold
from inspection.decisions.rates import Rate
from inspection.errors import InputError
from inspection.prediction.detections import Detections

A, B, C = (10, 10, 40, 40), (60, 10, 90, 40), (10, 60, 40, 90)
NAMES = ("dust", "긁힘 <b>", "chip")


def known_case():
    """Four images at threshold .5: found and taken for another, escaped, overkill, right."""
    labels = [
        ImageLabels("both.png", [A, B], ("dust", "긁힘 <b>")),
        ImageLabels("불량/escape.png", [A], ("dust",)),
        ImageLabels("overkill.png", [], ()),
        ImageLabels("clean.png", [], ()),
    ]
    found = [
        Detections([A, B, C], [0.9, 0.8, 0.7], ("dust", "dust", "dust")),
        Detections([A], [0.3], ("dust",)),
        Detections([C], [0.6], ("긁힘 <b>",)),
        Detections([], [], ()),
    ]
    return labels, found


def evaluated(**options):
    return evaluate_detections(*known_case(), NAMES, fixed_threshold(0.5), **options)


def test_table_of_the_known_case():
    dust, scratch, chip = evaluated().classes
    assert (dust.images, dust.boxes, dust.true_positives, dust.false_positives) == (2, 2, 1, 2)
    assert (dust.precision, dust.recall, dust.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert dust.ap == pytest.approx((1 + 2 / 4) / 2)
    assert dust.missed_images == Rate(1, 2, "images with dust")
    assert (scratch.ap, scratch.recall, scratch.f1) == (0.0, 0.0, 0.0)
    assert math.isnan(chip.ap)
    assert math.isnan(chip.f1)
    assert evaluated().mean_ap == pytest.approx(dust.ap / 2)


def test_decisions_of_the_known_case():
    evaluation = evaluated()
    assert [entry.decision for entry in evaluation.images] == ["NG", "OK", "NG", "OK"]
    assert [entry.score for entry in evaluation.images] == pytest.approx([0.9, 0.3, 0.6, 0.0])
    assert evaluation.miss == Rate(1, 2, "defective images")
    assert evaluation.overkill == Rate(1, 2, "normal images")
    assert (evaluation.accuracy.count, evaluation.accuracy.total) == (2, 4)
    first = evaluation.images[0]
    assert (first.boxes, first.found, first.missed, first.false_alarms) == (2, 1, 1, 2)


def test_confusion_of_the_known_case():
    # truth by row: dust, scratch, chip, background
    assert evaluated().confusion.tolist() == [
        [1, 0, 0, 1],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 0],
    ]


def test_confusion_adds_up_to_the_table():
    labels, found = simulate(60, 30)
    evaluation = evaluate_detections(labels, found, CLASSES, fixed_threshold(0.4))
    for index, row in enumerate(evaluation.classes):
        assert evaluation.confusion[index].sum() == row.boxes
        assert evaluation.confusion[index, index] == row.true_positives
        predicted = row.true_positives + row.false_positives
        assert evaluation.confusion[:, index].sum() == predicted


def test_threshold_under_the_ap_floor_still_counts_its_boxes():
    labels = [ImageLabels("a.png", [A], ("dust",))]
    found = [Detections([A], [0.04], ("dust",))]
    evaluation = evaluate_detections(labels, found, ("dust",), fixed_threshold(0.03))
    assert evaluation.mean_ap == 0.0
    assert evaluation.classes[0].recall == 1.0
    assert evaluation.images[0].found == 1


def test_difficult_image_is_neither_defective_nor_normal():
    labels = [ImageLabels("a.png", [A], ("dust",), [True])]
    found = [Detections([A], [0.9], ("dust",))]
    evaluation = evaluate_detections(labels, found, ("dust",))
    assert (evaluation.miss.total, evaluation.overkill.total) == (0, 0)
    assert evaluation.images[0].truth == "difficult"
    assert evaluation.confusion.sum() == 0


def test_review_band_is_counted_apart():
    point = OperatingPoint(
        0.5, "band", math.nan, Rate(0, 5), Rate(0, 5), review_threshold=0.2, review=Rate(1, 10)
    )
    evaluation = evaluate_detections(*known_case(), NAMES, point)
    assert [entry.decision for entry in evaluation.images] == ["NG", "review", "NG", "OK"]
    assert evaluation.miss.count == 0
    assert evaluation.review == Rate(1, 4)
    assert (evaluation.accuracy.count, evaluation.accuracy.total) == (2, 3)


def test_notes_say_what_a_reader_must_know():
    labels, found = known_case()
    assert "nobody calibrated" in evaluate_detections(labels, found, NAMES).notes[0]
    point = choose_operating_point(labels, found)
    notes = " ".join(evaluate_detections(labels, found, NAMES, point).notes)
    assert "chosen on these very images" in notes
    assert "598" in notes
    assert "No boxes of chip" in notes


def test_images_of_one_part_widen_the_interval():
    groups = {"both.png": "1", "불량/escape.png": "1", "overkill.png": "2", "clean.png": "3"}
    evaluation = evaluated(groups=groups)
    low, high = evaluation.miss.interval
    assert evaluation.miss_by_part[0] <= low
    assert evaluation.miss_by_part[1] >= high


def test_worst_come_first():
    misses = worst_misses(evaluated())
    assert [(fault.image, fault.whole) for fault in misses] == [(1, True), (0, False)]
    assert "best score on it 0.30" in misses[0].text
    assert "taken for dust 0.80" in misses[1].text
    alarms = worst_false_alarms(evaluated())
    assert [(fault.image, fault.whole) for fault in alarms] == [(2, True), (0, False)]
    assert "nothing is labelled there" in alarms[0].text
    assert "a box of 긁힘 <b>" in alarms[1].text


def printed(evaluation, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_evaluation(evaluation, console)
    return console.file.getvalue()


def test_printed_lines_are_the_known_ones():
    text = printed(evaluated())
    assert "\n2 instances of class dust with average precision: 0.7500\n" in text
    assert "\n1 instances of class 긁힘 <b> with average precision: 0.0000\n" in text
    assert "\nno boxes of class chip: average precision not measurable\n" in text
    assert "\nmAP: 0.3750\n" in text
    assert "miss rate: 1 of 2 defective images: 50.0 % (95 %:" in text
    assert "overkill rate: 1 of 2 normal images" in text
    assert "…" not in text.split("mAP:")[0]


def test_printing_without_normal_images_and_with_markup_in_a_name():
    labels = [ImageLabels("a.png", [A], ("[red]",))]
    found = [Detections([A], [0.9], ("[red]",))]
    text = printed(evaluate_detections(labels, found, ("[red]",)))
    assert "1 instances of class [red] with average precision: 1.0000" in text
    assert "overkill rate: not measurable (0 normal images)" in text
    assert "0.0 %" not in text


def read_grey(name):
    return np.full((100, 100, 3), 128, np.uint8)


def test_figures_never_stand_beside_another_evaluations_table(tmp_path, monkeypatch):
    write_report(evaluated(), tmp_path, read_grey, settings={})

    def full(path, text):
        raise OSError("no space left")

    monkeypatch.setattr("inspection.report.evaluation.write_text_atomic", full)
    with pytest.raises(OSError, match="no space"):
        write_report(evaluated(), tmp_path, read_grey, settings={})
    assert not (tmp_path / "evaluation.json").exists()


def test_written_files(tmp_path):
    folder = tmp_path / "평가"
    report = write_report(evaluated(prevalence=0.01), folder, read_grey, settings={"size": 900})
    assert report == folder / "evaluation.html"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "evaluation.json",
        "images.csv",
        "pr_curves.png",
        "score_histogram.png",
        "confusion_matrix.png",
        "evaluation.html",
    }
    metrics = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert metrics["classes"][2]["ap"] is None
    assert metrics["miss"]["count"] == 1
    assert metrics["settings"] == {"size": 900}
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows][1] == "불량/escape.png"
    assert rows[0]["missed"] == "1"
    assert rows[3]["decision"] == "OK"


def test_report_stands_alone_and_escapes(tmp_path):
    evaluation = evaluated()
    settings = {"title": "<i>Run</i>", "anchors": {"sizes": [24, 48]}, "seed": None}
    page = write_report(evaluation, tmp_path, read_grey, settings=settings)
    page = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in re.sub(r"data:[^\"]*", "", page)
    assert "긁힘 &lt;b&gt;" in page
    assert "긁힘 <b>" not in page
    assert "<i>Run</i>" not in page
    assert page.index("Worst misses") < page.index("Worst false alarms") < page.index("Per class")
    assert page.index("불량/escape.png") < page.index("overkill.png")
    assert evaluation.data_hash in page
    assert "sizes 24, 48" in page
    assert "0.5: NG at this score or over it" in page
    assert np.__version__ in page


def test_unreadable_image_does_not_cost_the_report(tmp_path):
    def fails(name):
        raise InputError(f"{name}: the file is gone.")

    page = write_report(evaluated(), tmp_path, fails).read_text(encoding="utf-8")
    assert "불량/escape.png: the file is gone." in page


def test_report_of_nothing_wrong_and_of_nothing_at_all(tmp_path):
    labels = [ImageLabels("a.png", [A], ("dust",)), ImageLabels("b.png", [], ())]
    found = [Detections([A], [0.9], ("dust",)), Detections([], [], ())]
    point = choose_threshold([0.1, 0.9], [False, True], "review-band")
    page = write_report(
        evaluate_detections(labels, found, ("dust",), point), tmp_path / "right", read_grey
    ).read_text(encoding="utf-8")
    assert "No box was missed" in page
    assert "There was no false alarm" in page
    empty = evaluate_detections([], [], ("dust",))
    assert "mAP: not measurable (no boxes)" in printed(empty)
    page = write_report(empty, tmp_path / "empty", read_grey).read_text(encoding="utf-8")
    assert "not measurable" in page


def test_many_faults_are_limited(tmp_path):
    labels, found = simulate(80, 20)
    evaluation = evaluate_detections(labels, found, CLASSES, fixed_threshold(0.7))
    assert min(len(worst_misses(evaluation)), len(worst_false_alarms(evaluation))) > 24

    def read(name):
        return np.full((900, 900, 3), 128, np.uint8)

    page = write_report(evaluation, tmp_path, read).read_text(encoding="utf-8")
    assert page.count('<article class="card">') == 48
