"""Moving the vectors of a live store between the indexes: nothing is embedded again or lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests import postgres
from tests.server.features.stores.store_fixture import MODEL, LetterEmbedding
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Search, SearchResult
from portico_server.db import chunks, pgvector, store_index, stores
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.pgvector import PGVECTOR
from portico_server.db.store_index import EMBEDDED, QDRANT, IndexName
from portico_server.db.stores import StoreRow
from portico_server.features.stores import index_change
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.index.embedded import FOLDERS

ROOT = Path(__file__).parents[4]
TEXTS = {
    f"{number}.txt": text
    for number, text in enumerate(("The gull eats fish.", "The owl hunts at night.", "The wren sings."))
}


@pytest.fixture(scope="module")
def new_url() -> Iterator[Callable[[], str]]:
    with postgres.running_with_pgvector() as server:
        yield server.prepared()


@pytest.fixture
def url(new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the PostgreSQL database that the services of a test use."""
    url = new_url()
    monkeypatch.setattr(Database, "at", lambda _path: Database(url))
    return url


@pytest.fixture
async def shop(url: str, tmp_path: Path) -> AsyncIterator[StoreServices]:
    async with store_services(tmp_path / "home") as shop:
        yield shop


async def nearest(shop: StoreServices) -> list[str]:
    """Return the texts that vectors alone find, best first."""
    store = await shop.stores.get("book", LOCAL)
    request = Search("the owl hunts", ranker="vector")
    result = await shop.runner.call("search", f"store/{store.id}", request, LOCAL)
    assert isinstance(result, SearchResult)
    return [passage.text for passage in result.passages]


async def add(shop: StoreServices, store: StoreRow, name: str, text: str) -> None:
    file = await shop.upload(name, text)
    await shop.stores.contents.attach(store, [FileToAttach(file.id)], LOCAL)
    await shop.settled(store)


async def move(shop: StoreServices, index: IndexName) -> object:
    run = await shop.stores.jobs.move(await shop.stores.get("book", LOCAL), index)
    return None if run is None else await shop.result(run)


async def places(shop: StoreServices, store: StoreRow, home: Path) -> set[IndexName]:
    """Return the indexes beyond the embedded one, which has no files for few vectors, that have a store's vectors."""
    has_table = await shop.database.read(pgvector.has_table, store.id, DEFAULT_GROUP, MODEL)
    has_files = (home / "indexes" / store.id / FOLDERS[QDRANT]).exists()
    pairs: list[tuple[IndexName, bool]] = [(PGVECTOR, has_table), (QDRANT, has_files)]
    return {index for index, is_there in pairs if is_there}


@pytest.mark.slow
async def test_vectors_move_between_indexes_and_back_without_re_embedding(
    shop: StoreServices, tmp_path: Path
) -> None:
    pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")
    await shop.filled(TEXTS)
    nearest_before = await nearest(shop)
    shop.model.asked.clear()
    for index in (PGVECTOR, EMBEDDED, QDRANT, PGVECTOR, QDRANT, EMBEDDED):
        assert await move(shop, index) == {"moved": 3}
        store = await shop.stores.get("book", LOCAL)
        assert (store.index, store.next_index) == (index, None)
        assert await nearest(shop) == nearest_before
        assert await places(shop, store, tmp_path / "home") == {index} - {EMBEDDED}
        assert await move(shop, index) is None
    assert set(shop.model.asked) <= {"the owl hunts"}
    await shop.stores.delete(store.id, LOCAL)
    assert await places(shop, store, tmp_path / "home") == set()


@pytest.mark.slow
@pytest.mark.parametrize("index", [PGVECTOR, QDRANT])
async def test_a_new_store_finds_added_and_forgets_removed_files(
    shop: StoreServices, index: IndexName
) -> None:
    if index == QDRANT:
        pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")
    store = await shop.stores.create("book", LOCAL, index=index)
    for name, text in TEXTS.items():
        await add(shop, store, name, text)
    assert (await nearest(shop))[0] == "The owl hunts at night."
    [owl] = [row for row in await shop.settled(store) if row.filename == "1.txt"]
    await shop.stores.contents.detach(store, owl.file_id)
    assert "The owl hunts at night." not in await nearest(shop)
    assert await shop.result(await shop.stores.jobs.reindex(store)) == {"groups": 1}
    assert len(await nearest(shop)) == 2


