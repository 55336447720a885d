"""A model for other runtimes."""

from __future__ import annotations

from inspection.cli.console import progress, reports_errors, say
from inspection.cli.options import Compared, Exported, Format, Run


@reports_errors
def export(
    run: Run,
    format: Format = "openvino",
    output: Exported = None,
    images: Compared = None,
) -> None:
    """Writes a model for OpenVINO or ONNX; refuses where it scores or decides otherwise."""
    from anomaly.cli.arguments import check_export

    file, compared = check_export(run, format, output, images)
    import anomaly
    from anomaly.export.write import export as write

    with progress("comparing") as on_progress:
        report = write(anomaly.load(run), file, compared, on_progress)
    for line in report.lines():
        say(line)
