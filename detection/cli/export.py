"""A model for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import (
    reports_errors,
    say,
)


@reports_errors
def export(
    snapshot: Annotated[Path, typer.Argument(help="A .keras file.")] = Path("snapshots/best.keras"),
    output: Annotated[Path | None, typer.Option(help="File to write; beside the snapshot.")] = None,
    format: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    int8: Annotated[bool, typer.Option("--int8", help="Quantise; measured on val.")] = False,
    annotations: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    max_int8_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="mAP that int8 may cost, else it is refused.")
    ] = 0.02,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write it though nothing can be compared or int8 costs more."),
    ] = False,
) -> None:
    """Writes a model with decoding and NMS inside, after proving that it gives the same boxes."""
    from detection.cli.arguments import check_model

    check_model(snapshot)
    from detection.export.write import export_snapshot

    report = export_snapshot(
        snapshot, output, format, int8, say, annotations, images, max_int8_loss, force
    )
    say(f"Exported: {report.path}")