async def test_the_store_answers_and_grows_while_its_vectors_move(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await shop.filled(TEXTS)
    monkeypatch.setattr(index_change, "MAX_BATCH_CHUNKS", 1)
    await shop.database.write(store_index.begin_move, store.id, PGVECTOR)
    await add(shop, store, "late.txt", "The owl sleeps by day.")
    assert len(await nearest(shop)) == 4
    assert await move(shop, PGVECTOR) == {"moved": 4}
    assert len(await nearest(shop)) == 4


async def test_a_move_to_another_index_can_be_cancelled(shop: StoreServices) -> None:
    store = await shop.filled(TEXTS)
    await shop.database.write(store_index.begin_move, store.id, PGVECTOR)
    await shop.database.write(pgvector.put, await shop.database.read(chunks.ids, store.id))
    assert await move(shop, EMBEDDED) is None
    store = await shop.stores.get("book", LOCAL)
    assert (store.index, store.next_index) == (EMBEDDED, None)
    assert not await shop.database.read(pgvector.has_table, store.id, DEFAULT_GROUP, MODEL)


async def test_a_model_change_replaces_the_vectors_in_pgvector(shop: StoreServices) -> None:
    longer_model = LetterEmbedding()
    longer_model.card = replace(longer_model.card, name="longer")
    longer_model.dimensions = 48
    shop.registry.add(longer_model)
    store = await shop.filled(TEXTS)
    await move(shop, PGVECTOR)
    await shop.result(await shop.stores.jobs.change_model(store, "longer"))
    assert (await nearest(shop))[0] == "The owl hunts at night."
    for model, is_there in ((MODEL, False), ("longer", True)):
        assert await shop.database.read(pgvector.has_table, store.id, DEFAULT_GROUP, model) is is_there


async def test_sqlite_refuses_pgvector(tmp_path: Path) -> None:
    async with store_services(tmp_path / "home") as shop:
        if shop.database.postgres is not None:
            return
        store = await shop.filled(TEXTS)
        with pytest.raises(InvalidRequest, match="portico migrate"):
            await shop.stores.jobs.move(store, PGVECTOR)
        await shop.database.write(stores.change, store.id, {"index": PGVECTOR, "next_index": EMBEDDED})
    async with store_services(tmp_path / "home") as shop:  # as after a migration from PostgreSQL
        store = await shop.stores.get("book", LOCAL)
        assert (store.index, store.next_index) == (EMBEDDED, None)
        with pytest.raises(InvalidRequest, match="portico migrate"):
            await shop.stores.create("second", LOCAL, index=PGVECTOR)


async def test_qdrant_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_index, "find_spec", lambda _name: None)
    async with store_services(tmp_path / "home") as shop:
        store = await shop.filled(TEXTS)
        with pytest.raises(InvalidRequest, match="needs a package"):
            await shop.stores.jobs.move(store, QDRANT)


@pytest.mark.process
@pytest.mark.slow
async def test_a_repeatedly_killed_move_loses_no_vectors(url: str, tmp_path: Path) -> None:
    """A move that is killed at each of its events, over and over, ends with every vector."""
    home = tmp_path / "home"
    async with store_services(home) as shop:
        store = await shop.filled({f"{number}.txt": f"Bird {number} sings." for number in range(20)})
        nearest_before = await nearest(shop)
    pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")
    for index in (PGVECTOR, QDRANT, EMBEDDED):
        for lines in (1, 4, 9, 16):
            await asyncio.to_thread(moved, url, home, index, lines)
        assert await asyncio.to_thread(moved, url, home, index, None)
        async with store_services(home) as shop:
            assert (await shop.stores.get("book", LOCAL)).index == index
            assert await nearest(shop) == nearest_before
            assert await shop.database.read(chunks.count, store.id) == 20


def moved(url: str, home: Path, index: IndexName, lines: int | None) -> bool:
    """Move until that many lines were read, then kill; return whether it was done before."""
    command = [sys.executable, "-m", "tests.server.features.stores.moving", url, str(home), index]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for count, line in enumerate(child.stdout, start=1):
            if line.strip() == "done":
                return True
            if count == lines:
                child.kill()
                return False
        assert child.stderr is not None
        raise AssertionError(child.stderr.read())
