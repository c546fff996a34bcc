"""Models for each test, as in the tests of models."""

from tests.server.models.conftest import models

__all__ = ["models"]
