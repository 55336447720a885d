"""Times our AP beside pycocotools and faster-coco-eval on the same simulated detections.

    python -m benchmarks.evaluate_5000 [--images 5000] [--repeats 3] [--output FILE.json]

Each engine runs in a process of its own, so that its peak memory is its own, on the same
seeded data; repeats take turns, so that a busy machine slows all of them alike. Time runs
from `ImageLabels` and `Detections` in memory to per-class figures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from inspection.boxes import Detections, ImageLabels

CLASSES = ("scratch", "particle", "stain", "crack", "void", "chip")
# `pycocotools stock` is its documented way: loadRes, four size bands, three detection limits;
# the other two are as detection/coco.py calls them, which asks for all sizes alone.
ENGINES = ("ours", "pycocotools stock", "pycocotools", "faster-coco-eval")


def simulate(
    images: int, detections: int, seed: int = 0
) -> tuple[list[ImageLabels], list[Detections]]:
    """Labels of 0 to 12 boxes an image, and detections of which some hit, some nearly.

    Args:
        images: Number of images of 900 x 900 pixels.
        detections: Detections per image.
        seed: Same seed, same data.

    Returns:
        Labels and detections, one of each per image.
    """
    rng = np.random.default_rng(seed)
    labels, found = [], []
    for index in range(images):
        count = int(rng.integers(0, 13))
        corner = rng.uniform(0, 800, (count, 2))
        truth = np.concatenate([corner, corner + rng.uniform(15, 100, (count, 2))], axis=1)
        label = rng.integers(0, len(CLASSES), count)
        hits = min(count * 3, detections) if count else 0
        chosen = rng.integers(0, max(count, 1), hits)
        size = truth[chosen, 2:] - truth[chosen, :2] if hits else np.zeros((0, 2))
        near = truth[chosen] + rng.normal(0, 0.08, (hits, 4)) * np.tile(size, 2)
        corner = rng.uniform(0, 800, (detections - hits, 2))
        stray = np.concatenate([corner, corner + rng.uniform(15, 100, corner.shape)], axis=1)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        score = np.concatenate([rng.beta(4, 2, hits), rng.beta(1.2, 6, detections - hits)])
        names = np.concatenate([label[chosen], rng.integers(0, len(CLASSES), detections - hits)])
        xyxy = np.clip(np.concatenate([near, stray]), 0, 900).astype(np.float32)
        labels.append(
            ImageLabels(f"{index:05d}.png", truth, tuple(CLASSES[entry] for entry in label))
        )
        found.append(Detections(xyxy, score, tuple(CLASSES[int(entry)] for entry in names)))
    return labels, found


def engine_run(engine: str) -> Callable[[list[ImageLabels], list[Detections]], list[float]]:
    """The call to time: labels and detections in, AP@.5 per class out."""
    if engine == "ours":
        from detection.average_precision import measure_average_precision

        def run(labels: list[ImageLabels], found: list[Detections]) -> list[float]:
            result = measure_average_precision(labels, found, CLASSES, min_score=-1.0)
            return [entry.ap for entry in result.classes]
    elif engine == "pycocotools stock":
        run = stock_pycocotools
    else:
        from detection.coco import coco_metrics

        def run(labels: list[ImageLabels], found: list[Detections]) -> list[float]:
            return list(coco_metrics(labels, found, CLASSES, engine=engine).ap50)

    return run


def stock_pycocotools(labels: list[ImageLabels], found: list[Detections]) -> list[float]:
    """COCO as pycocotools' own example runs it; AP@.5 per class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from detection.coco import found_annotations, truth_dataset

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **truth_dataset(labels, CLASSES)}
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(found_annotations(found, CLASSES, 100)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.eval["precision"][0, :, :, 0, -1].mean(axis=0).tolist()


def measure(engine: str, images: int, detections: int) -> dict[str, object]:
    """One timed run; call it in a fresh process. Memory is in MB."""
    labels, found = simulate(images, detections)
    run = engine_run(engine)
    run(labels[:4], found[:4])  # imports and first calls are not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, start_cpu = time.perf_counter(), time.process_time()
    ap = run(labels, found)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "engine": engine,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak,
        "added_mb": peak - before,
        "ap50": ap,
    }


def print_figures(runs: dict[str, list[dict]], images: int, detections: int) -> None:
    """Medians, ratios to ours, peak memory, and how far the two COCO engines agree."""
    # Processor time, which other work on the machine does not stretch, makes the ratios.
    medians = {
        engine: statistics.median(run["cpu_seconds"] for run in results)
        for engine, results in runs.items()
    }
    print(
        f"{images} images x {detections} detections, {len(CLASSES)} classes, "
        f"median of {len(runs['ours'])}; pycocotools {version('pycocotools')}, "
        f"faster-coco-eval {version('faster-coco-eval')}"
    )
    columns = ("seconds", "CPU s", "x ours", "peak MB", "added MB")
    print(f"{'engine':19}" + "".join(f"{name:>10}" for name in columns) + "  measures")
    for engine, results in runs.items():
        seconds, peak, added = (
            statistics.median(run[name] for run in results)
            for name in ("seconds", "peak_mb", "added_mb")
        )
        ratio = medians[engine] / medians["ours"]
        what = "AP@.5, all-point" if engine == "ours" else "AP@.5:.95 and AP@.5, 101-point"
        print(
            f"{engine:19}{seconds:10.2f}{medians[engine]:10.2f}{ratio:10.1f}"
            f"{peak:10.0f}{added:10.0f}  {what}"
        )
    coco = [np.array(runs[engine][0]["ap50"]) for engine in ENGINES[1:]]
    difference = np.ptp(coco, axis=0).max()
    print(f"largest difference of the COCO engines' AP@.5: {difference:.2e}")
    ratio = medians["pycocotools"] / medians["faster-coco-eval"]
    print(f"pycocotools takes {ratio:.2f} x the time of faster-coco-eval")


def main() -> None:
    """Runs all engines and prints medians, ratios and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    # A fresh interpreter each, so that one engine's memory is not counted for the next.
    context = multiprocessing.get_context("spawn")
    runs: dict[str, list[dict]] = {engine: [] for engine in ENGINES}
    for _ in range(options.repeats):
        for engine in ENGINES:
            with context.Pool(1) as pool:
                runs[engine].append(
                    pool.apply(measure, (engine, options.images, options.detections))
                )
    print_figures(runs, options.images, options.detections)
    if options.output:
        from inspection.runs import write_json_atomic

        write_json_atomic(options.output, {"images": options.images, "runs": runs})


if __name__ == "__main__":
    main()
