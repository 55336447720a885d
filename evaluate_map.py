"""Per-class AP and mAP of a snapshot: the same as `python -m detection evaluate`."""

import typer

from detection.cli_models import evaluate

if __name__ == "__main__":
    typer.run(evaluate)
