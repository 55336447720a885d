"""A model for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from detection.cli.labels import AS_TRAINED
from detection.settings import TrainSettings
from inspection.cli.console import reports_errors, say
from inspection.cli.options import Exported, Format, takes_settings


@reports_errors
@takes_settings(TrainSettings, only=("annotations", "images"), defaults=AS_TRAINED)
def export(
    given: dict[str, Any],
    snapshot: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .keras file, or a run's folder.")
    ] = Path("snapshots/best.keras"),
    format: Format = "openvino",
    output: Exported = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise; measured on val.")] = False,
    max_int8_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="mAP that int8 may cost, else it is refused.")
    ] = 0.02,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write it though nothing can be compared or int8 costs more."),
    ] = False,
) -> None:
    """Writes a model for OpenVINO or ONNX; refuses where it finds or decides otherwise."""
    from detection.cli.arguments import check_model

    check_model(snapshot)
    from detection.export.write import export_snapshot

    export_snapshot(
        snapshot,
        output,
        format,
        int8,
        say,
        given.get("annotations"),
        given.get("images"),
        max_int8_loss,
        force,
    )
