"""The network: any size, outputs in the anchors' order, losses, saving and reloading."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from detection.models.anchors import AnchorGrid, AnchorSettings, anchor_boxes
from detection.models.detector import Detector
from detection.models.pyramid import FeaturePyramid
from detection.models.retinanet import RetinaNet
from detection.models.targets import encode_boxes, make_targets
from inspection.data.boxes import box_iou
from inspection.decisions.operating_point import fixed_threshold
from inspection.models.backbones import NAMES
from tests.cards import detector_card
from tests.conftest import CLASSES
from tests.places import ROOT

FITTED = AnchorSettings((20.0, 40.0, 80.0, 160.0, 320.0), (1.0, 1.4), (0.4, 1.0, 1.7, 3.0))


def small_model(backbone="resnet18", norm="batch", **options) -> RetinaNet:
    options = {"channels": 32, "head_convs": 1} | options
    return RetinaNet(backbone, CLASSES, norm=norm, **options)


def shake(model: keras.Model, seed: int = 0) -> None:
    """Moves every weight a little: what is not saved would otherwise come back by chance."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(weight + rng.uniform(0.01, 0.1, weight.shape))


def pictures(height=64, width=64, count=1, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (count, height, width, 3)).astype(np.float32)


def outputs(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in model({"images": images}).items()}


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    return small_model()


# --- sizes and order ---------------------------------------------------------------------------


def test_runs_at_900(model):
    found = outputs(model, pictures(900, 900))
    assert found["box"].shape == (1, 154_332, 4)
    assert found["classification"].shape == (1, 154_332, len(CLASSES))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (131, 77), (65, 200), (33, 1)])
def test_one_output_for_each_anchor_at_any_size(model, height, width):
    found = outputs(model, pictures(height, width, 2))
    count = len(anchor_boxes(model.anchors, height, width))
    assert found["box"].shape == (2, count, 4)
    assert found["classification"].shape == (2, count, len(CLASSES))
    assert found["box"].dtype == found["classification"].dtype == np.float32


def test_other_anchors_than_nine_per_location():
    model = small_model(anchors=FITTED)
    assert model.anchors == FITTED
    found = outputs(model, pictures())
    assert found["box"].shape[1] == len(anchor_boxes(FITTED, 64, 64))


@pytest.mark.parametrize("levels", range(1, 6))
def test_levels_without_anchors_do_not_exist(levels):
    anchors = replace(FITTED, sizes=FITTED.sizes[:levels])
    model = small_model(anchors=anchors)
    found = outputs(model, pictures())
    assert found["box"].shape[1] == len(anchor_boxes(anchors, 64, 64))
    # The levels that are left compute as before.
    whole = small_model(anchors=FITTED)
    there = {weight.path: weight for weight in whole.weights}
    for weight in model.weights:
        weight.assign(there[weight.path])
    expected = outputs(whole, pictures())
    for name, value in outputs(model, pictures()).items():
        np.testing.assert_array_equal(value, expected[name][:, : value.shape[1]])


def test_outputs_stand_in_the_order_of_the_anchors(model):
    """What an output looks at most lies around its anchor, on an image that is not square."""
    tf = pytest.importorskip("tensorflow")
    height, width = 160, 288
    anchors = anchor_boxes(model.anchors, height, width)
    images = tf.constant(pictures(height, width))
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    for point in ((204.0, 52.0), (60.0, 108.0)):
        chosen = int(np.abs(centre[:6480] - point).sum(axis=1).argmin())
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = model({"images": images})["box"][0, chosen, 0]
        # Squared, so that the few strong pixels outweigh the wide field of weak ones.
        weight = (np.asarray(tape.gradient(value, images))[0] ** 2).sum(axis=-1)
        rows, columns = np.indices(weight.shape)
        found = [(grid * weight).sum() / weight.sum() for grid in (columns, rows)]
        assert np.abs(np.array(found) - point).max() < 24


def test_untrained_scores_are_the_prior(model):
    """A start at one half would drown the few positives."""
    logits = outputs(model, pictures())["classification"]
    assert np.median(1 / (1 + np.exp(-logits))) == pytest.approx(0.01, abs=0.005)


