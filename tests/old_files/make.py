"""Wrote the runs of this folder with the program as it was at commit ce274c5.

Each archive holds a room's images and a whole run as `train` and `evaluate` left it, made in
/tmp/old_run_data, which is gone: its data have been moved. Kept so that it can be read what they
are; the present program writes other files.

The networks have their usual shapes, but all channels except the first few are zero and stay so,
so that a run of 100 MB packs into a few hundred kB. Two images that nothing reads, which show
the augmentation, are left out for their size.

    PYTHONPATH=CHECKOUT python make.py FOLDER
"""

import json
import sys
import tarfile
from pathlib import Path

import keras
import numpy as np
from typer.testing import CliRunner

import anomaly
import classification
import detection
from tests.anomaly.conftest import make_product
from tests.classification.conftest import write_set
from tests.conftest import write_small_set

ROOT = Path("/tmp/old_run_data")
LIVE = 6  # channels
RATES = ("accuracy", "miss", "overkill")
LEFT_OUT = ("samples.jpg", "augmentation.png")


def thinned(model: keras.Model) -> keras.Model:
    """The model with every convolution but the outputs cut down to its first channels."""
    for weight in model.weights:
        value = np.asarray(weight).copy()
        if value.ndim < 2:
            continue
        output = any(word in weight.path for word in ("prediction", "logit"))
        if value.shape[-2] > LIVE:
            value[..., LIVE:, :] = 0
        if not output:
            value[..., LIVE:] = 0
            value *= np.sqrt(max(1, weight.shape[-2] / LIVE))  # as large as with all of its inputs
        weight.assign(value)
    return model


def woken(model: keras.Model) -> keras.Model:
    """The model with the residual branches that start at zero switched on."""
    for weight in model.weights:
        if "gamma" in weight.path and not np.any(np.asarray(weight)):
            weight.assign(np.full(weight.shape, 0.5))
    return model


def typed(app, *arguments: object) -> str:
    """What a verb says."""
    result = CliRunner().invoke(app, [str(item) for item in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    print(result.output)
    return result.output


def chosen(figures: dict, *keys: str) -> dict:
    """Of an evaluation what the test compares."""
    rates = {key: [figures[key]["count"], figures[key]["total"]] for key in RATES}
    return rates | {key: figures[key] for key in keys}


def make_detection(root: Path) -> dict:
    """A RetinaNet of one epoch; its backbone is frozen, so that no optimizer state is of it."""
    from detection import training_setup
    from detection.cli import app

    data = write_small_set(root, train=8, val=4, size=64)
    split = data.annotations / "split.csv"
    text = split.read_text(encoding="utf-8")
    for name in ("val_10.png", "val_11.png"):
        text = text.replace(f"{name},{name},val", f"{name},{name},test")
    split.write_text(text, encoding="utf-8")

    def fill(model, _choice, _say):
        keras.utils.set_random_seed(3)
        for weight in woken(thinned(model)).weights:
            if "classification_head/prediction/bias" in weight.path:
                weight.assign(np.full(weight.shape, -1.5))  # finds something after one epoch

    training_setup.apply_weights = fill
    typed(
        app,
        *("train", "--annotations", data.annotations, "--images", data.images),
        *("--snapshots", data.snapshots, "--run", "old", "--backbone", "resnet18"),
        *("--weights", "none", "--freeze", "--channels", 32, "--size", 64, "--epochs", 1),
        *("--steps", 60, "--batch-size", 4, "--lr", 0.01, "--augment", "flip", "--seed", 1),
    )
    run = data.snapshots / "old"
    typed(app, "evaluate", run / "best.keras")
    metrics = json.loads((run / "best_evaluation_test/metrics.json").read_text(encoding="utf-8"))
    model = detection.load(run / "best.keras")
    found = {}
    for path in sorted(data.images.glob("*.png"))[-7:]:
        one = model.predict(path)
        found[path.name] = {
            "decision": one.decision,
            "scores": [float(score) for score in one.score[:5]],
            "best_box": [float(value) for value in one.xyxy[0]] if len(one.score) else None,
        }
    return {"predictions": found, "figures": chosen(metrics, "mean_ap")}


def make_classification(root: Path) -> dict:
    """A half-width ResNet18 of two epochs."""
    from classification import training_setup
    from classification.cli import app

    data = write_set(root / "parts", (10, 8, 8))
    build = training_setup.build_model
    training_setup.build_model = lambda *given: woken(thinned(build(*given)))
    config = root / "steps.yaml"
    config.write_text("steps: 60\n", encoding="utf-8")
    typed(
        app,
        *("train", "--data", data, "--runs", root / "runs", "--name", "old", "--seed", 1),
        *("--model", "resnet18-small", "--weights", "none", "--size", 48, "--epochs", 2),
        *("--aug", "flip", "--lr", 0.01, "--fractions", "0.5,0.25,0.25", "--config", config),
    )
    run = root / "runs/old"
    typed(app, "evaluate", run)
    figures = json.loads((run / "evaluation_test/evaluation.json").read_text(encoding="utf-8"))
    model = classification.load(run)
    found = {}
    for path in sorted(data.glob("[!m]*/*_0[0-2].png")):
        one = model.predict(path)
        found[path.relative_to(data).as_posix()] = {
            "decision": one.decision,
            "label": one.label,
            "probability": {name: float(value) for name, value in one.probability.items()},
        }
    return {"predictions": found, "figures": chosen(figures, "macro_f1", "auroc")}


def make_anomaly(root: Path) -> dict:
    """PatchCore on a backbone trained on its own images."""
    from anomaly import pretraining
    from anomaly.cli import app

    data = make_product(root / "product", normals=14, defects=6)
    build = pretraining._network
    pretraining._network = lambda: thinned(build())
    (root / "patchcore.yaml").write_text("options:\n  ratio: 0.1\n", encoding="utf-8")
    typed(
        app,
        *("train", data, "--runs", root / "runs", "--run", "old", "--method", "patchcore"),
        *("--size", 64, "--pretrain-steps", 4, "--fractions", "0.5,0.25,0.25"),
        *("--config", root / "patchcore.yaml"),
    )
    run = root / "runs/old"
    typed(app, "evaluate", run)
    figures = json.loads((run / "test.json").read_text(encoding="utf-8"))
    model = anomaly.load(run / "model.anomaly")
    found = {}
    for path in sorted(data.glob("[!m]*/0[0-3].png")):
        one = model.predict(path)
        found[path.relative_to(data).as_posix()] = {
            "decision": one.decision,
            "score": float(one.score),
            "map_mean": float(one.score_map.mean()),
        }
    return {"predictions": found, "figures": chosen(figures, "auroc", "pixel_auroc", "aupro")}


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A member without its owner; None of what is left out."""
    if Path(member.name).name in LEFT_OUT:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main(folder: Path) -> None:
    """Trains, measures and packs."""
    for make in (make_detection, make_classification, make_anomaly):
        room = make.__name__.removeprefix("make_")
        expected = make(ROOT / room)
        (folder / room).mkdir(parents=True, exist_ok=True)
        text = json.dumps(expected, indent=1, ensure_ascii=False) + "\n"
        (folder / room / "expected.json").write_text(text, encoding="utf-8")
        with tarfile.open(folder / room / "run.tar.xz", "w:xz", preset=9) as archive:
            archive.add(ROOT / room, ".", filter=anonymous)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
