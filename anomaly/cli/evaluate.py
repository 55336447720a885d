"""Measuring a run."""

from __future__ import annotations

from inspection.cli.console import reports_errors, say, stages
from inspection.cli.options import OtherData, Run, Split


@reports_errors
def evaluate(
    run: Run,
    split: Split = "test",
    data: OtherData = None,
) -> None:
    """Miss, overkill, AUROC, AUPRO, size and speed at the model's own threshold."""
    from anomaly.cli.arguments import check_evaluation

    check_evaluation(run, split, data)
    from anomaly.evaluation.measure import evaluate as measure
    from anomaly.evaluation.measure import lines
    from anomaly.evaluation.report import write_report

    with stages() as on_progress:
        found = measure(run, split, data, say, on_progress)
    for line in lines(found):
        say(line)
    say(f"Page with the worst cases: {write_report(found, run, data)}")
