"""A process that reads documents for each test module that needs one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.server.features.readers.reading import Reading

from portico_server.features.readers.pool import ReaderPool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make tests that share the readers share the readers' event loop."""
    for item in items:
        if isinstance(item, pytest.Function) and "readers" in item.fixturenames:
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def readers() -> AsyncIterator[ReaderPool]:
    readers = ReaderPool(workers=1, seconds=30, memory=2**31)
    yield readers
    await readers.close()


@pytest.fixture
def read(readers: ReaderPool, tmp_path: Path) -> Reading:
    return Reading(readers, tmp_path)
