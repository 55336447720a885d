"""The fixtures of the room."""

from tests.detection.conftest import data, light, unbroken

__all__ = ["data", "light", "unbroken"]
