"""The fixtures of the room."""

from tests.anomaly.conftest import product, runs, shared_product

__all__ = ["product", "runs", "shared_product"]
