"""A served registry for each module of this folder, without models or apps when a test begins."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("house"), max_body_mb=1) as server:
        yield server


@pytest.fixture
def emptied(served: ApiServer) -> ApiServer:
    for servable in list(served.services.registry):
        if servable.card.kind in ("model", "app"):
            served.services.registry.remove(servable.card.key)
    return served
