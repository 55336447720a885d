"""The fixtures of the room."""

from tests.detection.conftest import data, light, unbroken
from tests.journeys.detection.desktop import desktop

__all__ = ["data", "desktop", "light", "unbroken"]
