"""The command line: `python -m classification` with its verbs."""

from __future__ import annotations

from classification.cli import dashboard, evaluate, explain, export, predict, show, submit, train
from inspection.cli import commands

app = commands.app(
    "From a class per image to a classifier that shows where it looks.",
    (
        train.train,
        show.show,
        evaluate.evaluate,
        predict.predict,
        export.export,
        submit.submit,
        explain.cam,
        explain.boxes,
        dashboard.dashboard,
    ),
)
