"""Which store has a name when calls change stores at the same time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.server.features.stores.store_services import StoreServices

from portico_server.core.errors import NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.db import stores as rows
from portico_server.features.stores.store_claims import StoreClaims


async def test_a_change_based_on_an_earlier_name_keeps_the_new_name(shop: StoreServices) -> None:
    original_store = await shop.stores.create("papers", LOCAL)
    await shop.stores.update("papers", LOCAL, {"name": "drafts"})
    claims = StoreClaims(shop.database, shop.registry)
    await claims.change(original_store, replace(original_store, description="Old"), {"description": "Old"})
    updated_store = await shop.stores.get("drafts", LOCAL)
    assert (updated_store.id, updated_store.description) == (original_store.id, "Old")
    with pytest.raises(NotFound):
        await shop.stores.get("papers", LOCAL)
    assert (await shop.stores.create("papers", LOCAL)).id != original_store.id


async def test_an_heir_of_a_name_renamed_concurrently_keeps_its_new_name(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = Principal("key_alice", frozenset({"stores:*:manage"}))
    store, heir = [await shop.stores.create("papers", alice, unique=False) for _ in range(2)]
    read = shop.database.read

    async def interleaved(function: Any, *arguments: Any, **options: Any) -> Any:
        result = await read(function, *arguments, **options)
        if function is rows.oldest_titled:
            await shop.stores.update(heir.id, alice, {"name": "drafts"})
        return result

    monkeypatch.setattr(shop.database, "read", interleaved)
    await shop.stores.delete(store.id, alice)
    assert (await shop.stores.get("drafts", alice)).id == heir.id
    with pytest.raises(NotFound):
        await shop.stores.get("papers", alice)
