"""`python -m anomaly`: the verbs."""

from inspection.cli.last_handler import run

if __name__ == "__main__":
    run("anomaly.cli", "app")
