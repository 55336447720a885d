"""A model for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import counted, reports_errors, say, stages
from inspection.cli.options import Format, Run


@reports_errors
def export(
    run: Run,
    format: Format = "openvino",
    output: Annotated[
        Path | None,
        typer.Option(help="New folder.", show_default="exported_FORMAT in the run's folder"),
    ] = None,
) -> None:
    """Writes a model for OpenVINO or ONNX; refuses where it scores or decides otherwise."""
    from anomaly.cli.arguments import check_export

    folder = output or run / f"exported_{format}"
    data = check_export(run, format, folder)
    from anomaly.evaluation.measure import open_run
    from anomaly.export.write import export as write

    model, _ = open_run(run)
    pictures = [item.path for item in data.part("test")]
    with stages() as on_progress:
        parity = write(model, folder, format, pictures, on_progress)
    say(
        f"{folder}: {parity.mb:.1f} MB. On {counted(parity.pictures, 'test picture')} every "
        f"decision is the same, scores within {parity.score:.1e} (relative)."
    )
