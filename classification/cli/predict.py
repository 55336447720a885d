"""Deciding on new images."""

from __future__ import annotations

from pathlib import Path

from classification.cli.shared import Model
from inspection.cli.console import counted, progress, reports_errors, say
from inspection.cli.options import Output, Paths, Restart
from inspection.errors import InputError


@reports_errors
def predict(
    model: Model,
    paths: Paths,
    output: Output = Path("predictions"),
    restart: Restart = False,
) -> None:
    """Decides on new pictures: a CSV."""
    from collections import Counter

    from classification.cli.arguments import check_prediction

    owner = check_prediction(model, paths, output, restart)
    from classification.models.classifier import Classifier
    from classification.prediction.files import NOT_DECIDED, TABLE, predict_files
    from inspection.models.card import model_line
    from inspection.prediction.folder import refuse_replaced

    loaded = Classifier.load(model)
    refuse_replaced(loaded.path, owner)
    with progress("deciding") as on_progress:
        found = predict_files(loaded, paths, output, on_progress, restart=restart, owner=owner)
    counts = Counter(one.label for one in found.predictions)
    names = [*loaded.classes, *([NOT_DECIDED] if counts[NOT_DECIDED] else [])]
    text = ", ".join(f"{counts[name]} {name}" for name in names)
    say(model_line(loaded.card))
    say(f"{output / TABLE}: {text}.")
    if found.skipped:
        say(f"{counted(found.skipped, 'image')} of these had been done before.")
    if found.problems:
        raise InputError(found.problems)
