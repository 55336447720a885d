"""No package that the project uses reports on its users."""

from __future__ import annotations

import subprocess
import sys


def test_openvino_sends_no_telemetry():
    """Its converter falls back to a stand-in that does nothing."""
    script = (
        "import detection; from openvino.tools.ovc import telemetry_utils; "
        "print(telemetry_utils.tm.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
