"""A served house for each module here, with no model or app in it when a test begins."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.porch import Porch, porch


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Porch]:
    async with porch(tmp_path_factory.mktemp("house"), max_body_mb=1) as served:
        yield served


@pytest.fixture
def emptied(house: Porch) -> Porch:
    for servable in list(house.parts.registry):
        if servable.card.kind in ("model", "app"):
            house.parts.registry.remove(servable.card.key)
    return house
