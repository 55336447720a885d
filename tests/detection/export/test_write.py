"""Exported models: the same boxes as the snapshot, or no file at all."""

from __future__ import annotations

import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import detection
from detection.cli.export import export
from detection.export import onnx_graph
from detection.export import write as exporting
from detection.export.exported import ExportedDetector
from detection.export.parity import check_parity, matches
from detection.export.quantisation import MAX_LOSS, Int8Change, check_loss
from detection.models.anchors import AnchorSettings
from detection.models.decision import decided
from detection.models.decoding import MAX_DETECTIONS, MIN_SCORE
from detection.models.detector import Detector
from detection.models.retinanet import RetinaNet
from inspection.data.boxes import ImageLabels
from inspection.data.images import write_image
from inspection.data.voc import write_voc
from inspection.decisions.operating_point import fixed_threshold
from inspection.errors import InputError
from inspection.finite import NotFinite
from inspection.prediction.detections import Detections
from tests.cards import detector_card
from tests.conftest import CLASSES, SmallSet, draw_image
from tests.journeys.line import on_the_line

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
openvino = pytest.importorskip("openvino", reason="needs openvino")

SIZE = 130  # 17, 9, 5, 3, 2 cells: every level of the pyramid is cut


def lively_detector(
    backbone: str = "resnet18",
    norm: str = "batch",
    head_norm: str = "batch",
    levels: int = 5,
    **origin,
) -> Detector:
    """A detector whose weights are not those of a start, so that every constant shows."""
    keras.utils.set_random_seed(0)
    model = RetinaNet(
        backbone,
        CLASSES,
        replace(AnchorSettings(), sizes=AnchorSettings().sizes[:levels]),
        norm=norm,
        head_norm=head_norm,
        channels=32,
    )
    rng = np.random.default_rng(4)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    card = detector_card(SIZE, "letterbox", 12, **origin)
    card.operating_point = fixed_threshold(0.5)
    detector = Detector(model, card)
    outputs = detector.forward(draw_image(0, SIZE)[0][None])
    # Scores spread over all of (0, 1): saturated ones would differ by rounding alone.
    for head, name, spread in (
        (model.classification_head, "classification", 1.5),
        (model.box_head, "box", 0.5),
    ):
        kernel = head.prediction.kernel
        kernel.assign(np.asarray(kernel) * (spread / outputs[name].std()))
    bias = model.classification_head.prediction.bias
    bias.assign(np.full(bias.shape, -3.0))
    return detector


@pytest.fixture(scope="module")
def detector() -> Detector:
    return lively_detector()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [draw_image(seed, SIZE)[0] for seed in range(2)]


@pytest.fixture(scope="module")
def exported(detector, pictures, tmp_path_factory) -> ExportedDetector:
    path = tmp_path_factory.mktemp("내보내기") / "모델.xml"
    exporting.export(detector, path, check_images=pictures)
    return ExportedDetector.load(path)


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_an_export_finds_what_the_snapshot_finds(detector, pictures, tmp_path, suffix):
    report = exporting.export(detector, tmp_path / f"모델{suffix}", check_images=pictures)
    assert report.parity.boxes > 50
    assert report.parity.score_difference < 1e-3
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == pytest.approx(
        report.megabytes * 1e6
    )
    loaded = ExportedDetector.load(report.path)
    camera = np.random.default_rng(7).integers(0, 256, (97, 211, 3)).astype(np.uint8)
    reference, found = detector.predict(camera), loaded.predict(camera)
    assert len(found) == len(reference) > 20
    # By box, not by rank: equal scores may come in any order.
    for box, score, label in zip(reference.xyxy, reference.score, reference.label, strict=True):
        same = np.abs(found.xyxy - box).max(axis=1) <= 0.5
        same &= np.abs(found.score - score) <= 1e-3 * score
        assert label in np.array(found.label)[same]


def test_what_a_deployment_needs_travels_inside(detector, exported):
    assert exported.classes == CLASSES
    assert (exported.size, exported.fit, exported.bits) == (SIZE, "letterbox", 12)
    assert exported.operating_point == detector.operating_point
    assert exported.card.provenance == detector.card.provenance


@pytest.mark.parametrize(
    ("backbone", "norm", "head_norm", "levels"),
    [
        ("resnet18", "group", "none", 4),
        ("resnet50", "frozen", "group", 5),
        ("resnet18", "batch", "batch", 2),
    ],
)
def test_every_norm_and_block_is_exported(pictures, tmp_path, backbone, norm, head_norm, levels):
    detector = lively_detector(backbone, norm, head_norm, levels)
    report = exporting.export(detector, tmp_path / "model.onnx", check_images=pictures)
    assert report.parity.boxes > 20


