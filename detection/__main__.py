"""`python -m detection`: the verbs."""

from detection.cli import app

if __name__ == "__main__":
    app()
