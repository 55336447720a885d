"""Deciding on new images."""

from __future__ import annotations

from pathlib import Path

from classification.cli.shared import AnyModel
from classification.settings import DECIDED_AT_ONCE
from inspection.cli.console import reports_errors
from inspection.cli.options import BatchSize, Output, Paths, Restart


@reports_errors
def predict(
    model: AnyModel,
    paths: Paths,
    output: Output = Path("predictions"),
    batch_size: BatchSize = DECIDED_AT_ONCE,
    restart: Restart = False,
) -> None:
    """Decides on new images: a table."""
    from classification.cli.arguments import check_prediction

    owner = check_prediction(model, paths, output, restart)
    import classification
    from classification.prediction.files import LabelPredictor
    from inspection.prediction.command import predict_and_say
    from inspection.prediction.journal import refuse_replaced

    loaded = classification.load(model)
    refuse_replaced(loaded.path, owner)
    predictor = LabelPredictor(loaded)
    predict_and_say(predictor, loaded.card, paths, output, owner, restart, batch_size)
