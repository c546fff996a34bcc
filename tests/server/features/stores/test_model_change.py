"""Changing the embedding model of a live store: built in the background, switched at once, resumed when interrupted."""

import asyncio
import math
from array import array
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import postgres
from tests.server.features.stores.store_fixture import LetterEmbedding
from tests.server.features.stores.store_services import StoreServices, store_services

from portico.wire import Failed
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Embed, Request, Search, SearchResult, Vectors
from portico_server.db import chunk_vectors, chunks
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.stores import StoreRow
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.model_change import ModelChange

OTHER = "longer letters"


def other() -> LetterEmbedding:
    model = LetterEmbedding()
    model.card = replace(model.card, name=OTHER)
    model.dimensions = 48
    return model


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[StoreServices]:
    async with store_services(tmp_path / "home") as shop:
        shop.registry.add(other())
        yield shop


async def stocked(shop: StoreServices) -> StoreRow:
    store = await shop.stores.create("birds", LOCAL)
    for i, text in enumerate(("The gull eats fish.", "The owl hunts at night.", "The wren sings.")):
        file = await shop.upload(f"{i}.txt", text)
        await shop.stores.contents.attach(store, [FileToAttach(file.id)], LOCAL)
    await shop.settled(store)
    return store


async def nearest(shop: StoreServices, store: StoreRow) -> str:
    request = Search("the owl hunts", ranker="vector")
    result = await shop.runner.call("search", f"store/{store.id}", request, LOCAL)
    assert isinstance(result, SearchResult)
    return result.passages[0].text


