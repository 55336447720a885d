"""Trains a classifier: the same as `python -m classification train`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # As a script its own folder would come first, whose modules have everyday names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

    from inspection.cli.last_handler import run

    run("classification.cli.train", "train", alone=True)
