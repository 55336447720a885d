"""The CAM dashboard: `streamlit run classification/cam_dashboard.py [-- RUNS]`."""

import sys
from pathlib import Path

# As a script its own folder would come first, whose modules have everyday names.
_ROOT = str(Path(__file__).resolve().parent.parent)
sys.path[:] = [_ROOT, *(p for p in sys.path if p not in (_ROOT, str(Path(__file__).parent)))]

from classification.dashboard.page import page  # noqa: E402

page(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs"))
