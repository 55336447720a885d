"""`python -m detection`: the verbs."""

from inspection.cli.last_handler import run

if __name__ == "__main__":
    run("detection.cli", "app")
