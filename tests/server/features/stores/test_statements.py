"""The statements that a search of a store and a chat with its app run on the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests import postgres
from tests.registry_fixture import FixedModel
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat, ChatReply, Search, SearchResult
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.features.answers.store_apps import StoreApps

TEXTS = {f"{name}.md": f"The harbour of {name} opened in 1931." for name in ("Alba", "Brest", "Cadiz")}


class Writers:
    """Trusts each model to write."""

    async def way(self, _card: Card) -> str:
        return "write"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreServices]:
    if request.param == "sqlite":
        async with store_services(tmp_path / "home") as services:
            yield services
        return
    with postgres.running() as server:
        async with store_services(tmp_path / "home", postgres_url=server.new()) as services:
            yield services


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that single statements read, and the names of functions that read in a transaction."""
    recorded: list[str] = []
    fetch, read = Database.fetch, Database.read

    async def recorded_fetch(database: Database, query: Any, **values: Any) -> Any:
        recorded.append(query._query.get_final_froms()[0].description)
        return await fetch(database, query, **values)

    async def recorded_read(database: Database, function: Any, *arguments: Any, **options: Any) -> Any:
        name = (function.func if isinstance(function, partial) else function).__name__
        if name != "_rows_of":  # a single statement in a thread
            recorded.append(name)
        return await read(database, function, *arguments, **options)

    monkeypatch.setattr(Database, "fetch", recorded_fetch)
    monkeypatch.setattr(Database, "read", recorded_read)
    return recorded


async def test_a_search_reads_the_store_and_the_hits(shop: StoreServices, statements: list[str]) -> None:
    store = await shop.filled(TEXTS)
    await shop.search(store, "When did the harbour of Brest open?")
    statements.clear()
    row = await shop.stores.get("book", LOCAL)
    servable = shop.stores.served.servable(row)
    run = await shop.runner.start("search", "store/book", Search("When did Alba open?"), LOCAL, servable)
    result = await shop.runner.wait(run)
    assert isinstance(result, SearchResult) and result.passages[0].filename == "Alba.md"
    assert len(statements) == 2, statements


async def test_a_chat_reads_the_store_once(shop: StoreServices, statements: list[str]) -> None:
    shop.registry.add_source(StoreApps(shop.registry, Writers()))  # type: ignore[arg-type]
    model = FixedModel("Ships came to Brest in 1931.")
    shop.registry.add(model)
    shop.registry.aliases.set("default", model.card.name)
    store = await shop.filled(TEXTS)
    await shop.stores.update("book", LOCAL, {"app": True, "answers": "write"})
    await shop.search(store, "When did the harbour of Brest open?")
    question = "When did the harbour of Brest open?"
    statements.clear()
    reply = await shop.runner.call("chat", "book", Chat(({"role": "user", "content": question},), {}), LOCAL)
    assert isinstance(reply, ChatReply) and reply.content == "Ships came to Brest in 1931."
    assert len(statements) == 4, statements
