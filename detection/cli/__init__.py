"""The command line: `python -m detection` with its verbs, in the order of a user's work."""

from __future__ import annotations

from detection.cli import dataset, evaluate, export, labels, predict, train
from inspection.cli import commands

app = commands.app(
    "From labelImg boxes to a RetinaNet and the numbers it can be trusted by.",
    (
        labels.label,
        labels.resize,
        labels.convert,
        labels.check,
        dataset.split,
        dataset.anchors,
        dataset.show,
        train.train,
        evaluate.evaluate,
        predict.predict,
        export.export,
    ),
)
