"""Where the checkout and the real images lie."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("INSPECTION_DATA", ROOT / "../shared/data"))
