"""Keras to a file to a runtime: what one graph needs, whatever the room."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from inspection.errors import InputError
from inspection.export.parity import Verdict, prove_parity
from inspection.export.runtimes import open_exported
from inspection.export.write import (
    export_problems,
    keras_graph,
    output_path,
    placed_when_done,
    write_graph,
)
from inspection.models.card import read_card
from tests.cards import classifier_card

SIZE = 16
CARD = classifier_card(("normal", "긁힘"), "normal", SIZE)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """With what the converter does not do by itself: grouped, captured, Erfc."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[900.0, 1e3, 1e2])(image)
    x = keras.layers.Conv2D(8, 3)(x)
    x = keras.layers.Conv2D(8, 3, groups=8)(x)
    x = keras.layers.Activation(lambda y: keras.activations.gelu(y, approximate=False))(x)
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def graph(model):
    return keras_graph(lambda views: {"logits": model(views, training=False)}, SIZE, "small")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_computes_what_keras_does_and_says_whose_it_is(model, graph, tmp_path, suffix):
    path = tmp_path / f"모델{suffix}"
    write_graph(graph, path, CARD)
    card, run = open_exported(path, "classification")
    assert card == CARD == read_card(path, "classification")
    views = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3)).astype(np.uint8)
    wanted = np.asarray(model(views.astype(np.float32)))
    # Threads may share it: a dashboard serves several browsers.
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda view: run(view[None])["logits"][0], views))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="a model of classification"):
        open_exported(path, "anomaly")


def test_what_onnx_lacks_is_refused():
    with pytest.raises(InputError, match="strange: cannot be written as ONNX"):
        keras_graph(lambda views: {"x": tf.math.bessel_i0(views)}, SIZE, "strange")


@pytest.mark.parametrize(("suffix", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_a_runtime_that_is_not_installed_is_named(graph, tmp_path, monkeypatch, suffix, package):
    from inspection.export import runtimes

    path = tmp_path / f"model{suffix}"
    write_graph(graph, path, CARD)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(runtimes, "openvino_core", runtimes.openvino_core.__wrapped__)
    with pytest.raises(InputError, match=rf"needs the package {package}; pip install"):
        open_exported(path, "classification")


def test_an_export_without_room_leaves_the_old_one_whole(tmp_path, monkeypatch):
    output = tmp_path / "model.xml"
    files = [output, output.with_suffix(".bin")]
    for file in files:
        file.write_text("old")

    def full(source, target):
        raise OSError("no space left")

    monkeypatch.setattr("inspection.export.write.shutil.copyfile", full)
    with pytest.raises(OSError, match="no space"), placed_when_done(output) as temporary:
        for suffix in (".xml", ".bin"):
            temporary.with_suffix(suffix).write_text("new")
    assert [file.read_text() for file in files] == ["old", "old"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    monkeypatch.undo()
    with placed_when_done(output) as temporary:
        for suffix in (".xml", ".bin"):
            temporary.with_suffix(suffix).write_text("new")
    assert [file.read_text() for file in files] == ["new", "new"]


def test_the_name_says_the_format_and_nothing_else_is_replaced(tmp_path):
    model = tmp_path / "best.keras"
    assert output_path(None, model, "onnx") == tmp_path / "best.onnx"
    assert output_path(tmp_path / "a", model, "openvino") == tmp_path / "a.xml"
    with pytest.raises(InputError, match=r"must end in \.xml"):
        output_path(tmp_path / "a.onnx", model, "openvino")
    with pytest.raises(InputError, match="--format tflite: must be openvino or onnx"):
        output_path(None, model, "tflite")
    label = tmp_path / "part.xml"
    label.write_text("<annotation/>")
    assert "is there already" in export_problems(label, "detection")[0]
    assert export_problems(tmp_path / "new.xml", "detection") == []
    data = tmp_path / "new.bin"
    data.write_bytes(b"of somebody else")
    (problem,) = export_problems(tmp_path / "new.xml", "detection")
    assert problem.startswith(f"{data}: is there already")
    assert export_problems(tmp_path / "new.onnx", "detection") == []


def test_scores_and_decisions_must_both_be_the_same(tmp_path):
    images = [tmp_path / f"{number}.png" for number in range(9)]

    def proved(factor: float, decision: str = "OK"):
        return prove_parity(
            images, lambda path: Verdict([0.5, 2.0], "OK"), lambda path: verdict(factor, decision)
        )

    def verdict(factor: float, decision: str) -> Verdict:
        return Verdict([0.5 * factor, 2.0], decision)

    parity = proved(1.0005)
    assert (parity.images, parity.score_difference) == (9, pytest.approx(5e-4))
    assert str(parity).startswith("Parity on 9 images: every decision is the same")
    for given in ((1.002,), (1.0, "NG"), (float("nan"),)):
        with pytest.raises(InputError, match=r"0\.png: .* when exported") as caught:
            proved(*given)
        assert "and 4 more" in str(caught.value)
        assert "Nothing was exported" in str(caught.value)


@pytest.mark.parametrize("copied", [0, 1])
def test_a_full_disk_leaves_the_old_export(tmp_path, monkeypatch, copied):
    from inspection.export import write as writing

    old = {"model.xml": b"old graph", "model.bin": b"old weights"}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    copies = []

    def copyfile(source, target):
        copies.append(target)
        if len(copies) > copied:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(writing.shutil, "copyfile", copyfile)
    with pytest.raises(OSError, match="No space"), placed_when_done(tmp_path / "model.xml") as new:
        new.write_bytes(b"new graph")
        new.with_suffix(".bin").write_bytes(b"new weights")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
