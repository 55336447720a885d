"""What at least two of the rooms detection, classification and anomaly use."""

import sys

# OpenVINO's converter and NNCF report what they are used for over the internet, unless this
# package of theirs cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