def test_an_export_that_differs_is_refused_and_leaves_nothing(
    detector, pictures, tmp_path, monkeypatch
):
    true_anchors = onnx_graph.anchor_boxes
    monkeypatch.setattr(
        onnx_graph, "anchor_boxes", lambda *arguments: true_anchors(*arguments) + np.float32(2)
    )
    with pytest.raises(InputError, match="only the snapshot finds"):
        exporting.export(detector, tmp_path / "model.onnx", check_images=pictures)
    assert not list(tmp_path.iterdir())


def test_nothing_to_compare_is_refused(pictures, tmp_path):
    silent = lively_detector()
    bias = silent.model.classification_head.prediction.bias
    bias.assign(np.full(bias.shape, -50.0))
    with pytest.raises(InputError, match="nothing can be compared") as caught:
        exporting.export(silent, tmp_path / "model.onnx", check_images=pictures)
    for flag in ("--images", "--force"):
        assert flag in str(caught.value)
    assert not list(tmp_path.iterdir())
    report = exporting.export(silent, tmp_path / "model.onnx", check_images=pictures, force=True)
    assert any("Unproved" in line for line in report.lines())
    assert not len(ExportedDetector.load(report.path).predict(pictures[0]))


def test_options_that_do_not_fit_are_listed_together(detector, tmp_path):
    with pytest.raises(InputError) as caught:
        exporting.export(detector, tmp_path / "model.onnx", int8=True)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for part in ("no image to compare", "openvino only", "calibration images", "held-out images"):
        assert part in text
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        exporting.export_snapshot(tmp_path / "best.keras", tmp_path / "model.xml", "onnx")


def test_labels_are_not_replaced_by_an_export(detector, pictures, tmp_path):
    label = tmp_path / "part.xml"
    write_voc(label, "part.png", (9, 9, 3), [[1, 1, 5, 5]], ["dot"])
    before = label.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        exporting.export(detector, label, check_images=pictures)
    assert label.read_bytes() == before


def test_int8_is_measured_on_what_it_was_not_calibrated_on(detector, pictures, tmp_path):
    options = {"int8": True, "check_images": pictures}
    with pytest.raises(InputError) as caught:
        exporting.export(detector, tmp_path / "model.xml", **options)
    assert "calibration images" in str(caught.value)
    assert "held-out images" in str(caught.value)
    labels = [ImageLabels(f"{index}.png", [], ()) for index in range(2)]
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    options |= {"calibration": paths, "held_out": [str(paths[1])], "held_out_labels": labels}
    with pytest.raises(InputError) as caught:
        exporting.export(detector, tmp_path / "model.xml", **options)
    assert "1 images are among the calibration and among the held-out" in str(caught.value)
    assert "2 labels were given for 1 held-out" in str(caught.value)
    limit = inspect.signature(export).parameters["max_int8_loss"].default
    assert limit == MAX_LOSS


def test_the_bounds_inside_cannot_be_passed(exported, pictures):
    everything = exported.predict(pictures[0])
    strict = exported.predict(pictures[0], min_score=0.4, max_detections=3)
    assert len(strict.score) == 3 < len(everything.score)
    assert strict.score.min() >= 0.4
    with pytest.raises(InputError, match="snapshot"):
        exported.predict(pictures[0], min_score=0.01)
    with pytest.raises(InputError, match="RGB"):
        exported.predict(pictures[0].astype(np.float32))


def test_a_file_that_an_earlier_program_exported_finds_the_same(detector, pictures, tmp_path):
    import onnx

    told = {"classes": CLASSES, "size": SIZE, "fit": "letterbox", "bits": 12, "anchors_hash": "a"}
    told |= {"operating_point": detector.operating_point.to_dict(), "precision": "float32"}
    graph = onnx_graph.detector_graph(detector.model, SIZE)
    onnx.helper.set_model_props(graph, {"detection": json.dumps(told)})
    (tmp_path / "old.onnx").write_bytes(graph.SerializeToString())
    found = detection.load(tmp_path / "old.onnx").predict(pictures[0])
    assert found.decision == detector.predict(pictures[0]).decision
    assert found.label == detector.predict(pictures[0]).label


@pytest.mark.parametrize("name", ["absent.xml", "damaged.onnx", "damaged.xml", "model.pt"])
def test_files_that_are_no_export_are_named(tmp_path, name):
    path = tmp_path / name
    if name.startswith("damaged"):
        path.write_bytes(b"<net/>" * 9)
    with pytest.raises(InputError, match=name):
        ExportedDetector.load(path)


