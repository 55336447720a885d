"""Trains a RetinaNet on labelled images: the same as `python -m detection train`."""

import typer

from detection.cli_models import train

if __name__ == "__main__":
    typer.run(train)
