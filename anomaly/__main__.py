"""`python -m anomaly`: the verbs."""

from anomaly.cli import app

if __name__ == "__main__":
    app()