# Keras 3.15 saves its variables in a way that NumPy 2.4 warns about.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_snapshot_is_exported_with_its_own_validation_part(small_set: SmallSet, tmp_path):
    detector = lively_detector(
        annotations=str(small_set.annotations), data=str(small_set.images), run="first"
    )
    snapshot = small_set.snapshots / "best.keras"
    detector.save(snapshot)
    said: list[str] = []
    report = exporting.export_snapshot(snapshot, format="onnx", say=said.append)
    assert report.path == small_set.snapshots / "best.onnx"
    assert any("Parity on 2 images" in line for line in said)
    assert isinstance(detection.load(report.path), ExportedDetector)
    assert isinstance(detection.load(snapshot), Detector)


def test_other_folders_are_compared_on_what_the_training_has_not_seen(small_set, tmp_path):
    """A weak model is exported on images that it finds something on: by --annotations, --images."""
    detector = lively_detector(
        annotations=str(small_set.annotations), data=str(small_set.images), run="first"
    )
    snapshot = small_set.snapshots / "best.keras"
    detector.save(snapshot)
    own, trained, folder = exporting.export_parts(snapshot)
    assert [item.image for item in own] == ["val_08.png", "val_09.png"]
    assert len(trained) == 8
    assert folder == small_set.images
    other = SmallSet(tmp_path / "더" / "a", tmp_path / "더" / "i", small_set.snapshots)
    for seed, name in enumerate(("new_0.png", "train_00.png")):
        image, boxes, names = draw_image(seed)
        write_image(other.images / name, image)
        path = (other.annotations / name).with_suffix(".xml")
        write_voc(path, name, (*image.shape[:2], 3), boxes, names)
    shutil.copy(small_set.annotations / "split.csv", small_set.snapshots)
    (small_set.snapshots / "first").mkdir()
    shutil.copy(small_set.annotations / "split.csv", small_set.snapshots / "first")
    folders = (other.annotations, other.images)
    found, trained, folder = exporting.export_parts(snapshot, *folders)
    assert [item.image for item in found] == ["new_0.png"]
    assert folder == other.images
    (other.annotations / "new_0.xml").unlink()
    with pytest.raises(InputError, match="--annotations and --images"):
        exporting.export_parts(snapshot, *folders)
    # Images alone need no label.
    report = exporting.export_snapshot(snapshot, format="onnx", images=other.images, say=str)
    assert report.parity.images == 2


@pytest.mark.slow
def test_int8_that_costs_too_much_is_refused(detector, pictures, tmp_path, monkeypatch):
    """Random weights lose much of their mAP: there nothing is far from a threshold."""
    pytest.importorskip("nncf", reason="int8 needs nncf")
    made = []  # quantised once, for both exports

    def quantise(*arguments):
        if not made:
            made.append(exporting_quantise(*arguments))
        return made[0]

    exporting_quantise = exporting.quantise
    monkeypatch.setattr(exporting, "quantise", quantise)
    found = detector.predict(pictures[1])  # as if every box were right: mAP 1 before
    options = {
        "int8": True,
        "calibration": pictures[:1],
        "held_out": pictures[1:],
        "held_out_labels": [ImageLabels("1.png", found.xyxy, found.label)],
        "check_images": pictures,
    }
    target = tmp_path / "out" / "model.xml"
    with pytest.raises(InputError, match=r"loses 0\.\d+ mAP .* at most 0\.02") as caught:
        exporting.export(detector, target, **options)
    assert "--force" in str(caught.value)
    assert not list(target.parent.iterdir())
    report = exporting.export(detector, target, **options, force=True)
    assert report.int8 is not None
    assert report.int8.images == 1
    assert report.int8.map_float32 > 0.99
    assert report.int8.loss > 0.02
    assert any("not calibrated on" in line for line in report.lines())
    assert any("decisions changed" in line for line in report.lines())
    assert sorted(path.name for path in target.parent.iterdir()) == ["model.bin", "model.xml"]
    loaded = ExportedDetector.load(report.path)
    assert loaded.card.extra["precision"] == "int8"
    assert len(loaded.predict(pictures[0]).score)


