"""Measuring a model."""

from __future__ import annotations

from classification.cli.shared import Method, Model
from inspection.cli.console import progress, reports_errors, say
from inspection.cli.options import Beside, OtherData, Split
from inspection.errors import InputError


@reports_errors
def evaluate(
    model: Model,
    split: Split = "test",
    data: OtherData = None,
    output: Beside = None,
    method: Method = "grad-cam",
) -> None:
    """Macro F1, each class, miss and overkill, calibration, worst cases; a page with all."""
    from classification.cam.methods import METHODS
    from classification.cli.arguments import check_evaluation

    if method not in METHODS:
        raise InputError(f"--method {method}: must be one of {', '.join(METHODS)}")
    check_evaluation(model, split, data)
    from classification.evaluation.measure import evaluate as measure
    from classification.evaluation.measure import lines, write_evaluation
    from classification.evaluation.report import write_report
    from classification.models.classifier import model_file

    with progress("measuring") as on_progress:
        found = measure(model, split, data, say, on_progress)
    folder = output or model_file(model).parent / f"evaluation_{found.part}"
    write_evaluation(found, folder)
    page = write_report(found, folder, method)
    for line in lines(found):
        say(line)
    say(f"Page: {page}")
