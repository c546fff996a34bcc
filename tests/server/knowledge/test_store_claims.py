"""Which store has a name when calls change stores at the same time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.server.knowledge.store_services import StoreServices

from portico_server.core.errors import NotFound
from portico_server.core.principal import LOCAL
from portico_server.knowledge.store_claims import StoreClaims


async def test_a_change_that_began_before_a_rename_keeps_the_new_name(shop: StoreServices) -> None:
    before = await shop.stores.create("papers", LOCAL)
    await shop.stores.update("papers", LOCAL, {"name": "drafts"})
    claims = StoreClaims(shop.database, shop.registry)
    await claims.change(before, replace(before, description="Old"), {"description": "Old"})
    changed = await shop.stores.get("drafts", LOCAL)
    assert (changed.id, changed.description) == (before.id, "Old")
    with pytest.raises(NotFound):
        await shop.stores.get("papers", LOCAL)
    assert (await shop.stores.create("papers", LOCAL)).id != before.id
