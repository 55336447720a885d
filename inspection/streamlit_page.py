"""Starting a Streamlit page as a verb of a command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from inspection.console import say
from inspection.errors import InputError


def keep_networks() -> None:
    """Keeps Streamlit from clearing Keras' session after every run of the page.

    It would drop all that is prepared for a network, which takes longer to prepare than a picture
    takes to look at: .8 s instead of .2 s for a ResNet50. Models are kept here on purpose.
    """
    import keras

    keras.backend.clear_session = lambda *_, **__: None


def serve(
    page: Path, arguments: Sequence[str], port: int, address: str, browser: bool = True
) -> None:
    """Serves a page until Ctrl-C.

    Args:
        page: Its script.
        arguments: For the script.
        port: Of the page.
        address: Who may open it: `localhost`, or `0.0.0.0` for the whole network.
        browser: Open it in the browser.

    Raises:
        InputError: It could not be opened.
    """
    command = [sys.executable, "-m", "streamlit", "run", str(page)]
    command += ["--server.address", address, "--server.port", str(port)]
    command += ["--server.headless", str(not browser).lower()]
    command += ["--browser.gatherUsageStats", "false", "--", *arguments]
    say(f"The page is at http://{address}:{port} – Ctrl-C ends it.")
    # The page is a script of its own: what it imports must be found from there.
    places = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode > 0:
        raise InputError(f"--port {port}: the page could not be opened there; give another --port")
