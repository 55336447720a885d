"""The CAM dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import (
    reports_errors,
)


@reports_errors
def dashboard(
    runs: Annotated[Path, typer.Argument(help="Folder of the runs.")] = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page.")] = 8501,
    address: Annotated[str, typer.Option(help="Who may open it.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Opens the CAM dashboard: the same as `streamlit run classification/cam_dashboard.py`."""
    from inspection.cli.pages import serve

    serve(Path(__file__).parents[1] / "cam_dashboard.py", [str(runs)], port, address, browser)
