"""Per-class AP and mAP of a snapshot: the same as `python -m detection evaluate`."""

from inspection.cli.last_handler import run

if __name__ == "__main__":
    run("detection.cli.evaluate", "evaluate", alone=True)
