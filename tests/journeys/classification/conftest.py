"""The fixtures of the room."""

from tests.classification.conftest import labelled, run, shared_run, shared_set

__all__ = ["labelled", "run", "shared_run", "shared_set"]
