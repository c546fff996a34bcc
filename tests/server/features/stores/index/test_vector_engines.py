"""What every engine for vectors does: the same tests for the embedded one, Qdrant, and pgvector on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection
from tests import postgres

from portico.wire import Place
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.db import chunk_vectors, chunks, pgvector, store_index, stores
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.chunks import FileChunks, NewChunk
from portico_server.db.database import Database
from portico_server.db.pgvector import PGVECTOR
from portico_server.db.store_index import EMBEDDED, QDRANT, IndexName
from portico_server.db.stores import StoreRow
from portico_server.features.stores.index.embedded import EmbeddedVectors
from portico_server.features.stores.index.pgvector import PgVectors
from portico_server.features.stores.index.vector_engine import VectorEngine

STORE = "vs_0123456789abcdef0123456789abcdef"
MODEL = "letters"
SIZE = 16
PRECISION = 2e-3
"""Maximum error of a cosine of numbers with 16 bits."""

Floats = NDArray[np.float32]


def some(number: int, size: int = SIZE, seed: int = 0) -> Floats:
    data = np.random.default_rng(seed).standard_normal((number, size)).astype(np.float32)
    return data / np.linalg.norm(data, axis=1, keepdims=True)


@dataclass
class Shelf:
    """A store on one database, and an engine over it."""

    database: Database
    index: IndexName
    folder: Path

    def open(self, group: str = DEFAULT_GROUP, model: str = MODEL) -> VectorEngine:
        if self.index == PGVECTOR:
            return PgVectors(self.database, STORE, group, model)
        return EmbeddedVectors(self.database, STORE, group, model, self.folder / group, self.index)

    async def put(self, file: str, data: Floats, group: str = DEFAULT_GROUP, model: str = MODEL) -> list[int]:
        """Replace the chunks of a file, and return the ids of the new ones."""
        new = [NewChunk(f"text {number}", Place(start=number)) for number in range(len(data))]
        piece = FileChunks(file, new, [row.astype("<f4").tobytes() for row in data])

        def write(connection: Connection) -> list[int]:
            chunks.put(connection, STORE, [piece], model, group=group)
            rows = chunks.of_file(connection, STORE, file, limit=100_000, group=group)
            return [row.id for row in rows]

        return await self.database.write(write)

    async def search(
        self,
        vector: Floats,
        limit: int = 5,
        ranges: Sequence[tuple[int, int]] | None = None,
        group: str = DEFAULT_GROUP,
        model: str = MODEL,
    ) -> list[tuple[int, float]]:
        """Return the hits of a new engine."""
        engine = self.open(group, model)
        try:
            await engine.catch_up()
            return await engine.search(vector.tobytes(), limit, ranges)
        finally:
            await engine.close()


@pytest.fixture(scope="module")
def new_url() -> Iterator[Callable[[], str]]:
    """A function that returns the URL of a new database of a PostgreSQL with pgvector."""
    with postgres.running_with_pgvector() as server:
        yield server.prepared()


@pytest.fixture(params=[EMBEDDED, QDRANT, PGVECTOR])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    index: IndexName = request.param
    url = f"sqlite:///{tmp_path / 'portico.db'}"
    if index == PGVECTOR:
        url = request.getfixturevalue("new_url")()
    if index == QDRANT:
        pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")
    database = Database(url)
    database.prepare()
    await database.write(store_index.require, index)
    await database.write(stores.add, row(index))
    yield Shelf(database, index, tmp_path / "index")
    database.close()


def row(index: IndexName) -> StoreRow:
    return StoreRow(STORE, "shelf", "", None, None, False, MODEL, {}, None, 0.0, 0.0, index=index)


async def test_the_nearest_come_first_with_their_cosines(shelf: Shelf) -> None:
    data = some(50)
    ids = await shelf.put("f1", data)
    truth = sorted(((float(data[i] @ data[7]), ids[i]) for i in range(50)), reverse=True)[:5]
    hits = await shelf.search(data[7])
    assert hits == [(chunk, pytest.approx(score, abs=PRECISION)) for score, chunk in truth]


async def test_an_empty_index_returns_no_hits(shelf: Shelf) -> None:
    engine = shelf.open()
    await engine.catch_up()
    assert not engine.has_vectors
    assert await engine.search(some(1)[0].tobytes(), 5, None) == []
    await shelf.put("f1", some(1))
    await engine.catch_up()
    assert engine.has_vectors
    assert len(await engine.search(some(1)[0].tobytes(), 5, None)) == 1
    await engine.close()


async def test_replaced_and_removed_chunks_are_gone(shelf: Shelf) -> None:
    data = some(30)
    await shelf.put("f1", data[:10])
    second_chunks = await shelf.put("f2", data[10:20])
    new = await shelf.put("f1", data[20:])
    assert sorted(chunk for chunk, _ in await shelf.search(data[0], 100)) == sorted([*second_chunks, *new])
    await shelf.database.write(chunks.remove_file, STORE, "f2")
    assert sorted(chunk for chunk, _ in await shelf.search(data[0], 100)) == new
    await shelf.database.write(chunks.empty_store, STORE)
    assert await shelf.search(data[0], 100) == []


@pytest.mark.parametrize("exact", [10_000, 0], ids=["each permitted vector", "a graph"])
@pytest.mark.parametrize(
    "permitted",
    [
        pytest.param(lambda ids: [(ids[9], ids[11]), (ids[39], ids[39]), (10**6, 10**6 + 9)], id="few"),
        pytest.param(lambda ids: [(chunk, chunk) for chunk in ids[::50]], id="one of fifty"),
        pytest.param(lambda ids: [(ids[100], ids[-1])], id="most"),
        pytest.param(lambda ids: [], id="none"),
    ],
)
async def test_only_permitted_chunks_are_searched(
    shelf: Shelf,
    permitted: Callable[[list[int]], list[tuple[int, int]]],
    exact: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pgvector, "MAX_EXACT_CHUNKS", exact)
    data = some(1_000)
    ids = await shelf.put("f1", data)
    ranges = permitted(ids)
    inside = [i for i in range(1_000) if any(first <= ids[i] <= last for first, last in ranges)]
    truth = sorted((-float(data[i] @ data[7]), ids[i]) for i in inside)[:10]
    hits = await shelf.search(data[7], 10, ranges)
    assert [chunk for chunk, _ in hits] == [chunk for _, chunk in truth]


async def test_vectors_of_groups_and_models_are_separate(shelf: Shelf) -> None:
    data = some(3)
    [first] = await shelf.put("f1", data[:1])
    [second] = await shelf.put("f1", data[1:2], group="sums")
    [third] = await shelf.put("f1", data[2:], group="sums", model="other")
    for group, model, chunk in ((DEFAULT_GROUP, MODEL, first), ("sums", "other", third)):
        assert [chunk_id for chunk_id, _ in await shelf.search(data[0], group=group, model=model)] == [chunk]
    assert second not in [chunk_id for chunk_id, _ in await shelf.search(data[0], group="sums")]
    await shelf.database.write(chunks.remove_group, STORE, "sums")
    assert [chunk_id for chunk_id, _ in await shelf.search(data[0])] == [first]


async def test_vectors_of_the_next_model_are_searchable_before_the_switch(shelf: Shelf) -> None:
    [chunk] = await shelf.put("f1", some(1))
    await shelf.database.write(chunk_vectors.add_vectors, "next", {chunk: some(1, 8)[0].tobytes()})
    assert await shelf.search(some(1, 8)[0], model="next") == [(chunk, pytest.approx(1, abs=PRECISION))]


async def test_a_query_vector_of_another_length_is_refused(shelf: Shelf) -> None:
    await shelf.put("f1", some(3))
    with pytest.raises(Conflict, match="another model"):
        await shelf.search(some(1, 8)[0])


async def test_deleting_a_store_removes_its_vectors(shelf: Shelf) -> None:
    await shelf.put("f1", some(3))
    await shelf.database.write(stores.delete_store, STORE)
    if shelf.index == PGVECTOR:
        assert not await shelf.database.read(pgvector.has_table, STORE, DEFAULT_GROUP, MODEL)
    assert await shelf.database.read(chunks.count, STORE) == 0


async def test_pgvector_needs_postgresql(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    try:
        if database.postgres is None:
            with pytest.raises(InvalidRequest, match="is SQLite"):
                await database.write(store_index.require, PGVECTOR)
    finally:
        database.close()


@pytest.mark.slow
async def test_pgvector_needs_its_extension() -> None:
    with postgres.running() as plain:
        database = Database(plain.new())
        database.prepare()
        try:
            with pytest.raises(InvalidRequest, match="install pgvector"):
                await database.write(store_index.require, PGVECTOR)
        finally:
            database.close()
