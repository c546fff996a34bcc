"""Models for each test, and the count of processes, as in the tests of models."""

from tests.server.models.conftest import _counted, models

__all__ = ["_counted", "models"]
