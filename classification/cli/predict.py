"""Deciding on new images."""

from __future__ import annotations

from pathlib import Path

from classification.cli.shared import Model
from inspection.cli.console import reports_errors
from inspection.cli.options import BatchSize, Output, Paths, Restart


@reports_errors
def predict(
    model: Model,
    paths: Paths,
    output: Output = Path("predictions"),
    batch_size: BatchSize = 16,
    restart: Restart = False,
) -> None:
    """Decides on new images: a table."""
    from classification.cli.arguments import check_prediction

    owner = check_prediction(model, paths, output, restart)
    from classification.models.classifier import Classifier
    from classification.prediction.files import LabelPredictor
    from inspection.prediction.command import predict_and_say
    from inspection.prediction.journal import refuse_replaced

    loaded = Classifier.load(model)
    refuse_replaced(loaded.path, owner)
    predictor = LabelPredictor(loaded)
    predict_and_say(predictor, loaded.card, paths, output, owner, restart, batch_size)