def test_an_unknown_cost_of_int8_is_refused():
    unknown = Int8Change(5, float("nan"), float("nan"), None)
    with pytest.raises(InputError, match="unknown"):
        check_loss(unknown, 1.0)
    check_loss(Int8Change(5, 0.9, 0.885, 0), 0.02)
    with pytest.raises(InputError, match=r"loses 0\.0300 mAP \(0\.9000 to 0\.8700\)"):
        check_loss(Int8Change(5, 0.9, 0.87, 0), 0.02)


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
@pytest.mark.parametrize("head", ["box_head", "classification_head"])
def test_nan_inside_an_exported_graph_is_a_reject(pictures, tmp_path, suffix, head, monkeypatch):
    broken = lively_detector()
    bias = getattr(broken.model, head).prediction.bias
    values = np.asarray(bias).copy()
    values[-1] = np.nan
    bias.assign(values)
    path = tmp_path / f"model{suffix}"
    with pytest.raises(NotFinite, match="weights"):
        exporting.write_graph(broken, path)
    # As an overflow would do it that only shows in use.
    monkeypatch.setattr(onnx_graph, "check_finite", lambda **values: None)
    exporting.write_graph(broken, path)
    with pytest.raises(NotFinite, match="weights of one layer"):
        ExportedDetector.load(path)
    for check in ("check_onnx", "check_openvino"):
        monkeypatch.setattr(f"inspection.export.runtimes.{check}", lambda *arguments: None)
    loaded = ExportedDetector.load(path)
    image = tmp_path / "부품.png"
    write_image(image, pictures[0])
    with pytest.raises(NotFinite, match=r"부품\.png"):
        loaded.predict(image)
    # Whoever reads the outputs without a look finds a score over every threshold.
    outputs = loaded._run(pictures[0][None])
    boxes, score, label = (outputs[name] for name in ("boxes", "scores", "labels"))
    assert score[0] == np.inf
    assert boxes[0].tolist() == [0, 0, SIZE, SIZE]
    assert label[0] == 0
    assert len(boxes) == len(score) == len(label)


def _found(*rows: tuple[float, float, float, str]) -> Detections:
    """Detections of 20 px squares: left edge, top edge, score, class."""
    xyxy = np.array([[x, y, x + 20, y + 20] for x, y, _, _ in rows], np.float32)
    return Detections(xyxy, np.array([row[2] for row in rows]), tuple(row[3] for row in rows))


def test_matching_takes_class_score_and_place_together():
    reference = _found((0, 0, 0.9, "dot"), (50, 50, 0.8, "dot"), (90, 90, 0.7, "dot"))
    assert matches(reference, reference).tolist() == [[0, 0], [1, 1], [2, 2]]
    shifted = _found((0.4, 0, 0.9, "dot"), (51, 50, 0.8, "dot"), (90, 90, 0.7, "긁힘"))
    assert matches(reference, shifted).tolist() == [[0, 0]]
    assert matches(reference, _found((0, 0, 0.9 * 1.002, "dot"))).tolist() == []


class _Fixed:
    """Stands for a detector that finds the same in every image."""

    classes, bits = CLASSES, 8
    card = detector_card(120)

    def __init__(self, found: Detections, threshold: float | None) -> None:
        self.found = found
        self.operating_point = None if threshold is None else fixed_threshold(threshold)

    def predict(self, picture: np.ndarray) -> Detections:
        return decided(self, picture, self.found, MIN_SCORE, MAX_DETECTIONS)


def _compare(one: Detections, two: Detections, threshold: float | None = None):
    blank = np.zeros((120, 120, 3), np.uint8)
    return check_parity(_Fixed(one, threshold), _Fixed(two, threshold), [blank])


def test_rounding_at_the_bounds_is_no_difference():
    sure = (0, 0, 0.9, "dot")
    assert _compare(_found(sure, (60, 60, 0.05001, "dot")), _found(sure)).boxes == 1
    # Two squares of 20 px whose shift of 6.6667 px makes an IoU of exactly one half.
    half = (20 / 3, 0, 0.5, "dot")
    assert _compare(_found(sure), _found(sure, half)).boxes == 1
    with pytest.raises(InputError, match="only the exported model finds 1 boxes"):
        _compare(_found(sure), _found(sure, (9, 0, 0.5, "dot")))


def test_a_decision_that_changes_is_a_difference():
    one, two = _found((0, 0, 0.5002, "dot")), _found((0, 0, 0.4999, "dot"))
    assert _compare(one, two).boxes == 1
    with pytest.raises(InputError, match="decides NG, the exported model OK"):
        _compare(one, two, threshold=0.5001)


def test_written_paths_may_be_used_by_name(exported, tmp_path: Path, pictures):
    path = tmp_path / "부품 1.png"
    write_image(path, pictures[0])
    np.testing.assert_array_equal(
        exported.predict(path).xyxy, exported.predict_batch([pictures[0]])[0].xyxy
    )


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_a_pc_on_the_line_decides_without_tensorflow(detector, pictures, tmp_path, suffix):
    report = exporting.export(detector, tmp_path / f"모델{suffix}", check_images=pictures)
    for number, image in enumerate(pictures):
        write_image(tmp_path / "영상" / f"{number}.png", image)
    out = tmp_path / "결과"
    text = on_the_line(
        "detection", "predict", tmp_path / "영상", "--model", report.path, "--output", out
    )
    assert "2 images done" in text
    found = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    for record, image in zip(found, pictures, strict=True):
        assert record["score"] == pytest.approx(float(detector.predict(image).score[0]), rel=1e-3)
