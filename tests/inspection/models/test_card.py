"""The model card: written, read back, refused; built from what models said before there was one."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from inspection.data.images import write_image
from inspection.decisions.operating_point import choose_threshold, fixed_threshold
from inspection.errors import InputError
from inspection.models.card import (
    MEMBER,
    ModelCard,
    Provenance,
    model_line,
    parse_card,
    read_card,
    replace_card,
    trained_on,
)
from inspection.models.old_cards import EXPORTED_DETECTOR
from tests.cards import classifier_card, detector_card
from tests.conftest import draw_image


def write(path: Path, card: ModelCard, **changes: object) -> Path:
    """A model's file without weights."""
    values = json.loads(card.to_json()) | changes
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"weights")
        archive.writestr(MEMBER, json.dumps(values))
    return path


def problem(path: Path, room: str = "detection") -> str:
    with pytest.raises(InputError) as refused:
        read_card(path, room)
    (found,) = refused.value.problems
    assert str(path) in found
    return found


def test_a_card_comes_back_as_it_was(tmp_path):
    for number, name in enumerate(("가.png", "나.png")):
        write_image(tmp_path / name, draw_image(number)[0])
    origin = trained_on(
        [tmp_path / "가.png", tmp_path / "나.png"], run="밤 교대", versions={"k": "3"}
    )
    assert (origin.trained_images, origin.image_shape) == (2, (96, 96, 3))
    card = detector_card()
    card.provenance, card.operating_point = origin, fixed_threshold(0.3)
    card.extra["one_based"] = True
    found = read_card(write(tmp_path / "모델.keras", card), "detection")
    assert found.to_json() == card.to_json()


def test_another_card_leaves_the_weights_alone(tmp_path):
    path = write(tmp_path / "a.keras", detector_card())
    card = read_card(path, "detection")
    replace_card(path, card.model_copy(update={"operating_point": fixed_threshold(0.7)}))
    assert read_card(path, "detection").operating_point.threshold == pytest.approx(0.7)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [MEMBER, "model.weights.h5"]
        assert archive.read("model.weights.h5") == b"weights"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"version": 99}, "newer version"),
        ({"version": None}, "version None"),
        ({"classes": []}, "at least 1"),
        ({"classes": [1, 2]}, "classes"),
        ({"normal": "absent"}, "none of its classes"),
        ({"room": "kitchen"}, "room"),
        ({"preparation": {"size": 10_000_000, "fit": "letterbox", "bits": 8}}, "preparation"),
        ({"preparation": {"size": 64, "window": 3}}, "window"),
        ({"operating_point": {"threshold": "x"}}, "operating_point"),
        ({"provenance": {"epoch": "3"}}, "provenance.epoch"),
        ({"provenance": {"score": float("nan")}}, "NaN"),
        ({"extra": {"level": float("inf")}}, "Infinity"),
        ({"unheard": 1}, "unheard"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else None,
)
def test_what_no_training_writes_is_refused(tmp_path, changes, word):
    assert word in problem(write(tmp_path / "a.keras", detector_card(), **changes))


def test_another_rooms_model_and_no_model_are_refused(tmp_path):
    path = write(tmp_path / "a.keras", classifier_card(("ok", "dot"), "ok", 32))
    assert "it is a model of classification" in problem(path)
    assert "is no anomaly model" in problem(path, "anomaly")
    assert "there is no such model" in problem(tmp_path / "absent.keras")
    (tmp_path / "empty").mkdir()
    assert "is a folder; give" in problem(tmp_path / "empty")


@pytest.mark.parametrize(
    "card", [detector_card(), classifier_card(("ok", "dot"), "ok", 32)], ids=lambda card: card.room
)
def test_a_threshold_over_every_score_is_refused(tmp_path, card):
    stored = fixed_threshold(0.5).to_dict()
    path = write(tmp_path / "a.keras", card, operating_point=stored | {"threshold": 5})
    assert "its threshold is 5 and scores end at 1" in problem(path, card.room)
    path = write(tmp_path / "a.keras", card, operating_point=stored | {"review_threshold": 0.6})
    assert "review threshold is over" in problem(path, card.room)
    # Where good parts score 1, a training may choose to let all of them pass.
    chosen = choose_threshold([0.5, 1.0], [1, 0], "normal-quantile", target=0.0)
    assert chosen.threshold > 1
    write(path, card, operating_point=chosen.to_dict())
    assert read_card(path, card.room).operating_point == chosen


@pytest.mark.parametrize("room", ["detection", "classification", "anomaly"])
def test_a_class_that_is_there_twice_is_refused(tmp_path, room):
    path = write(tmp_path / "a.keras", detector_card(), room=room, classes=["dot", "긁힘", "dot"])
    assert "has a class twice" in problem(path, room)


def test_an_anomaly_score_has_no_end(tmp_path):
    card = ModelCard(room="anomaly", architecture="glance", preparation=detector_card().preparation)
    point = fixed_threshold(5).to_dict()
    path = write(tmp_path / "a.anomaly", card, operating_point=point)
    assert read_card(path, "anomaly").operating_point.threshold == 5


def test_an_assignment_is_checked():
    with pytest.raises(ValueError, match="epoch"):
        detector_card().provenance.epoch = -1


def test_one_sentence_says_what_decides():
    card = detector_card(run="밤", epoch=3, score=0.5, annotations="labels", data="images")
    assert model_line(card) == (
        "Model: run 밤, epoch 3, val mAP 0.500, resnet18, trained on labels and images, 2 classes "
        "(dot, 긁힘)."
    )
    card.provenance = Provenance()
    assert "run unknown" in model_line(card)
    assert "unknown images" in model_line(card)


def test_the_metadata_of_an_earlier_export_are_a_card():
    old = {
        "classes": ["dot"],
        "size": 64,
        "fit": "letterbox",
        "bits": 12,
        "operating_point": fixed_threshold(0.5).to_dict(),
        "anchors_hash": "a",
        "precision": "int8",
    }
    card = parse_card(json.dumps(old), EXPORTED_DETECTOR)
    assert (card.classes, card.preparation.bits) == (("dot",), 12)
    assert card.operating_point.threshold == 0.5
    assert card.extra["precision"] == "int8"
