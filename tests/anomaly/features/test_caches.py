"""What is kept to save time is made again where it is damaged."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from anomaly.data.near_duplicates import near_duplicates
from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.methods.fitting import _restore, _store, compile_loss
from anomaly.methods.pretraining import EMBEDDING
from anomaly.settings import AnomalySettings
from anomaly.training.method import backbone_for
from inspection.data.images import write_image
from inspection.data.preparation import Preparation
from tests.anomaly.conftest import small_backbone, tile


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_bytes(b"no numbers")


def torn(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)
    path.write_bytes(content)


def other(path: Path) -> None:
    with path.open("wb") as file:
        (np.savez if path.suffix == ".npz" else np.save)(file, np.zeros(3))


DAMAGES = [cut, empty, text, torn, other]


@pytest.fixture
def source(tmp_path) -> Source:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"그림/{number}.png" for number in range(10)]
    for path in paths:
        write_image(path, tile(rng))
    return Source(tuple(paths), Preparation(64), tmp_path / "features")


@pytest.mark.parametrize("damage", DAMAGES)
def test_features(source, damage):
    extractor = FeatureExtractor(small_backbone(), ("out1", "out2"))
    wanted = source.features(0, extractor)
    files = sorted(source.cache.rglob("*.npy"))
    assert len(files) == 2
    damage(files[0])
    for found in (source.features(0, extractor), source.features(0, extractor)):
        for one, right in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, right)
    assert np.load(files[0]).shape == wanted[0].shape


def training() -> dict[str, keras.Model]:
    image = keras.Input((3,))
    network = compile_loss(
        keras.Model(image, keras.layers.Dense(2)(image)), keras.optimizers.Adam(0.1)
    )
    network.optimizer.build(network.trainable_variables)
    return {"network": network}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unfinished_training(tmp_path, damage):
    path = tmp_path / "unfinished/a.npz"
    networks = training()
    _store(networks, path, 7)
    assert _restore(networks, path) == 7
    before = [np.asarray(value) for value in networks["network"].variables]
    damage(path)
    assert _restore(networks, path) == 0
    for one, right in zip(networks["network"].variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(one), right)
    assert not path.exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_small_images(source, tmp_path, damage):
    names = {path.name: path for path in source.paths}
    parts = {name: ("train", "test")[number % 2] for number, name in enumerate(names)}
    cache = tmp_path / "a.small.npz"
    wanted = near_duplicates(names, parts, cache)
    damage(cache)
    assert near_duplicates(names, parts, cache) == wanted


def test_a_backbone(source, tmp_path, monkeypatch):
    trained: list[int] = []

    def pretrain(*_given: object) -> keras.Model:
        trained.append(1)
        image = keras.Input((None, None, 3))
        return keras.Model(image, keras.layers.Conv2D(2, 3, name=EMBEDDING)(image))

    monkeypatch.setattr("anomaly.training.method.pretrain", pretrain)
    settings = AnomalySettings(data=tmp_path, runs=tmp_path / "runs", size=64, weights="self")
    said: list[str] = []
    backbone_for(settings, source, said.append)
    (path,) = (tmp_path / "runs/backbones").iterdir()
    for count, damage in enumerate((cut, empty, text), 1):
        damage(path)
        backbone_for(settings, source, said.append)
        assert any(line.endswith("is damaged; the backbone is trained again.") for line in said)
        assert len(trained) == 1 + count
        backbone_for(settings, source, said.append)
        assert said[-1].startswith("Backbone trained before")
        assert len(trained) == 1 + count
