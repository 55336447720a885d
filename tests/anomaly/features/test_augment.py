"""Changed copies, generated images, masks of the region, near-duplicates."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from anomaly.data.near_duplicates import near_duplicates, warning
from anomaly.features.augment import Augmentation
from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.methods.patchcore import PatchCore
from anomaly.settings import AnomalySettings
from anomaly.training.generate import Generator, draw, generate, kernel_distance
from anomaly.training.setup import generated_paths
from inspection.data.images import list_images, read_image, write_image
from inspection.data.masks import encode_mask
from inspection.data.preparation import Preparation
from inspection.errors import InputError
from tests.anomaly.conftest import SMALL, make_product, small_backbone, tile, typed

RNG = np.random.default_rng(0)


def test_every_copy_is_what_it_says():
    rgb = RNG.integers(0, 255, (40, 60, 3)).astype(np.uint8)
    chance = np.random.default_rng(0)
    turned = Augmentation(rotations=True)
    assert turned.copies == 3
    for copy in (1, 2, 3):
        np.testing.assert_array_equal(turned.apply(rgb, copy, chance), np.rot90(rgb, copy))
    cut = Augmentation(crops=2, grid=2, share=0.5)
    assert cut.copies == 6
    corners = [cut.apply(rgb, copy, chance) for copy in (3, 4, 5, 6)]
    for one, (top, left) in zip(corners, [(0, 0), (0, 30), (20, 0), (20, 30)], strict=True):
        np.testing.assert_array_equal(one, rgb[top : top + 20, left : left + 30])
    assert cut.apply(rgb, 1, chance).shape == (20, 30, 3)
    grey = np.full((200, 200, 3), 4, np.uint8)
    noisy = Augmentation(noise=6).apply(grey, 1, chance)
    assert noisy.max() < 60, "dark pixels must not wrap to white"
    assert Augmentation(noise=6).copies == 1
    assert Augmentation().copies == 0


def test_changed_copies_are_really_learnt(tmp_path):
    """A turned product is normal to a model that learnt turned copies, and only to that one."""
    for index in range(6):
        write_image(tmp_path / f"a/{index}.png", tile(np.random.default_rng(index)))
    source = Source(tuple(sorted((tmp_path / "a").iterdir())), Preparation(64))
    upright = np.rot90(tile(np.random.default_rng(9)))[None]
    scores = {}
    for name, augmentation in (("plain", Augmentation()), ("turned", Augmentation(rotations=True))):
        method = PatchCore(FeatureExtractor(small_backbone(), ["out1"]), 0.2, 500, 10_000)
        changed = replace(source, augmentation=augmentation)
        method.fit(changed)
        assert method.seen == len(changed) * 256
        scores[name] = float(method.score_views(upright).max())
    assert scores["turned"] < 0.7 * scores["plain"]


def test_generated_images_are_bounded_and_loud(tmp_path):
    for index in range(10):
        write_image(tmp_path / f"g/{index}.png", tile(np.random.default_rng(index)))
    told: list[str] = []
    settings = AnomalySettings(data=tmp_path, generated=tmp_path / "g")
    assert len(generated_paths(settings, 6, told.append)) == 6
    assert len(told) == 1
    more = settings.model_copy(update={"generated_share": 0.8})
    assert len(generated_paths(more, 2, told.append)) == 8
    assert "WARNING: UP TO 80" in told[1]
    with pytest.raises(InputError, match="no image"):
        (tmp_path / "empty").mkdir()
        generated_paths(settings.model_copy(update={"generated": tmp_path / "empty"}), 6, print)


def test_the_kernel_distance_is_the_plain_formula():
    one, other = RNG.normal(size=(30, 4)), RNG.normal(0.5, 1, (30, 4))

    def kernel(x, y):
        return (x @ y / 4 + 1) ** 3

    n = 30
    same = sum(
        kernel(a, b)
        for x in (one, other)
        for i, a in enumerate(x)
        for j, b in enumerate(x)
        if i != j
    )
    cross = sum(kernel(a, b) for a in one for b in other)
    wanted = same / (n * (n - 1)) - 2 * cross / n**2
    assert kernel_distance(one, other, subsets=1) == pytest.approx(wanted)
    alike = kernel_distance(RNG.normal(size=(400, 4)), RNG.normal(size=(400, 4)))
    assert abs(alike) < 0.1 * kernel_distance(one, other)


def test_a_generator_comes_nearer_and_says_how_near(tmp_path):
    for part, start in (("train", 0), ("held", 100)):
        for index in range(24):
            write_image(
                tmp_path / f"{part}/{index:02d}.png", tile(np.random.default_rng(start + index))
            )
    train, held = (
        Source(tuple(sorted((tmp_path / part).iterdir())), Preparation(64), tmp_path / "cache")
        for part in ("train", "held")
    )
    extractor = FeatureExtractor(small_backbone(), ["out1"])
    settings = Generator(side=32, width=8, latent=8, epochs=3, batch_size=12)
    found = {}
    for name, epochs in (("short", 1), ("long", 40)):
        output = tmp_path / name
        one = replace(settings, epochs=epochs)
        found[name] = generate(
            train, held, lambda: extractor, output, 30, one, say=lambda text: None
        )
        assert len(list_images(output / "generated")) == 30
        assert len(list_images(output / "samples")) == epochs
    assert found["long"]["kid"] < 0.5 * found["short"]["kid"]
    assert abs(found["long"]["kid_real"]) < abs(found["long"]["kid"])
    record = json.loads((tmp_path / "long/generated.json").read_text(encoding="utf-8"))
    assert (record["seed"], record["pictures"]) == (0, 30)
    assert read_image(tmp_path / "long/generated/generated_00000.png").shape == (32, 32, 3)
    with pytest.raises(InputError, match="there already"):
        generate(train, held, lambda: extractor, tmp_path / "long", 3, settings)
    few = replace(settings, batch_size=200)
    with pytest.raises(InputError, match="only 24 normal images"):
        generate(train, held, lambda: extractor, tmp_path / "x", 3, few)
    with pytest.raises(InputError, match="--side 50"):
        Generator(side=50)


def test_the_same_seed_draws_the_same_images():
    import keras

    keras.utils.set_random_seed(0)
    maker = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(48), keras.layers.Reshape((4, 4, 3))]
    )
    np.testing.assert_array_equal(draw(maker, 70, 4, 3), draw(maker, 70, 4, 3))
    assert (draw(maker, 5, 4, 3) != draw(maker, 5, 4, 4)).any()


def test_off_the_mask_nothing_is_scored(tmp_path):
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[:, :32] = 255
    write_image(tmp_path / "mask.png", mask)
    preparation = Preparation(64, roi_mask=encode_mask(tmp_path / "mask.png"))
    rgb = np.full((64, 64, 3), 90, np.uint8)
    prepared = preparation(rgb)
    assert prepared.views[0][:, 32:].max() == 0
    scores = np.tile(np.arange(16, dtype=np.float32), (16, 1))
    assert prepared.cells(scores).max() == 7
    on_picture = prepared.on_image(scores, -1)
    assert on_picture[:, 32:].max() == -1
    with pytest.raises(InputError, match="draw it at the images' size"):
        preparation(rgb[:50])
    write_image(tmp_path / "black.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="black everywhere"):
        encode_mask(tmp_path / "black.png")
    again = Preparation.from_dict(preparation.to_dict())
    assert (again(rgb).inside == prepared.inside).all()


def test_a_run_with_mask_copies_and_generated_images(tmp_path):
    root = make_product(tmp_path / "p", normals=14, defects=6)
    mask = np.full((64, 64, 3), 255, np.uint8)
    mask[:4] = 0
    write_image(tmp_path / "mask.png", mask)
    for index in range(3):
        write_image(tmp_path / f"g/{index}.png", tile(np.random.default_rng(index)))
    flags = ("--roi-mask", tmp_path / "mask.png", "--rotations", "--generated", tmp_path / "g")
    status, text = typed(
        *("train", root, "--method", "oc-svm", "--runs", tmp_path / "r", "--run", "x"),
        *flags,
        *SMALL,
    )
    assert status == 0, text
    record = json.loads((tmp_path / "r/x/record.json").read_text(encoding="utf-8"))
    assert record["learnt"] == (record["images"]["train"] + 3) * 4
    status, text = typed("evaluate", tmp_path / "r/x")
    assert status == 0, text


def test_the_same_part_on_two_sides_is_found_and_alike_parts_are_not(tmp_path):
    paths, parts = {}, {}
    for index in range(14):
        rgb = tile(np.random.default_rng(index))
        rgb[5:15, 5:15] = 10  # what all parts share
        for copy in range(1 + (index == 3)):
            name = f"{index}_{copy}.png"
            light = np.clip(rgb * (1 + 0.2 * copy), 0, 255).astype(np.uint8)
            write_image(tmp_path / name, light)
            paths[name], parts[name] = tmp_path / name, ("train", "test")[(index + copy) % 2]
    for _ in range(2):  # the second time from the small images kept
        found = near_duplicates(paths, parts, tmp_path / "small.npz")
        assert found == [("3_0.png", "3_1.png")]
    assert "3_0.png (test) and 3_1.png (train)" in warning(found, parts)
    assert warning([], parts) == ""
    parts["3_1.png"] = parts["3_0.png"]
    assert near_duplicates(paths, parts) == []


def test_generate_as_it_is_typed(shared_product, tmp_path):
    flags = ("--side", "16", "--width", "4", "--epochs", "1", "--batch-size", "4", "--count", "5")
    shared = ("--runs", tmp_path / "r", "--pretrain-steps", "2", "--size", "64")
    output = tmp_path / "새것"
    status, text = typed("generate", shared_product, "--output", output, *flags, *shared)
    assert status == 2
    assert "it takes 20" in text
    assert not output.exists()
    root = make_product(tmp_path / "p", normals=40, defects=0)
    arguments = ("generate", root, "--output", output, *flags, *shared)
    status, text = typed(*arguments, "--fractions", "0.4,0.3,0.3")
    assert status == 0, text
    assert "KID" in text
    assert len(list_images(output / "generated")) == 5
    status, text = typed(*arguments)
    assert status == 2
    assert "not empty" in text
    assert "--side 50" in typed("generate", root, "--output", tmp_path / "x", "--side", "50")[1]


def test_what_cannot_work_is_told_before_any_work(shared_product, tmp_path):
    runs = tmp_path / "r"
    (tmp_path / "a.yaml").write_text("options: {ration: 0.1}", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("options: {ratio: 5}", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("options: [1, ", encoding="utf-8")
    write_image(tmp_path / "mask.png", np.full((32, 32, 3), 255, np.uint8))
    for flags, words in (
        (("--config", tmp_path / "a.yaml"), "knows no ration"),
        (("--config", tmp_path / "b.yaml"), "ratio 5: must be"),
        (("--config", tmp_path / "c.yaml"), "c.yaml, line 1"),
        (("--config", tmp_path / "d.yaml"), "d.yaml: cannot be opened"),
        (("--roi", "0,0,900,10"), "region of interest"),
        (("--roi-mask", tmp_path / "mask.png"), "draw it at the images' size"),
        (("--roi-mask", tmp_path / "none.png"), "none.png"),
        (("--tile", "900"), "--tile 900 is larger"),
        (("--generated", tmp_path / "none"), "none: there is no such file or folder"),
    ):
        status, text = typed("train", shared_product, "--runs", runs, "--run", "x", *flags)
        assert status == 2, text
        assert words in text
        assert not (runs / "backbones").exists()
        assert not (runs / "x").exists()