async def lengths(shop: StoreServices, store: StoreRow, model: str) -> set[int]:
    """Return the dimensions of the store's vectors of a model."""
    ids = await shop.database.read(chunks.ids, store.id)
    return {len(data) // 4 for _, data in await shop.database.read(chunk_vectors.read_vectors, model, ids)}


async def test_a_model_change_replaces_all_vectors(shop: StoreServices) -> None:
    store = await stocked(shop)
    assert await nearest(shop, store) == "The owl hunts at night."
    assert await shop.result(await shop.stores.jobs.change_model(store, OTHER)) == {"embedded": 3}
    updated_store = await shop.stores.get("birds", LOCAL)
    assert (updated_store.embedding_model, updated_store.next_embedding_model) == (OTHER, None)
    assert await nearest(shop, store) == "The owl hunts at night."
    assert await lengths(shop, store, OTHER) == {48}
    assert await lengths(shop, store, store.embedding_model) == set()
    file = await shop.upload("late.txt", "The heron waits.")
    await shop.stores.contents.attach(updated_store, [FileToAttach(file.id)], LOCAL)
    await shop.settled(updated_store)
    assert (
        len(
            await shop.database.read(
                chunk_vectors.chunks_without_vector, OTHER, await shop.database.read(chunks.ids, store.id)
            )
        )
        == 0
    )


async def test_a_store_can_drop_its_vectors_and_embed_them_again(shop: StoreServices) -> None:
    store = await stocked(shop)
    await shop.result(await shop.stores.jobs.change_model(store, ""))
    with pytest.raises(InvalidRequest, match="no vectors"):
        await nearest(shop, store)
    await shop.result(await shop.stores.jobs.change_model(store, OTHER))
    assert await nearest(shop, store) == "The owl hunts at night."


async def test_replacing_a_model_moves_only_its_own_stores(shop: StoreServices) -> None:
    moving = await stocked(shop)
    without = await shop.stores.create("plain", LOCAL, embedding_model="")
    [run] = await shop.stores.jobs.replace_model(moving.embedding_model, OTHER)
    assert await shop.result(run) == {"embedded": 3}
    assert await shop.stores.jobs.replace_model(moving.embedding_model, OTHER) == []
    models = [(await shop.stores.get(row.name, LOCAL)).embedding_model for row in (moving, without)]
    assert models == [OTHER, ""]


async def test_a_text_longer_than_the_models_context_has_the_mean_of_its_parts(shop: StoreServices) -> None:
    class ShortSighted(LetterEmbedding):
        async def call(self, request: Request, context: Any) -> Vectors:
            if isinstance(request, Embed) and any(len(text) > 15 for text in request.input):
                raise InvalidRequest("too long", code="context_length_exceeded", param="input")
            return await super().call(request, context)

    model = ShortSighted()
    model.card = replace(model.card, name="short")
    shop.registry.add(model)
    store = await stocked(shop)
    assert await shop.result(await shop.stores.jobs.change_model(store, "short")) == {"embedded": 3}
    assert await nearest(shop, await shop.stores.get("birds", LOCAL)) == "The owl hunts at night."
    ids = await shop.database.read(chunks.ids, store.id)
    for _, data in await shop.database.read(chunk_vectors.read_vectors, "short", ids):
        assert math.hypot(*array("f", data)) == pytest.approx(1)


@pytest.mark.slow
async def test_the_old_vectors_answer_when_the_new_model_fails(shop: StoreServices) -> None:
    store = await stocked(shop)
    failing_model = other()
    failing_model.broken = True
    shop.registry.add(failing_model, replace=True)
    events = await shop.events(await shop.stores.jobs.change_model(store, OTHER))
    assert isinstance(events[-1], Failed)
    assert await nearest(shop, store) == "The owl hunts at night."


async def test_an_interrupted_model_change_continues_at_the_next_start(tmp_path: Path) -> None:
    async with store_services(tmp_path / "home") as first:
        store = await stocked(first)
        await first.database.write(rows.change, store.id, {"next_embedding_model": OTHER})
        ids = list(await first.database.read(chunks.ids, store.id))
        await first.database.write(chunk_vectors.add_vectors, OTHER, {ids[0]: b"\0" * 192, 99: b"\0" * 192})
    async with store_services(tmp_path / "home") as second:
        # Its run was queued before the model existed: a failed embedding is retried.
        second.registry.add(other())
        results = [await second.result(run) for run in second.begun]
        assert {"embedded": 2} in results
        assert (await second.stores.get("birds", LOCAL)).embedding_model == OTHER


async def test_changing_to_an_unknown_embedding_model_is_refused(shop: StoreServices) -> None:
    store = await stocked(shop)
    with pytest.raises(InvalidRequest, match="not an available embedding model"):
        await shop.stores.jobs.change_model(store, "psychic")


@pytest.mark.slow
async def test_files_that_another_daemon_indexes_meanwhile_get_the_new_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held(LetterEmbedding):
        """A model whose first call waits for ``hold``."""

        def __init__(self) -> None:
            super().__init__()
            self.is_called, self.hold = asyncio.Event(), asyncio.Event()

        async def call(self, request: Request, context: Any) -> Vectors:
            self.is_called.set()
            await self.hold.wait()
            return await super().call(request, context)

    with postgres.running() as server:
        url = server.new()
        monkeypatch.setattr(Database, "at", lambda _path: Database(url))
        files = str(tmp_path / "files")
        async with (
            store_services(tmp_path / "one", files=files) as first_shop,
            store_services(tmp_path / "two", files=files) as two,
        ):
            blocked_model, is_waiting, exclusive = Held(), asyncio.Event(), two.database.exclusive

            def observed(name: str, **options: Any) -> AbstractAsyncContextManager[bool]:
                is_waiting.set()
                return exclusive(name, **options)

            async def index(context: Context) -> Any:
                return await first_shop.stores.ingest.run(store, context)

            async def change(context: Context) -> Any:
                row = await two.database.read(rows.get, store.id)
                assert row is not None
                return await ModelChange(two.database, two.stores.ingest).run(row, context)

            first_shop.registry.add(blocked_model, replace=True)
            two.registry.add(other())
            store = await first_shop.stores.create("birds", LOCAL)
            file = await first_shop.upload("owl.txt", "The owl hunts at night.")
            await first_shop.database.write(rows.attach, store.id, file.id, {}, {"type": "auto"})
            indexing = await first_shop.runner.begin("index", "birds", LOCAL, index)
            await blocked_model.is_called.wait()
            await first_shop.database.write(rows.change, store.id, {"next_embedding_model": OTHER})
            monkeypatch.setattr(two.database, "exclusive", observed)
            changing = await two.runner.begin("change", "birds", LOCAL, change)
            end = asyncio.create_task(two.runner.wait(changing))
            end.add_done_callback(lambda _end: is_waiting.set())
            await is_waiting.wait()
            blocked_model.hold.set()
            await asyncio.gather(first_shop.runner.wait(indexing), end)
            ids = await first_shop.database.read(chunks.ids, store.id)
            assert len(ids) == 1
            assert await first_shop.database.read(chunk_vectors.chunks_without_vector, OTHER, ids) == []
