"""Trains a RetinaNet on labelled images: the same as `python -m detection train`."""

from inspection.cli.last_handler import run

if __name__ == "__main__":
    run("detection.cli.train", "train", alone=True)
