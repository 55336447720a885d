"""Times our AP beside pycocotools and faster-coco-eval: same detections, same thresholds.

    python -m benchmarks.evaluate_5000 [--images 5000] [--repeats 3] [--output FILE.json]

Each engine runs in a process of its own, so that its peak memory is its own, on the same
seeded data; repeats take turns, so that a busy machine slows all of them alike. Time runs
from `ImageLabels` and `Detections` in memory to per-class figures. All engines do equal work: at
one threshold, and at COCO's ten, for which ours runs ten times.
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

from benchmarks.side_by_side import machine
from inspection.data.boxes import ImageLabels
from inspection.prediction.detections import Detections

CLASSES = ("scratch", "particle", "stain", "crack", "void", "chip")
ENGINES = ("ours", "faster-coco-eval", "pycocotools")
# Compared are equal amounts of work: one threshold with one, ten with ten.
THRESHOLDS = {"AP@.5": (0.5,), "AP@.5:.95": tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())}


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


def engine_run(
    engine: str, thresholds: tuple[float, ...]
) -> Callable[[list[ImageLabels], list[Detections]], np.ndarray]:
    """The call to time: labels and detections in, AP out, (thresholds, classes).

    All take boxes of all sizes and the 100 highest-scoring detections of an image.
    """
    if engine == "ours":
        from detection.evaluation.average_precision import measure_average_precision

        def run_ours(labels: list[ImageLabels], found: list[Detections]) -> np.ndarray:
            results = [
                measure_average_precision(labels, found, CLASSES, iou=iou, min_score=-1.0)
                for iou in thresholds
            ]
            return np.array([[entry.ap for entry in result.classes] for result in results])

        return run_ours
    if engine == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluator
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluator
    from detection.evaluation.coco import found_annotations, truth_dataset

    def run(labels: list[ImageLabels], found: list[Detections]) -> np.ndarray:
        truth = truth_dataset(labels, CLASSES)
        with contextlib.redirect_stdout(io.StringIO()):
            sets = []
            for annotations in (truth["annotations"], found_annotations(found, CLASSES, 100)):
                sets.append(COCO())
                sets[-1].dataset = {"info": {}, **truth, "annotations": annotations}
                sets[-1].createIndex()
            evaluator = Evaluator(*sets, iouType="bbox")
            params = evaluator.params
            params.iouThrs, params.maxDets = np.array(thresholds), [100]
            params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
            evaluator.evaluate()
            evaluator.accumulate()
        return np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1].mean(axis=1)

    return run


def measure(engine: str, work: str, images: int, detections: int) -> dict[str, object]:
    """One timed run; call it in a fresh process. Memory is in MB."""
    labels, found = simulate(images, detections)
    run = engine_run(engine, THRESHOLDS[work])
    run(labels[:4], found[:4])  # imports and first calls are not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, start_cpu = time.perf_counter(), time.process_time()
    ap = run(labels, found)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak,
        "added_mb": peak - before,
        "ap": ap.tolist(),
    }


def print_figures(runs: dict[str, dict[str, list[dict]]], images: int, detections: int) -> None:
    """Medians, ratios to ours by both clocks, peak memory, and how far the engines agree."""
    some = next(iter(runs.values()))["ours"]
    print(
        f"{images} images x {detections} detections, {len(CLASSES)} classes, median of "
        f"{len(some)}; pycocotools {version('pycocotools')}, faster-coco-eval "
        f"{version('faster-coco-eval')}\n{machine()}"
    )
    columns = ("seconds", "CPU s", "x ours", "CPU x ours", "peak MB", "added MB")
    print(f"{'':30}" + "".join(f"{name:>12}" for name in columns))
    for work, engines in runs.items():
        medians = {
            engine: [
                statistics.median(run[name] for run in results)
                for name in ("seconds", "cpu_seconds", "peak_mb", "added_mb")
            ]
            for engine, results in engines.items()
        }
        for engine, (seconds, cpu, peak, added) in medians.items():
            print(
                f"{work:12}{engine:18}{seconds:12.2f}{cpu:12.2f}"
                f"{seconds / medians['ours'][0]:12.1f}{cpu / medians['ours'][1]:12.1f}"
                f"{peak:12.0f}{added:12.0f}"
            )
        aps = {engine: np.array(results[0]["ap"]) for engine, results in engines.items()}
        coco = np.abs(aps["pycocotools"] - aps["faster-coco-eval"]).max()
        ours = np.abs(aps["ours"] - aps["pycocotools"]).max()
        print(f"  AP of the COCO engines differs by {coco:.0e}, ours (all-point) by {ours:.4f}")


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
    runs: dict[str, dict[str, list[dict]]] = {
        work: {engine: [] for engine in ENGINES} for work in THRESHOLDS
    }
    for _ in range(options.repeats):
        for work, engines in runs.items():
            for engine, results in engines.items():
                arguments = (engine, work, options.images, options.detections)
                with context.Pool(1) as pool:
                    results.append(pool.apply(measure, arguments))
    print_figures(runs, options.images, options.detections)
    if options.output:
        from inspection.files.writing import write_json_atomic

        write_json_atomic(options.output, {"images": options.images, "runs": runs})


if __name__ == "__main__":
    main()