def test_keras_cv_reads_our_outputs(model):
    """Its own decoder, with its own anchors, gets back the boxes that we encode."""
    boxes = np.array([[10, 12, 40, 40], [50, 20, 90, 42], [8, 58, 40, 92]], np.float32)
    anchors = anchor_boxes(model.anchors, 96, 96)
    best = box_iou(anchors, boxes).argmax(axis=0)
    offsets = np.zeros((1, len(anchors), 4), np.float32)
    offsets[0, best] = encode_boxes(anchors[best], boxes)
    logits = np.full((1, len(anchors), len(CLASSES)), -9, np.float32)
    logits[0, best, [0, 1, 0]] = [4, 3, 2]
    found = model.decode_predictions({"box": offsets, "classification": logits}, pictures(96, 96))
    count = int(np.asarray(found["num_detections"])[0])
    assert count == 3
    np.testing.assert_allclose(np.asarray(found["boxes"])[0, :3], boxes, atol=1e-2)
    assert np.asarray(found["classes"])[0, :3].tolist() == [0, 1, 0]


# --- the pyramid -------------------------------------------------------------------------------


def nearest(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(1, h, w, C) resized as OpenCV's nearest neighbour does it."""
    return cv2.resize(image[0], (width, height), interpolation=cv2.INTER_NEAREST)[None]


@pytest.mark.parametrize(
    ("p3", "p4", "p5"), [((113, 113), (57, 57), (29, 29)), ((16, 25), (8, 13), (4, 7))]
)
def test_pyramid_resizes_each_level_to_its_lateral(p3, p4, p5):
    rng = np.random.default_rng(0)
    features = {
        level: rng.normal(size=(1, *shape, channels)).astype(np.float32)
        for level, shape, channels in (("P3", p3, 8), ("P4", p4, 12), ("P5", p5, 16))
    }
    pyramid = FeaturePyramid(6)
    found = [np.asarray(level) for level in pyramid(features)]
    lateral = {k: np.asarray(pyramid.laterals[k](features[k])) for k in features}
    sum4 = lateral["P4"] + nearest(lateral["P5"], *p4)
    sum3 = lateral["P3"] + nearest(sum4, *p3)
    for level, total, value in zip(
        ("P3", "P4", "P5"), (sum3, sum4, lateral["P5"]), found[:3], strict=True
    ):
        wanted = np.asarray(pyramid.outputs[level](total))
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-4)
    p6 = [-(-side // 2) for side in p5]
    assert found[3].shape == (1, *p6, 6)
    assert found[4].shape == (1, *(-(-side // 2) for side in p6), 6)
    shapes = pyramid.compute_output_shape({k: v.shape for k, v in features.items()})
    assert [tuple(shape) for shape in shapes] == [value.shape for value in found]


def test_a_cell_of_p6_and_p7_means_the_same_place_at_odd_and_even_sizes():
    """Windows of 320 px have 10 cells at P5, images of 900 px have 29.

    "same" padding with stride 2 starts one cell later on even sizes, so that what is learnt
    on windows would be one cell off on whole images.
    """
    rng = np.random.default_rng(1)
    large = rng.normal(size=(1, 15, 15, 16)).astype(np.float32)
    pyramid = FeaturePyramid(6)

    def run(side: int):
        features = {
            "P3": np.zeros((1, 4 * side, 4 * side, 8), np.float32),
            "P4": np.zeros((1, 2 * side, 2 * side, 12), np.float32),
            "P5": large[:, :side, :side],
        }
        return [np.asarray(level) for level in pyramid(features)[3:]]

    p6, p7 = run(15)
    for side in (12, 13, 14):
        found6, found7 = run(side)
        np.testing.assert_allclose(found6[:, :5, :5], p6[:, :5, :5], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found7[:, :2, :2], p7[:, :2, :2], rtol=1e-4, atol=1e-5)


# --- windows and whole images ------------------------------------------------------------------


@pytest.mark.parametrize("part", ["classification_head", "box_head"])
@pytest.mark.parametrize("level", range(5))
def test_a_head_answers_the_same_on_a_window_and_on_the_whole(part, level):
    """Statistics over the map would make training on windows something else than the use."""
    model = small_model(head_convs=4)
    shake(model)
    head = getattr(model, part)
    rng = np.random.default_rng(level)
    whole = rng.normal(0, 1, (1, 40, 40, 32)).astype(np.float32)
    whole[:, 20:] *= 5  # other contrast than in the window
    window = np.asarray(head(whole[:, :16, :16], level=level))
    found = np.asarray(head(whole, level=level))[:, :16, :16]
    np.testing.assert_allclose(found[:, :11, :11], window[:, :11, :11], rtol=1e-4, atol=1e-4)


def test_scores_at_a_place_do_not_depend_on_the_size_of_the_image():
    model = small_model(head_convs=4)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "norm_" in weight.path and "moving" not in weight.path:
            weight.assign(weight + rng.normal(0, 0.3, weight.shape))
    whole = rng.uniform(90, 120, (1, 512, 512, 3)).astype(np.float32)
    whole[:, 256:] = rng.uniform(0, 255, (1, 256, 512, 3))
    logits = []
    for side in (256, 512):
        found = outputs(model, whole[:, :side, :side])["box"][0]
        cells, each = side // 8, model.anchors.per_location
        found = found[: cells**2 * each].reshape(cells, cells, each, 4)  # P3
        logits.append(found[8:16, 8:16])
    change = np.abs(logits[0] - logits[1]).mean() / logits[0].std()
    assert change < 0.02


def test_anchors_stand_where_the_cells_look():
    """With constant positive kernels the gradient of a cell is symmetric about its centre.

    Max pooling follows the brightest pixel, so a rising and a falling image are averaged.
    """
    from inspection.models.backbones import resnet
    from inspection.models.gradients import value_and_gradients

    backbone = resnet("resnet18")
    taps = {level: backbone.pyramid_level_inputs[level] for level in ("P3", "P4", "P5")}
    model = keras.Model(
        backbone.get_layer("local_contrast").output,
        {level: backbone.get_layer(name).output for level, name in taps.items()},
    )
    pyramid = FeaturePyramid(4)
    depths = {"P3": 128, "P4": 256, "P5": 512}
    pyramid.build({level: (1, None, None, depth) for level, depth in depths.items()})
    for weight in [*model.weights, *pyramid.weights]:
        if "kernel" in weight.path:
            weight.assign(np.full(weight.shape, 1 / np.prod(weight.shape[:-1]), np.float32))
        elif "bias" in weight.path:
            weight.assign(np.zeros(weight.shape))
        elif "gamma" in weight.path:
            weight.assign(np.ones(weight.shape))
    side = 512
    rising = np.linspace(1, 2, side, dtype=np.float32)[:, None].repeat(6, axis=1)
    images = [np.broadcast_to(ramp, (1, side, side, 6)) for ramp in (rising, rising[::-1])]
    for level, stride in ((0, 8), (2, 32), (4, 128)):
        cell = side // stride // 2

        def seen(x, level=level, cell=cell):
            features = model(x, training=False)
            maps = [features["P3"], features["P4"], features["P5"]]
            if level > 2:
                maps += pyramid(features)[3:]
            return keras.ops.sum(maps[level][0, cell, cell])

        columns = [value_and_gradients(seen, [image])[1][0][0].sum(axis=(0, 2)) for image in images]
        centres = [(one * (np.arange(side) + 0.5)).sum() / one.sum() for one in columns]
        expected = stride * cell + AnchorSettings().first_centre(stride)
        assert np.mean(centres) == pytest.approx(expected, abs=0.6)


# --- training ----------------------------------------------------------------------------------


def targets_of(*boxes_of_images) -> dict[str, np.ndarray]:
    grid = AnchorGrid(AnchorSettings(), 64, 64)
    made = [
        make_targets(grid, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), int))
        for boxes in boxes_of_images
    ]
    return {
        "box": np.stack([box for box, _ in made]),
        "classification": np.stack([label for _, label in made]),
    }


def trained_on(targets, learning_rate=0.1, **options):
    """Weights before and after one plain gradient step, and what it reported."""
    keras.utils.set_random_seed(3)
    model = small_model(norm="frozen", **options)
    model.compile(keras.optimizers.SGD(learning_rate))
    images = pictures(count=len(targets["classification"]))
    before = {weight.path: np.asarray(weight) for weight in model.weights}
    report = model.train_on_batch({"images": images}, targets, return_dict=True)
    after = {weight.path: np.asarray(weight) for weight in model.weights}
    changed = {path for path in before if (before[path] != after[path]).any()}
    return changed, {name: float(value) for name, value in report.items()}


def test_a_batch_of_normal_images_teaches_the_classification():
    changed, report = trained_on(targets_of([], []))
    assert report["classification_loss"] > 0
    assert report["box_loss"] == 0
    assert report["loss"] == pytest.approx(report["classification_loss"], rel=1e-5)
    assert any(path.startswith("classification_head/") for path in changed)
    assert any(path.startswith("conv1_conv") for path in changed)
    assert not any(path.startswith("box_head/") and "moving" not in path for path in changed)


def test_a_batch_of_normal_images_weighs_no_more_than_others():
    """Divided by its own number of positives, which is 0, it outweighed dozens of others."""
    model = small_model(norm="frozen")
    model.compile(keras.optimizers.SGD(0.0))
    images = pictures(count=2)
    box = [[10, 10, 40, 44]]
    defects, normals = targets_of(box, box), targets_of([], [])
    positives = (defects["classification"] >= 0).sum()
    for _ in range(3):
        model.train_on_batch({"images": images}, defects)
    assert float(model.positives) == pytest.approx(positives)
    model.reset_metrics()
    report = model.train_on_batch({"images": images}, normals, return_dict=True)
    each = 0.75 * 0.01**2 * -np.log(0.99) * normals["classification"].size * len(CLASSES)
    usual = 0.9 * positives + 0.1
    assert float(report["classification_loss"]) == pytest.approx(each / usual, rel=0.3)


def test_loss_is_divided_by_the_positive_anchors():
    """So that a step weighs the same however many images and boxes the batch holds."""
    box = [[10, 10, 40, 44]]
    # Its statistics are of one image: the other image of a batch changes no logit.
    changed, one = trained_on(targets_of(box), head_norm="group")
    assert any(path.startswith("box_head/") for path in changed)
    targets = targets_of(box, [])
    positives = (targets["classification"] >= 0).sum()
    assert positives > 1
    # Untrained, each negative anchor costs the same; a normal image adds that over positives.
    _, two = trained_on(targets, head_norm="group")
    negatives = (targets["classification"][1] == -1).sum() * len(CLASSES)
    each = 0.75 * 0.01**2 * -np.log(0.99)
    added = two["classification_loss"] - one["classification_loss"]
    assert added == pytest.approx(negatives * each / positives, rel=0.3)
    assert two["box_loss"] == pytest.approx(one["box_loss"], rel=1e-3)
    for report in (one, two):
        parts = report["classification_loss"] + report["box_loss"]
        assert report["loss"] == pytest.approx(parts, rel=1e-5)


def test_freezing_trains_only_the_heads_and_the_pyramid():
    model = small_model(train_backbone=False)
    paths = {weight.path.split("/")[0] for weight in model.trainable_variables}
    assert paths == {"feature_pyramid", "classification_head", "box_head"}


# --- saving and reloading ----------------------------------------------------------------------


def assert_reloads(model: RetinaNet, path: Path) -> RetinaNet:
    """What every model has to pass."""
    shake(model)
    model.save(path)
    again = keras.models.load_model(path)
    assert isinstance(again, RetinaNet)
    assert again.get_config() == model.get_config()
    assert json.loads(json.dumps(again.get_config())) == json.loads(json.dumps(model.get_config()))
    assert [w.path for w in again.trainable_variables] == [
        w.path for w in model.trainable_variables
    ]
    images = pictures(70, 90, 2)
    expected = outputs(model, images)
    for name, value in outputs(again, images).items():
        np.testing.assert_array_equal(value, expected[name])
    return again


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet34", "resnet50")),
    ],
)
def test_saves_and_reloads(backbone, norm, tmp_path):
    assert_reloads(small_model(backbone, norm), tmp_path / "모델.keras")


@pytest.mark.parametrize(
    "options",
    [
        {"anchors": FITTED, "head_norm": "none", "head_convs": 2},
        {"head_norm": "group", "head_convs": 2},
        {"anchors": replace(FITTED, sizes=FITTED.sizes[:2])},
        {"anchors": replace(FITTED, sizes=FITTED.sizes[:4])},
        {"train_backbone": False, "channels": 64, "name": "inspector"},
    ],
)
def test_every_option_survives_saving(options, tmp_path):
    assert_reloads(small_model(**options), tmp_path / "m.keras")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", sorted(set(NAMES) - {"resnet18", "resnet34", "resnet50"}))
def test_deep_models_come_back_from_their_config(backbone):
    model = small_model(backbone, "frozen", anchors=FITTED)
    again = RetinaNet.from_config(json.loads(json.dumps(model.get_config())))
    assert again.get_config() == model.get_config()
    assert [(w.path, w.shape) for w in again.weights] == [(w.path, w.shape) for w in model.weights]


@pytest.mark.parametrize("head_norm", [True, False])
def test_snapshots_made_before_come_back_as_they_were(head_norm):
    """Their config says neither where anchors stand nor which norm the heads have."""
    config = small_model().get_config()
    config |= {"head_norm": head_norm}
    del config["anchors"]["aligned"]
    model = RetinaNet.from_config(config)
    assert not model.anchors.aligned
    assert model.anchors.first_centre(32) == 16
    assert model.box_head.norm == ("group" if head_norm else "none")
    assert RetinaNet.from_config(model.get_config()).anchors == model.anchors


def test_half_precision_is_no_part_of_the_file(tmp_path):
    """Trained in bfloat16 on one machine, used in float32 on another."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model(norm="group")
        half = outputs(model, pictures())
        model.save(tmp_path / "half.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    assert half["classification"].dtype == np.float32  # a bfloat16 score has three digits
    again = keras.models.load_model(tmp_path / "half.keras")
    assert {weight.dtype for weight in again.weights} == {"float32"}
    assert again.backbone.get_layer("conv2_block1_1_conv").compute_dtype == "float32"
    found = outputs(again, pictures())
    np.testing.assert_allclose(found["classification"], half["classification"], atol=0.05)


def test_fresh_process_that_only_imported_detection(tmp_path):
    model = small_model(anchors=FITTED, norm="group")
    shake(model)
    card = detector_card(64, "stretch", 12)
    card.operating_point = fixed_threshold(0.37)
    path = tmp_path / "최고.keras"
    Detector(model, card).save(path)
    images = pictures(64, 64, 2)
    np.save(tmp_path / "images.npy", images)
    script = """
import sys
import detection
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
import keras
import json
import numpy as np
path, folder = sys.argv[1:]
model = keras.models.load_model(path)
found = model.predict_on_batch({"images": np.load(folder + "/images.npy")})
np.savez(folder + "/found.npz", **found)
detector = detection.load(path)
again = detector.forward(np.load(folder + "/images.npy"))
assert all((again[name] == found[name]).all() for name in found)
print(json.dumps({
    "classes": detector.classes,
    "anchors": detector.model.anchors.to_dict(),
    "threshold": detector.operating_point.threshold,
    "size": [detector.size, detector.fit, detector.bits],
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert tuple(told["classes"]) == CLASSES
    assert AnchorSettings.from_dict(told["anchors"]) == FITTED
    assert told["threshold"] == pytest.approx(0.37)
    assert told["size"] == [64, "stretch", 12]
    expected = model.predict_on_batch({"images": images})
    with np.load(tmp_path / "found.npz") as found:
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], np.asarray(value))
