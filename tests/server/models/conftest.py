"""Models for each test, and the bundled small model for each module."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests import children

from portico.testing.model_fixture import ModelFixture, model_fixture

MODELS = Path(os.environ.get("PORTICO_TEST_MODELS") or Path(__file__).parents[3] / ".portico-test" / "models")


@pytest.fixture(autouse=True)
def _counted() -> None:
    """Count processes from the beginning of each test."""
    children.mark()


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path) as fixture:
        yield fixture
