"""`python -m classification`: the verbs."""

from classification.cli import app

if __name__ == "__main__":
    app()
