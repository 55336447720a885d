"""The page with a movable threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.evaluate import evaluate
from inspection.cli.console import reports_errors, say
from inspection.cli.options import Address, Browser, Port, Run
from inspection.errors import InputError


@reports_errors
def simulate(
    run: Run,
    watch: Annotated[
        Path | None, typer.Option(help="Look at new images of this folder instead.")
    ] = None,
    port: Port = 8501,
    address: Address = "127.0.0.1",
    browser: Browser = True,
) -> None:
    """Opens a page with a movable threshold that plays the test part like a line."""
    from anomaly.evaluation.scored import scores_file
    from anomaly.training.run import check_run
    from inspection.cli.pages import serve
    from inspection.training.run import folder_of

    run = folder_of(run)
    check_run(run)
    if watch is not None and not watch.is_dir():
        raise InputError(f"--watch {watch}: there is no such folder; make it, or correct the path")
    if not scores_file(run).is_file():
        say("The run has not been evaluated yet: evaluating it first.")
        evaluate(run)
    page = Path(__file__).parents[1] / "simulator" / "page.py"
    serve(page, [str(run), *([str(watch)] if watch else [])], port, address, browser)
