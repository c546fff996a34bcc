"""The indexes of a store are rebuilt from scratch on request, and give the same answers as before."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.features.stores.store_services import store_services

from portico.wire import Progressed
from portico_server.core.principal import LOCAL
from portico_server.core.request import SearchResult
from portico_server.features.stores.contents import FileToAttach
from portico_server.settings import Settings


def texts(found: SearchResult) -> list[str]:
    return [passage.text for passage in found.passages]


@pytest.mark.asyncio
async def test_a_store_answers_as_before_after_a_reindex(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with store_services(home) as shop:
        store = await shop.stores.create("harbour", LOCAL)
        rows = [await shop.upload(f"{i}.txt", f"Berth {i} costs {i * 7} crowns. " * 30) for i in range(8)]
        rows.append(await shop.upload("bad.pdf", b"%PDF-1.4 no more"))
        await shop.stores.contents.attach(store, [FileToAttach(row.id) for row in rows], LOCAL)
        assert [file.status for file in await shop.settled(store)].count("failed") == 1
        _, run = await shop.stores.groups.add(store, "small", chunking={"type": "sentence", "size": 60})
        await shop.result(run)
        result_before = await shop.search(store, "berth costs 21 crowns")
        for path in (Settings(home=home).indexes / store.id).rglob("*.store"):
            path.write_bytes(b"damaged")

        run = await shop.stores.jobs.reindex(store)
        assert await shop.result(run) == {"groups": 2}
        assert texts(await shop.search(store, "berth costs 21 crowns")) == texts(result_before)

        run = await shop.stores.jobs.reindex(store, files=True)
        result = await shop.result(run)
        assert (result["indexed"], result["failed"], result["groups"]) == (8, 1, 2)
        assert any(
            isinstance(event, Progressed) and event.unit == "files" for event in await shop.events(run)
        )
        assert texts(await shop.search(store, "berth costs 21 crowns")) == texts(result_before)
