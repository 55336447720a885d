"""COCO figures: both engines agree, and known answers come out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.evaluate_5000 import CLASSES, simulate
from detection.evaluation.coco import coco_metrics
from inspection.data.boxes import ImageLabels
from inspection.errors import InputError
from inspection.prediction.detections import Detections

ENGINES = ("pycocotools", "faster-coco-eval")


def needs(engine):
    if engine == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")


@pytest.mark.parametrize("seed", [0, 1])
def test_engines_agree(seed):
    needs("faster-coco-eval")
    labels, detections = simulate(40, 30, seed)
    rng = np.random.default_rng(seed)
    labels = [
        ImageLabels(entry.image, entry.xyxy, entry.label, rng.random(len(entry.label)) < 0.1)
        for entry in labels
    ]
    ours, other = (coco_metrics(labels, detections, CLASSES, name) for name in ENGINES)
    for figure in ("ap50", "ap75", "ap"):
        np.testing.assert_allclose(getattr(ours, figure), getattr(other, figure), atol=1e-9)
    assert 0.3 < ours.mean_ap < ours.mean_ap50 < 1


@pytest.mark.parametrize("engine", ENGINES)
def test_perfect_detections_score_one_also_in_the_first_class(engine, capfd):
    needs(engine)
    labels = [
        ImageLabels("a.png", [[0, 0, 10, 10], [20, 20, 60, 70]], ("first", "second")),
        ImageLabels("b.png", [], ()),
    ]
    found = [
        Detections(labels[0].xyxy, [0.9, 0.8], labels[0].label),
        Detections([], [], ()),
    ]
    metrics = coco_metrics(labels, found, ("first", "second", "none"), engine)
    assert metrics.ap[:2] == pytest.approx((1, 1))
    assert np.isnan(metrics.ap[2])
    assert (metrics.mean_ap, metrics.mean_ap50, metrics.mean_ap75) == pytest.approx((1, 1, 1))
    assert metrics.engine == engine
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_overlap_decides_which_ious_count(engine):
    needs(engine)
    labels = [ImageLabels("a.png", [[0, 0, 100, 100]], ("dust",))]
    found = [Detections([[0, 0, 100, 72]], [0.9], ("dust",))]
    metrics = coco_metrics(labels, found, ("dust",), engine)
    assert metrics.ap50 == pytest.approx((1,))
    assert metrics.ap75 == pytest.approx((0,))
    assert metrics.ap == pytest.approx((0.5,))  # .5, .55, .6, .65, .7 of ten


@pytest.mark.parametrize("engine", ENGINES)
def test_difficult_boxes_count_neither_way(engine):
    needs(engine)
    labels = [ImageLabels("a.png", [[0, 0, 9, 9], [20, 20, 60, 70]], ("dust",) * 2, [True, False])]
    found = [Detections(labels[0].xyxy, [0.9, 0.8], ("dust",) * 2)]
    assert coco_metrics(labels, found, ("dust",), engine).ap == pytest.approx((1,))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_detection_is_zero_and_no_box_is_nan(engine):
    needs(engine)
    nothing = Detections([], [], ())
    labels = [ImageLabels("a.png", [[0, 0, 9, 9]], ("dust",))]
    assert coco_metrics(labels, [nothing], ("dust",), engine).ap == (0.0,)
    labels = [ImageLabels("a.png", [], ())]
    assert np.isnan(coco_metrics(labels, [nothing], ("dust",), engine).mean_ap)
    assert np.isnan(coco_metrics([], [], ("dust",), engine).mean_ap)


def test_unknown_engine_and_class_are_refused():
    labels = [ImageLabels("a.png", [[0, 0, 9, 9]], ("dust",))]
    found = [Detections([], [], ())]
    with pytest.raises(InputError, match="engine 'other'"):
        coco_metrics(labels, found, ("dust",), "other")
    with pytest.raises(InputError, match=r"a\.png: label 'dust'"):
        coco_metrics(labels, found, ("crack",))
