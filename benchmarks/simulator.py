"""How long the simulator's page takes after a move of the threshold, with 10,000 test images.

    python -m benchmarks.simulator runs/first

The run's own test scores are repeated with noise in a copy; no image is added.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from anomaly.evaluation.scored import scores_file

_BOUND = 0.5  # seconds


def script(run: str) -> None:
    """Runs inside the page's process."""
    from pathlib import Path

    from anomaly.simulator.page import page

    page(Path(run))


def grown(run: Path, folder: Path, count: int) -> Path:
    """A copy of a run whose test part has so many rows."""
    copy = Path(shutil.copytree(run, folder / run.name))
    table = scores_file(copy)
    with table.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    place = header.index("score")
    rng = np.random.default_rng(0)
    spread = np.std([float(row[place]) for row in rows])
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number in range(count):
            row = list(rows[number % len(rows)])
            row[place] = f"{float(row[place]) + rng.normal(0, 0.1 * spread):.6g}"
            writer.writerow(row)
    return copy


def main() -> None:
    from streamlit.testing.v1 import AppTest

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run that has been measured")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--moves", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = grown(options.run, Path(folder), options.images)
        test = AppTest.from_function(script, kwargs={"run": str(run)}, default_timeout=120).run()
        slider = test.slider(key="threshold")
        seconds = []
        for value in np.linspace(slider.min, slider.max, options.moves + 2)[1:-1]:
            began = time.perf_counter()
            test.slider(key="threshold").set_value(float(value)).run()
            seconds.append(time.perf_counter() - began)
        assert not test.exception, test.exception
    median = statistics.median(seconds)
    print(
        f"{options.images} images: median {median:.3f} s a move (bar <= {_BOUND:g} s, "
        f"{'met' if median <= _BOUND else 'missed'}), longest {max(seconds):.3f} s"
    )


if __name__ == "__main__":
    main()
