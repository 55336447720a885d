"""Measuring a run."""

from __future__ import annotations

from inspection.cli.commands import command_line, flags
from inspection.cli.console import reports_errors, say, stages
from inspection.cli.options import Beside, OtherData, Run, Split


@reports_errors
def evaluate(
    run: Run,
    split: Split = None,
    data: OtherData = None,
    output: Beside = None,
) -> None:
    """Miss, overkill, AUROC, AUPRO, size and speed at the model's own threshold."""
    from anomaly.cli.arguments import check_evaluation
    from inspection.training.run import MODEL, folder_of

    run = folder_of(run)
    images, chosen = check_evaluation(run, split, data)
    for note in chosen.notes:
        say(f"Note: {note}")
    from anomaly.evaluation.measure import evaluate as measure
    from anomaly.evaluation.measure import lines
    from anomaly.evaluation.report import write_report
    from inspection.report.evaluation import evaluation_folder

    with stages() as on_progress:
        found = measure(run, images, chosen, on_progress)
    folder = output or evaluation_folder(run / MODEL, chosen.part)
    command = command_line(
        "anomaly", "evaluate", run, *flags(split=split, data=data, output=output)
    )
    page = write_report(found, folder, command)
    for line in lines(found):
        say(line)
    say(f"Page with the worst cases: {page}")
