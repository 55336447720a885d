"""How long the CAM dashboard takes for a new image: ResNet50 at 224 pixels, random weights.

python -m benchmarks.dashboard
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

_BOUND = 1.0  # seconds


def script(runs: str) -> None:
    """Runs inside the page's process."""
    from pathlib import Path

    from classification.dashboard.page import page

    page(Path(runs))


def write_run(folder: Path) -> Path:
    """A run whose model was never trained: its maps cost what a trained one's do."""
    from classification.data.dataset import open_data
    from classification.data.sample import CLASSES, write_sample
    from classification.models.architectures import build_model
    from classification.models.classifier import Classifier
    from classification.settings import ROOM, ClassificationSettings
    from inspection.models.card import ModelCard, Provenance
    from inspection.training.run import BEST, begin_record

    write_sample(folder / "pictures")
    settings = ClassificationSettings(data=folder / "pictures", runs=folder / "runs", name="run")
    run = folder / "runs" / "run"
    classes = ("normal", *sorted(set(CLASSES) - {"normal"}))
    card = ModelCard(
        room=ROOM,
        architecture="resnet50",
        classes=classes,
        normal="normal",
        preparation=settings.preparation,
        provenance=Provenance(run="run"),
    )
    Classifier(build_model("resnet50", 224, len(classes)), card).save(run / BEST)
    data = open_data(settings.data, settings.runs, say=lambda line: None)
    begin_record(run, settings, data.split, data.split_path)
    return folder / "runs"


def main() -> None:
    from streamlit.testing.v1 import AppTest

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = write_run(Path(folder))
        os.chdir(folder)
        test = AppTest.from_function(script, kwargs={"runs": str(runs)}, default_timeout=600).run()
        seconds = []
        for _ in range(options.images):
            began = time.perf_counter()
            test.button(key="forward").click().run()
            seconds.append(time.perf_counter() - began)
        assert not test.exception, test.exception
    median = statistics.median(seconds)
    verdict = "met" if median <= _BOUND else "missed"
    print(
        f"New image, two classes, ResNet50 at 224 px: median {median:.3f} s "
        f"(bar <= {_BOUND:g} s, {verdict}), longest {max(seconds):.3f} s"
    )


if __name__ == "__main__":
    main()
