"""Exported classifiers: the same shares, labels and decisions as the snapshot, or no file."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import classification
from classification.export import write as exporting
from classification.models.architectures import ARCHITECTURES, build_model
from classification.models.classifier import Classifier
from inspection.data.images import write_image
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import fixed_threshold
from inspection.errors import InputError
from inspection.finite import NotFinite
from inspection.models.card import ModelCard
from tests.classification.conftest import KINDS, draw

SIZE = 64
SLOW = ("resnet50", "efficientnet", "convnext", "swin")
CASES = [
    pytest.param(name, suffix, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in ARCHITECTURES
    for suffix in (".onnx", ".xml")
]


def lively_classifier(name: str = "resnet18-small", size: int = SIZE) -> Classifier:
    """One whose weights are not those of a start, so that every constant shows."""
    keras.utils.set_random_seed(1)
    model = build_model(name, size, 3)
    rng = np.random.default_rng(4)
    for weight in model.weights:
        if weight.name == "gamma":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "relative_position_bias"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    preparation = Preparation(size, "letterbox", 12, roi=(2, 3, 60, 50), clahe=2.0, flatten=True)
    card = ModelCard(
        room="classification",
        architecture=name,
        classes=("normal", "dot", "긁힘"),
        normal="normal",
        preparation=preparation,
        operating_point=fixed_threshold(0.5),
    )
    classifier = Classifier(model, card)
    views = np.stack([classifier.prepare(draw(kind, 1, 70)[0]).rgb for kind in KINDS])
    for layer in model.layers:  # means and variances of real activations, as after a training
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(views.astype(np.float32), training=True)
    # Saturated shares would hide what comes before them.
    last = model.get_layer("logits")
    spread = (classifier.logits(views) - np.asarray(last.bias)).std()
    last.kernel.assign(np.asarray(last.kernel) / spread)
    return classifier


@pytest.fixture
def images(tmp_path) -> list[Path]:
    paths = [tmp_path / "영상" / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        write_image(path, draw(KINDS[number], number, 70)[0])
    return paths


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_every_architecture_decides_alike_when_exported(name, suffix, images, tmp_path):
    model = lively_classifier(name)
    report = exporting.export(model, tmp_path / f"모델{suffix}", images)
    assert report.parity.images == 2
    exported = classification.load(report.path)
    assert exported.card == model.card
    # As predict does it: several at once, of any size.
    views = np.stack([model.prepare(path).rgb for path in [*images, images[0]]])
    wanted = model.probabilities(views)
    assert np.ptp(wanted[:2], axis=0).max() > 1e-4
    np.testing.assert_allclose(exported.probabilities(views), wanted, rtol=1e-3, atol=1e-9)
    assert exported.decide(wanted) == model.decide(wanted)


def test_another_decision_is_refused_and_leaves_nothing(images, tmp_path, monkeypatch):
    """Shares within the tolerance, and a threshold between them."""
    model = lively_classifier()
    right = exporting.ExportedClassifier.load

    def other(path):
        exported = right(path)
        score = model.predict(images[0]).score
        exported.card.operating_point = fixed_threshold(score * 1.1)
        return exported

    model.card.operating_point = fixed_threshold(model.predict(images[0]).score * 0.9)
    monkeypatch.setattr(exporting.ExportedClassifier, "load", other)
    with pytest.raises(InputError, match=r"0\.png: scores .* when exported") as caught:
        exporting.export(model, tmp_path / "out" / "model.onnx", images)
    assert "Nothing was exported" in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_weight_that_is_not_finite_is_refused(images, tmp_path):
    model = lively_classifier()
    path = exporting.export(model, tmp_path / "model.onnx", images).path
    stored = np.ascontiguousarray(model.model.get_layer("logits").kernel, "<f4").tobytes()
    content = path.read_bytes()
    assert stored in content
    path.write_bytes(content.replace(stored, np.full(len(stored) // 4, np.nan, "<f4").tobytes()))
    with pytest.raises(NotFinite, match=r"model\.onnx: .* not finite"):
        classification.load(path)


def test_what_is_no_export_is_named(images, tmp_path):
    model = lively_classifier()
    path = exporting.export(model, tmp_path / "model.xml", images).path
    with pytest.raises(InputError, match=r"decides only"):
        Classifier.load(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match=r"model\.bin: is not there"):
        classification.load(path)
    for text, match in (
        (path.read_text().replace("&quot;classification", "&quot;anomaly"), "a model of anomaly"),
        ("<annotation/>", "holds no card"),
        ("nothing", "is no XML"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            classification.load(path)
