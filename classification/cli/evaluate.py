"""Measuring a model."""

from __future__ import annotations

from classification.cli.shared import Method, Model
from inspection.cli.commands import command_line, flags
from inspection.cli.console import progress, reports_errors, say
from inspection.cli.options import Beside, OtherData, Split
from inspection.errors import InputError


@reports_errors
def evaluate(
    model: Model,
    split: Split = None,
    data: OtherData = None,
    output: Beside = None,
    method: Method = "grad-cam",
) -> None:
    """Macro F1, each class, miss and overkill, calibration, worst cases; a page with all."""
    from classification.cam.methods import METHODS
    from classification.cli.arguments import check_evaluation

    if method not in METHODS:
        raise InputError(f"--method {method}: must be one of {', '.join(METHODS)}")
    images, chosen = check_evaluation(model, split, data)
    for note in chosen.notes:
        say(f"Note: {note}")
    from classification.evaluation.measure import evaluate as measure
    from classification.evaluation.measure import lines
    from classification.evaluation.report import write_report
    from inspection.report.evaluation import evaluation_folder

    with progress("measuring") as on_progress:
        found = measure(model, images, chosen, on_progress)
    folder = output or evaluation_folder(found.summary.model, chosen.part)
    given = flags(split=split, data=data, output=output, method=method)
    command = command_line("classification", "evaluate", model, *given)
    page = write_report(found, folder, method, command)
    for line in lines(found):
        say(line)
    say(f"Page: {page}")
