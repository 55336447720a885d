"""A model for other runtimes."""

from __future__ import annotations

from classification.cli.shared import Model
from inspection.cli.console import progress, reports_errors, say
from inspection.cli.options import Compared, Exported, Format


@reports_errors
def export(
    model: Model,
    format: Format = "openvino",
    output: Exported = None,
    images: Compared = None,
) -> None:
    """Writes a model for OpenVINO or ONNX; refuses where it scores or decides otherwise."""
    from classification.cli.arguments import check_export

    file, compared = check_export(model, format, output, images)
    from classification.export.write import export as write
    from classification.models.classifier import Classifier

    with progress("comparing") as on_progress:
        report = write(Classifier.load(model), file, compared, on_progress)
    for line in report.lines():
        say(line)
