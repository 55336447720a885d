"""`python -m detection`, or `python PATH/detection` from anywhere: the verbs."""

import sys
from pathlib import Path

if not __package__:
    # Run as a folder its own place comes first, whose modules have everyday names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from inspection.cli.last_handler import run

if __name__ == "__main__":
    run("detection.cli", "app", prog_name="python -m detection")
