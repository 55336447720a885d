"""The CAM dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspection.cli.console import reports_errors
from inspection.cli.options import Address, Browser, Port


@reports_errors
def dashboard(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder of the runs.")] = Path(
        "runs"
    ),
    port: Port = 8501,
    address: Address = "127.0.0.1",
    browser: Browser = True,
) -> None:
    """Opens the CAM dashboard: the same as `streamlit run classification/cam_dashboard.py`."""
    from inspection.cli.pages import serve

    serve(Path(__file__).parents[1] / "cam_dashboard.py", [str(runs)], port, address, browser)
