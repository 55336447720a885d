"""Which threshold a validation part leads to, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest

from detection.evaluation.threshold import BEST_F1, choose_operating_point, truth_of
from detection.models.decision import image_score
from inspection.data.boxes import ImageLabels, labels_hash
from inspection.errors import InputError
from inspection.prediction.detections import Detections

BOX, FAR = (0, 0, 10, 10), (50, 50, 60, 60)
NORMAL = ImageLabels("n.png", [], ())
NOTHING = Detections([], [], ())


def defective(name="d.png", difficult=None):
    return ImageLabels(name, [BOX], ("dust",), difficult)


def found(*scores, boxes=None):
    return Detections(boxes or [BOX] * len(scores), scores, ("dust",) * len(scores))


def test_image_score_is_the_highest_box_score():
    assert image_score(found(0.2, 0.75)) == 0.75
    assert image_score(NOTHING) == 0.0


def test_truth_of_an_image():
    assert truth_of(NORMAL) == "normal"
    assert truth_of(defective()) == "defective"
    assert truth_of(defective(difficult=[True])) == "difficult"


def test_hash_sees_boxes_and_names_but_not_the_order():
    other = ImageLabels("d.png", [FAR], ("dust",))
    assert labels_hash([NORMAL, defective()]) == labels_hash([defective(), NORMAL])
    assert labels_hash([defective()]) != labels_hash([other])
    assert labels_hash([defective()]) != labels_hash([defective(difficult=[True])])


def test_threshold_stands_between_normal_and_defective_images():
    labels = [NORMAL, defective()]
    point = choose_operating_point(labels, [found(0.25), found(0.75)])
    assert point.threshold == 0.5
    assert (point.defects, point.normals) == (1, 1)
    assert point.data_hash == labels_hash(labels)
    assert "598" in point.notes[0]


def test_difficult_images_are_no_part_of_the_rates():
    labels = [NORMAL, defective(), defective("x.png", [True])]
    point = choose_operating_point(labels, [found(0.25), found(0.75), found(0.9)])
    assert (point.defects, point.normals) == (1, 1)


def test_without_normal_images_best_f1_is_taken_and_said():
    labels = [defective("a.png"), defective("b.png")]
    boxes = [FAR, BOX]
    point = choose_operating_point(
        labels, [found(0.25, 0.75, boxes=boxes), found(0.625)], target=0.005, data_hash="mine"
    )
    # Both boxes are found from .625 on, the only false alarm is at .25.
    assert point.threshold == pytest.approx((0.625 + 0.25) / 2)
    assert point.rule == BEST_F1
    assert "no normal images" in point.rule
    assert str(point.overkill) == "not measurable (0 normal images)"
    assert point.data_hash == "mine"
    assert "cannot show miss rate" in point.notes[0]


def test_best_f1_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(3)
    labels, detections = [], []
    for index in range(30):
        labels.append(ImageLabels(f"{index}.png", [BOX, FAR], ("dust",) * 2))
        hit = rng.random(2) < 0.8
        boxes = [BOX if hit[0] else (80, 0, 90, 9), FAR if hit[1] else (80, 80, 90, 90)]
        score = np.where(hit, rng.beta(4, 2, 2), rng.beta(2, 4, 2)).astype(np.float32)
        detections.append(Detections(boxes, score, ("dust",) * 2))

    def f1(threshold):
        true = false = 0
        for entry in detections:
            for box, score in zip(entry.xyxy.tolist(), entry.score, strict=True):
                if score >= threshold:
                    is_true = tuple(box) in (BOX, FAR)
                    true, false = true + is_true, false + (not is_true)
        return 2 * true / (60 + true + false)

    point = choose_operating_point(labels, detections)
    everything = np.concatenate([entry.score for entry in detections])
    assert f1(point.threshold) == pytest.approx(max(f1(score) for score in everything))


def test_a_part_without_defects_asks_for_the_rule_that_needs_none():
    with pytest.raises(InputError, match="normal-quantile"):
        choose_operating_point([NORMAL], [found(0.25)])
    point = choose_operating_point([NORMAL], [found(0.25)], "normal-quantile")
    assert point.threshold > 0.25


def test_a_model_that_finds_nothing_is_said():
    with pytest.raises(InputError, match="found no box"):
        choose_operating_point([defective()], [NOTHING])


def test_a_defect_without_any_box_does_not_make_every_part_ng():
    """No threshold catches it; 0 would, by rejecting everything."""
    labels = [defective(f"{i}.png") for i in range(10)] + [NORMAL] * 5
    detections = [found(0.9)] * 9 + [NOTHING] + [NOTHING] * 4 + [found(0.2)]
    point = choose_operating_point(labels, detections)
    assert 0.2 < point.threshold <= 0.9
    assert (point.miss.count, point.miss.total, point.overkill.count) == (1, 10, 0)
    assert "1 of 10" in point.notes[0]
    with pytest.raises(InputError, match="found no box"):
        choose_operating_point([defective(), NORMAL], [NOTHING, found(0.3)])


def test_a_blind_defect_within_the_target_changes_nothing():
    labels = [defective(f"{i}.png") for i in range(10)] + [NORMAL]
    point = choose_operating_point(labels, [found(0.9)] * 9 + [NOTHING] * 2, target=0.1)
    assert point.threshold > 0
    assert (point.miss.count, point.miss.total) == (1, 10)
