"""What one setting of a training is worth: the same training with each of its values.

    python -m benchmarks.vary augment none,basic,heavy --config run.yaml --seeds 0,1
    python -m benchmarks.vary norm batch,group --config run.yaml --seeds 0,1,2

`--config` holds everything else, as `train --config` takes it. All runs train on one split; the
seed decides the weights, the windows and the augmentation. Printed are, for each value, the mean
and the range over the seeds of the last epoch's val mAP, and the mean training loss.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from detection.settings import TrainSettings
from detection.training.log import TrainingLog
from detection.training.loop import train
from inspection.files.writing import write_json_atomic
from inspection.settings import read_settings
from inspection.training.run import LOG


def main() -> None:
    """Trains every value with every seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("setting", help="a field of TrainSettings")
    parser.add_argument("values", help="its values, separated by commas")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    console = Console(highlight=False)
    seeds = [int(text) for text in given.seeds.split(",")]
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for value in given.values.split(","):
            for seed in seeds:
                changed = {given.setting: value, "seed": seed, "run": f"{value}_{seed}"}
                settings = read_settings(
                    TrainSettings, given.config, changed | {"snapshots": Path(folder)}
                )
                row = _last_epoch(settings)
                found.setdefault(value, []).append(row)
                console.print(f"{given.setting} {value}, seed {seed}: val mAP {row['val_map']:.3f}")
                if given.out:
                    write_json_atomic(given.out, found)
    table = Table(given.setting, "val mAP", "range", "training loss", "minutes")
    for value, rows in found.items():
        maps = [row["val_map"] for row in rows]
        table.add_row(
            value,
            f"{np.mean(maps):.3f}",
            f"{min(maps):.3f} to {max(maps):.3f}",
            f"{np.mean([row['loss'] for row in rows]):.3f}",
            f"{np.mean([row['minutes'] for row in rows]):.1f}",
        )
    console.print(table)


def _last_epoch(settings: TrainSettings) -> dict[str, float]:
    best = train(settings, log=TrainingLog(Console(quiet=True)))
    with (best.parent / LOG).open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return {name: float(last[name]) for name in ("val_map", "loss", "minutes")}


if __name__ == "__main__":
    main()
