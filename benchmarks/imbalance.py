"""Thirty masked defects against all normal magnetic tiles: plain training against each remedy.

    python -m benchmarks.imbalance $INSPECTION_DATA/magnetic_tile

Split by tile. Of the defects, 20 are learnt and 10 calibrate; the test part keeps all of its own.
So defects are far more common in the test part than in the calibration part: the threshold is
chosen with the calibration part's images weighted to the test part's share of defects.
Every finished training is kept below the runs' folder, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import numpy as np

REMEDIES: dict[str, dict] = {
    "plain": {},
    "balanced sampling": {"sampling": "balanced"},
    "class-aware sampling": {"sampling": "class-aware"},
    "weighted loss": {"loss": "weighted"},
    "focal loss": {"loss": "focal"},
    "logit-adjusted loss": {"loss": "logit-adjusted"},
    "mask-guided paste": {"paste": 0.3},
    "MixUp": {"mix": "mixup"},
    "CutMix": {"mix": "cutmix"},
    "paste and class-aware": {"paste": 0.3, "sampling": "class-aware"},
}
_LEARNT, _CALIBRATED = 20, 10


def write_table(data: Path, path: Path) -> None:
    """The CSV of the reduced set, with a fixed part for every image."""
    from classification.data.images import open_images
    from inspection.data.split import make_split

    images = open_images(data)
    split = make_split(images.items, (0.6, 0.15, 0.25), 0, data / "tiles.csv")
    rng = np.random.default_rng(0)
    rows = []
    for part, most in (("train", _LEARNT), ("val", _CALIBRATED), ("test", None)):
        items = split.select(images.items, part)
        defects = [item for item in items if item.kind != images.normal and item.mask]
        if most is not None:
            defects = [defects[i] for i in sorted(rng.permutation(len(defects))[:most])]
        normals = [item for item in items if item.kind == images.normal]
        for item in (*normals, *defects):
            mask = str((data / item.mask).resolve()) if item.mask else ""
            kind = "normal" if item.kind == images.normal else "defect"
            rows.append([str((data / item.image).resolve()), kind, mask, part])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "mask", "part"])
        writer.writerows(rows)


def prevalences(table: Path) -> dict[str, float]:
    """Share of defects in each part."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        part: statistics.mean(row["label"] == "defect" for row in rows if row["part"] == part)
        for part in ("train", "val", "test")
    }


def train_and_measure(table: Path, runs: Path, name: str, seed: int, options: dict) -> dict:
    """One training and its figures on the test part; kept in a file."""
    from classification.cli.arguments import resume_settings
    from classification.evaluation.figures import measure
    from classification.evaluation.measure import score_part
    from classification.models.classifier import Classifier, decided
    from classification.settings import ClassificationSettings
    from classification.training.loop import train
    from inspection.training.run import STATE

    folder = f"{name.replace(' ', '_')}_{seed}"
    kept = runs / folder / "imbalance.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    shared = {
        "size": 128,
        "model": "resnet18-small",
        "weights": "none",
        "aug": "flip",
        "keep": 1,
        "batch_size": 16,
        "prevalence": prevalences(table)["test"],
    }
    settings = ClassificationSettings(
        data=table, runs=runs, name=folder, seed=seed, **shared, **options
    )
    resume = (runs / folder / STATE).is_file()
    if resume:
        settings = resume_settings(settings)
    began = time.perf_counter()
    train(settings, resume)
    minutes = (time.perf_counter() - began) / 60
    model = Classifier.load(runs / folder)
    scored = score_part(model, settings, "test", lambda line: None)
    figures = {"minutes": minutes}
    for key, threshold in (("calibrated", model.card.operating_point.threshold), ("half", 0.5)):
        decision = decided(scored.probability, model.classes, model.card.normal, threshold)
        found = measure(
            scored.truth, decision, scored.probability, model.classes, model.card.normal
        )
        figures[f"macro_f1_{key}"] = found.macro_f1
        figures[f"miss_{key}"], figures[f"overkill_{key}"] = found.miss.value, found.overkill.value
    figures["auroc"] = scored.auroc
    kept.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the magnetic tiles' folder")
    parser.add_argument("--runs", type=Path, default=Path("runs/imbalance"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", help="remedies with commas, all where left out")
    options = parser.parse_args()
    table = options.runs / "table.csv"
    if not table.is_file():
        write_table(options.data, table)
    names = options.only.split(",") if options.only else list(REMEDIES)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found: dict[str, list[dict]] = {name: [] for name in names}
    for seed in seeds:  # a whole round first, so that an interrupted table compares all
        for name in names:
            more = {**REMEDIES[name], "epochs": options.epochs}
            found[name].append(train_and_measure(table, options.runs, name, seed, more))
    share = prevalences(table)
    print(
        f"\nDefects: {share['train']:.1%} of the train part, {share['val']:.1%} of the calibration "
        f"part, weighted to the {share['test']:.1%} of the test part."
    )
    print("\n| | macro F1, calibrated threshold | threshold .5 | AUROC | minutes |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        cells = []
        for key in ("macro_f1_calibrated", "macro_f1_half", "auroc"):
            values = [one[key] for one in found[name]]
            shown = ", ".join(f"{value:.3f}" for value in values)
            cells.append(f"{statistics.mean(values):.3f} ({shown})")
        cells.append(f"{statistics.mean(one['minutes'] for one in found[name]):.1f}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
