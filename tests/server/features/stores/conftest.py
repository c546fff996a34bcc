"""Services of stores for each test, and the process that reads documents, as in the tests of readers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.features.readers.conftest import pytest_collection_modifyitems, read, readers
from tests.server.features.stores.store_services import StoreServices, store_services

__all__ = ["pytest_collection_modifyitems", "read", "readers"]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[StoreServices]:
    async with store_services(tmp_path / "home") as shop:
        yield shop
