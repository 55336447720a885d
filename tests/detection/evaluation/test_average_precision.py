"""Our AP against a plain count at every cut of the ranking, and its conventions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.evaluation.average_precision import (
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    AveragePrecision,
    average_precision,
    in_order,
    measure_average_precision,
)
from inspection.data.boxes import ImageLabels
from inspection.errors import InputError
from inspection.prediction.detections import Detections

CLASSES = ("dust", "scratch", "얼룩")


@st.composite
def boxes(draw, most):
    """Whole-pixel boxes on a small field, so that overlaps and equal IoUs are common."""
    count = draw(st.integers(0, most))
    corner = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 6)] * 2)
    found = [draw(corner) for _ in range(count)]
    return [(x, y, x + w, y + h) for x, y, w, h in found]


@st.composite
def images(draw):
    """A few images with labels, difficult ones too, and scored detections with ties."""
    labels, detections = [], []
    for index in range(draw(st.integers(1, 4))):
        truth, found = draw(boxes(5)), draw(boxes(8))
        names = st.sampled_from(CLASSES[:2])
        labels.append(
            ImageLabels(
                f"{index}.png",
                truth,
                tuple(draw(names) for _ in truth),
                [draw(st.booleans()) and draw(st.booleans()) for _ in truth],
            )
        )
        score = [draw(st.integers(0, 32)) / 32 for _ in found]
        detections.append(Detections(found, score, tuple(draw(names) for _ in found)))
    return labels, detections


def overlap(a, b):
    """IoU of two boxes, exactly."""
    x1, y1, x2, y2 = (int(edge) for edge in a)
    u1, v1, u2, v2 = (int(edge) for edge in b)
    common = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
    return Fraction(common, (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - common)


def plain_ap(labels, detections, name):
    """Counts anew for every cut of the ranking, box by box, in exact fractions."""
    ranking = [
        (float(entry.score[k]), image, k)
        for image, entry in enumerate(detections)
        for k in range(len(entry.score))
        if entry.label[k] == name and entry.score[k] > 0.05
    ]
    ranking.sort(key=lambda item: -item[0])
    total = sum(
        label == name and not hard
        for entry in labels
        for label, hard in zip(entry.label, entry.difficult, strict=True)
    )
    if not total:
        return None
    cuts = []
    for length in range(1, len(ranking) + 1):
        taken, wrong = set(), 0
        for _, image, k in ranking[:length]:
            truth = labels[image]
            best, where = Fraction(0), None
            for j, label in enumerate(truth.label):
                iou = overlap(detections[image].xyxy[k], truth.xyxy[j])
                if label == name and iou > best:
                    best, where = iou, j
            if where is None or best < Fraction(1, 2):
                wrong += 1
            elif truth.difficult[where]:
                continue
            elif (image, where) in taken:
                wrong += 1
            else:
                taken.add((image, where))
        cuts.append((len(taken), wrong))
    area = Fraction(0)
    for needed in range(1, total + 1):
        area += max((Fraction(h, h + w) for h, w in cuts if h >= needed), default=Fraction(0))
    return area / total


@settings(max_examples=150, deadline=None)
@given(images())
def test_agrees_with_a_plain_count(case):
    labels, detections = case
    result = measure_average_precision(labels, detections, CLASSES)
    expected = [plain_ap(labels, detections, name) for name in CLASSES]
    for entry, value in zip(result.classes, expected, strict=True):
        if value is None:
            assert math.isnan(entry.ap)
        else:
            assert entry.ap == pytest.approx(float(value), abs=1e-6)
    measured = [float(value) for value in expected if value is not None]
    if measured:
        assert result.mean_ap == pytest.approx(np.mean(measured), abs=1e-6)
    else:
        assert math.isnan(result.mean_ap)


@settings(deadline=None)
@given(images())
def test_perfect_detections_score_exactly_one(case):
    labels = []
    for entry in case[0]:  # two labels on one box could not both be found
        keep = sorted({tuple(box): k for k, box in enumerate(entry.xyxy.tolist())}.values())
        names = tuple(entry.label[k] for k in keep)
        labels.append(ImageLabels(entry.image, entry.xyxy[keep], names))
    perfect = [
        Detections(entry.xyxy, np.linspace(1, 0.1, len(entry.label)), entry.label)
        for entry in labels
    ]
    for entry in measure_average_precision(labels, perfect, CLASSES).classes:
        assert entry.ap == 1.0 if entry.boxes else math.isnan(entry.ap)


@settings(deadline=None)
@given(images())
def test_matches_agree_with_the_curves(case):
    result = measure_average_precision(*case, CLASSES)
    matches = result.matches
    assert (np.diff(matches.score) <= 0).all()
    true = matches.outcome == TRUE_POSITIVE
    found = matches.found_by >= 0
    assert np.count_nonzero(true) == np.count_nonzero(found)
    assert (matches.truth[matches.found_by[found]] == np.flatnonzero(found)).all()
    assert (matches.iou[true] >= 0.5).all()
    for index, entry in enumerate(result.classes):
        if entry.boxes and entry.recall.size:
            hits = np.count_nonzero(true & (matches.detection_class == index))
            assert entry.recall[-1] == hits / entry.boxes


def one(truth, found, score, **options):
    labels = ImageLabels("a.png", truth, ("dust",) * len(truth), options.pop("difficult", None))
    detections = Detections(found, score, ("dust",) * len(found))
    return measure_average_precision([labels], [detections], ["dust"], **options)


BOX, NEAR, FAR = (0, 0, 10, 10), (0, 0, 10, 8), (50, 50, 60, 60)


def test_second_hit_on_a_box_is_false():
    result = one([BOX, FAR], [BOX, NEAR, FAR], [0.9, 0.8, 0.7])
    assert result.matches.outcome.tolist() == [TRUE_POSITIVE, FALSE_POSITIVE, TRUE_POSITIVE]
    assert result.mean_ap == pytest.approx((1 + 2 / 3) / 2)


def test_difficult_boxes_count_neither_way():
    result = one([BOX, FAR], [NEAR, BOX, FAR], [0.9, 0.8, 0.7], difficult=[True, False])
    assert result.matches.outcome.tolist() == [IGNORED, IGNORED, TRUE_POSITIVE]
    assert result.classes[0].boxes == 1
    assert result.mean_ap == 1.0


def test_iou_at_the_limit_is_a_hit():
    assert one([BOX], [(0, 0, 10, 5)], [0.9]).mean_ap == 1.0
    assert one([BOX], [(0, 0, 10, 5)], [0.9], iou=0.51).mean_ap == 0.0


def test_score_at_the_limit_does_not_count():
    assert one([BOX], [BOX], [0.05]).mean_ap == 0.0
    assert one([BOX], [BOX], [0.0501]).mean_ap == 1.0


def test_only_the_highest_scores_of_an_image_count():
    assert one([BOX], [FAR, BOX], [0.9, 0.8], max_detections=1).mean_ap == 0.0
    assert one([BOX], [FAR, BOX], [0.9, 0.8], max_detections=2).mean_ap == 0.5


def test_equal_scores_keep_the_order_they_came_in():
    assert one([BOX], [BOX, FAR], [0.5, 0.5]).mean_ap == 1.0
    assert one([BOX], [FAR, BOX], [0.5, 0.5]).mean_ap == 0.5


def test_class_without_ground_truth_is_nan_and_not_in_the_mean():
    labels = [ImageLabels("a.png", [BOX], ("dust",)), ImageLabels("b.png", [], ())]
    found = [
        Detections([BOX], [0.9], ("dust",)),
        Detections([BOX], [0.9], ("scratch",)),
    ]
    result = measure_average_precision(labels, found, CLASSES)
    assert [entry.boxes for entry in result.classes] == [1, 0, 0]
    assert math.isnan(result.classes[1].ap)
    assert result.mean_ap == 1.0


def test_class_without_a_detection_is_zero():
    assert one([BOX], [], []).mean_ap == 0.0


def test_nothing_at_all_is_nan():
    assert math.isnan(AveragePrecision(["dust"]).compute().mean_ap)
    assert math.isnan(average_precision(np.zeros(3, bool), 0))
    assert math.isnan(one([], [BOX], [0.9]).mean_ap)


def test_more_may_follow_a_compute():
    metric = AveragePrecision(["dust"])
    metric.update(ImageLabels("a.png", [BOX], ("dust",)), Detections([BOX], [0.9], ("dust",)))
    assert metric.compute().mean_ap == 1.0
    metric.update(ImageLabels("b.png", [BOX], ("dust",)), Detections([], [], ()))
    assert metric.compute().mean_ap == 0.5


def test_unknown_classes_are_named_together():
    metric = AveragePrecision(["dust"])
    with pytest.raises(InputError) as caught:
        metric.update(ImageLabels("a.png", [BOX], ("crack",)), Detections([BOX], [0.9], ("chip",)))
    assert len(caught.value.problems) == 2
    assert "a.png: label 'crack'" in caught.value.problems[0]


def test_detections_by_name_are_put_in_order():
    labels = [ImageLabels("a.png", [], ()), ImageLabels("b.png", [], ())]
    one_box = Detections([BOX], [0.5], ("dust",))
    none = Detections([], [], ())
    assert in_order(labels, {"b.png": none, "a.png": one_box}) == [one_box, none]
    with pytest.raises(InputError, match=r"b\.png"):
        in_order(labels, {"a.png": none})
    with pytest.raises(InputError, match="1 detections for 2 images"):
        in_order(labels, [none])
