"""Starting a Streamlit page as a verb of a command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from inspection.cli.commands import own_environment
from inspection.cli.console import say
from inspection.errors import InputError

Stamp = tuple[int, int]
# A tall image would push all else off the screen; on a phone Streamlit's bar is over the page.
_LOOK = (
    ".block-container{padding-top:3rem;max-width:1900px}"
    "[data-testid=stImage] img{max-height:70vh;object-fit:contain}"
    "@media(max-width:640px){.block-container{padding-top:4.5rem}}"
)


def stamp(path: Path) -> Stamp:
    """When a file was written, in ns, and its size; zeros where there is none.

    It belongs to the key of whatever a page keeps of a file: under the same name another file may
    lie by now.
    """
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def style(rules: str = "") -> None:
    """Puts the look of all pages, and one's own rules, onto a page.

    Args:
        rules: CSS.
    """
    import streamlit as st

    st.markdown(f"<style>{_LOOK}{rules}</style>", unsafe_allow_html=True)


def keep_networks() -> None:
    """Keeps Streamlit from clearing Keras' session after every run of the page.

    It would drop all that is prepared for a network, which takes longer to prepare than an image
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
        address: Who may open it: `127.0.0.1` for this PC alone, `0.0.0.0` for the whole network.
        browser: Open it in the browser.

    Raises:
        InputError: It could not be opened.
    """
    command = [sys.executable, "-m", "streamlit", "run", str(page)]
    command += ["--server.address", address, "--server.port", str(port)]
    command += ["--server.headless", str(not browser).lower()]
    # What `.streamlit/config.toml` says in the repository, from any other directory too.
    command += ["--browser.gatherUsageStats", "false", "--client.toolbarMode", "viewer"]
    command += ["--", *arguments]
    say(f"The page is at http://{address}:{port} – Ctrl-C ends it.")
    # The page is a script of its own: what it imports must be found from there.
    done = subprocess.run(command, env=own_environment(), check=False)
    if done.returncode > 0:
        raise InputError(f"--port {port}: the page could not be opened there; give another --port")
