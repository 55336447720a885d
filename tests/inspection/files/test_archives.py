"""Model files that claim to be huge, or that nobody of ours wrote: refused before they cost."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from inspection.errors import InputError
from inspection.files.archives import Hostile, check_hdf5, check_network, read_arrays

DETECTOR = {
    "backbone": "resnet18",
    "classes": ["dot"],
    "anchors": {"sizes": [32, 64, 128, 256, 512], "scales": [1.0], "ratios": [1.0]},
    "norm": "batch",
    "head_norm": True,
    "channels": 32,
    "head_convs": 4,
    "preprocessing": {"size": 64, "fit": "letterbox", "bits": 16},
    "operating_point": None,
    "train_backbone": True,
}
CARD = {
    "version": 1,
    "architecture": "resnet18",
    "classes": ["normal", "dot"],
    "normal": "normal",
    "preparation": {"size": 64, "fit": "stretch", "bits": 16, "roi": None, "clahe": 0.0},
    "operating_point": None,
    "run": "r",
    "epoch": 1,
    "data": "d",
    "extra": {},
}
HEADER = {
    "version": 1,
    "method": "padim",
    "settings": {"taps": ["a"]},
    "networks": ["backbone"],
    "preparation": {"size": 64, "fit": "stretch", "bits": 16},
    "aggregation": "max",
    "normal": [0.0, 1.0],
    "operating_point": None,
}


def write(path: Path, members: dict[str, object], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, value in members.items():
            content = value if isinstance(value, bytes | str) else json.dumps(value)
            file.writestr(name, content)
    return path


def detector(path: Path, **changes: object) -> Path:
    return write(path, {"config.json": {"config": {**DETECTOR, **changes}}})


def load_detector(path: Path) -> object:
    from detection.models.snapshots import snapshot_card

    return snapshot_card(path)


def load_card(path: Path) -> object:
    from inspection.models.card import read_card

    return read_card(path, "classification")


def load_header(path: Path) -> object:
    from anomaly.models.model import model_card

    return model_card(path)


ROOMS = {
    "detection": ("a.keras", "config.json", {"config": DETECTOR}, load_detector),
    "classification": ("a.keras", "classification.json", CARD, load_card),
    "anomaly": ("a.anomaly", "model.json", HEADER, load_header),
}


@pytest.fixture(params=ROOMS)
def room(request):
    return ROOMS[request.param]


def test_what_is_good_is_read(room, tmp_path):
    name, member, values, load = room
    assert load(write(tmp_path / name, {member: values}))


def torn(content: bytes) -> bytes:
    """A deflated member whose bytes are not what deflate wrote."""
    start = content.index(b"json") + 4
    return (
        content[:start]
        + bytes(255 - one for one in content[start : start + 60])
        + content[start + 60 :]
    )


def unknown_method(content: bytes) -> bytes:
    place = content.rindex(b"PK\x01\x02") + 10
    return content[:8] + b"\x63\x00" + content[10:place] + b"\x63\x00" + content[place + 2 :]


@pytest.mark.parametrize("damage", ["torn", "method", "encrypted", "deep", "cut", "nan", "list"])
def test_damage_is_one_sentence(room, tmp_path, damage):
    name, member, values, load = room
    path = tmp_path / name
    if damage in ("deep", "nan", "list"):
        text = {"deep": "[" * 200_000, "nan": '{"config": NaN, "version": NaN}', "list": "[1]"}
        write(path, {member: text[damage]})
    else:
        write(path, {member: values}, zipfile.ZIP_DEFLATED)
        content = path.read_bytes()
        place = content.rindex(b"PK\x01\x02") + 8
        path.write_bytes(
            {
                "torn": lambda: torn(content),
                "method": lambda: unknown_method(content),
                "encrypted": lambda: (
                    content[:6]
                    + b"\x01\x00"
                    + content[8:place]
                    + b"\x01\x00"
                    + content[place + 2 :]
                ),
                "cut": lambda: content[:-30],
            }[damage]()
        )
    with pytest.raises(InputError) as refused:
        load(path)
    (problem,) = refused.value.problems
    assert str(path) in problem
    assert len(problem) < 600


def test_a_small_file_with_a_huge_member_is_not_unpacked(room, tmp_path):
    name, member, values, load = room
    large = json.dumps(values)[:-1] + " " * 40_000_000 + "}"
    path = write(tmp_path / name, {member: large}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    del large
    tracemalloc.start()
    with pytest.raises(InputError, match="would unpack to"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 10_000_000},
        {"channels": "many"},
        {"head_convs": 10_000},
        {"classes": []},
        {"classes": ["x"] * 100_000},
        {"backbone": "resnet1000"},
        {"anchors": {**DETECTOR["anchors"], "sizes": [1e30] * 5}},
        {"preprocessing": {"size": 10_000_000, "fit": "letterbox", "bits": 16}},
        {"operating_point": {"threshold": "x"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_detectors_settings_are_checked(tmp_path, changes):
    with pytest.raises(InputError):
        load_detector(detector(tmp_path / "a.keras", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"networks": ["../../victim"]},
        {"settings": {"coreset": 1e300}},
        {"method": "unheard"},
        {"preparation": {**HEADER["preparation"], "size": 10_000_000}},
        {"preparation": {**HEADER["preparation"], "roi_mask": "iVBORw0KGgo="}},
        {"normal": [0.0]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_header_is_checked(tmp_path, changes):
    with pytest.raises(InputError):
        load_header(write(tmp_path / "a.anomaly", {"model.json": {**HEADER, **changes}}))


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["one"]},
        {"normal": "absent"},
        {"preparation": {**CARD["preparation"], "size": 10_000_000}},
        {"epoch": "x"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_card_is_checked(tmp_path, changes):
    with pytest.raises(InputError):
        load_card(write(tmp_path / "a.keras", {"classification.json": {**CARD, **changes}}))


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    import keras

    path = tmp_path_factory.mktemp("network") / "a.keras"
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="one")(image)
    keras.Model(image, keras.layers.Conv2D(4, 3, name="two")(x)).save(path)
    return path


def changed(network: Path, path: Path, change) -> Path:
    with zipfile.ZipFile(network) as file:
        members = {name: file.read(name) for name in file.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    return write(path, members | {"config.json": config})


@pytest.mark.parametrize(
    ("key", "value"),
    [("filters", 10_000_000), ("filters", 16_000), ("kernel_size", [4000, 4000])],
)
def test_a_network_that_its_weights_cannot_fill_is_refused(network, tmp_path, key, value):
    check_network(network)

    def change(layers):
        for layer in layers[1:]:
            layer["config"][key] = value
            layer.pop("build_config")  # which says how many channels come in

    with pytest.raises(Hostile):
        check_network(changed(network, tmp_path / "b.keras", change))


def test_a_layer_from_elsewhere_is_refused(network, tmp_path):
    def change(layers):
        layers[1] |= {"module": "os", "class_name": "system", "registered_name": "x"}

    with pytest.raises(Hostile, match="a layer of os"):
        check_network(changed(network, tmp_path / "b.keras", change))


def test_arrays_are_as_large_as_they_say():
    text = io.BytesIO()
    np.savez(text, a=np.arange(6).reshape(2, 3), b=np.asfortranarray(np.eye(3)[:, :2]))
    found = read_arrays(text.getvalue())
    np.testing.assert_array_equal(found["a"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(found["b"], np.eye(3)[:, :2])
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        npy, {"descr": "<f8", "fortran_order": False, "shape": (10**9,)}
    )
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w") as file:
        file.writestr("a.npy", npy.getvalue())
    with pytest.raises(Hostile):
        read_arrays(bomb.getvalue())


def test_weights_by_path_are_no_larger_than_their_file(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("conv/kernel", shape=(2**20, 2**14), chunks=(1024, 1024), dtype="f4")
    with pytest.raises(Hostile, match="claim arrays"):
        check_hdf5(path, path.stat().st_size)
    with h5py.File(path, "w") as file:
        file["conv"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    with pytest.raises(Hostile, match="elsewhere"):
        check_hdf5(path, path.stat().st_size)


def test_a_backbones_file_is_checked_before_it_is_read(tmp_path):
    from inspection.models.backbones import resnet
    from inspection.models.weights import load_weights_file

    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("conv/kernel", shape=(2**20, 2**14), chunks=(1024, 1024), dtype="f4")
    with pytest.raises(InputError, match="claim arrays"):
        load_weights_file(resnet("resnet18", width=8), path)
