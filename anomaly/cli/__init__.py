"""The command line: `python -m anomaly` with its verbs, in the order of a user's work."""

from __future__ import annotations

from anomaly.cli import compare, evaluate, export, generate, plan, predict, simulate, train
from inspection.cli import commands

app = commands.app(
    "From normal images to a score, a heat map and a decision.",
    (
        train.train,
        evaluate.evaluate,
        predict.predict,
        compare.compare,
        simulate.simulate,
        export.export,
        generate.generate,
        plan.plan,
    ),
)
