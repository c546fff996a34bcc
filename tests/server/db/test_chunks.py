"""Chunks, vectors and the change log: written together, in order, all or nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.server.features.stores.store_fixture import STORE, StoreFixture, vector

from portico.wire import Place
from portico_server.core.errors import NotFound
from portico_server.db import changes, chunk_vectors, chunks, hits
from portico_server.db.changes import LogEntry
from portico_server.db.chunks import NewChunk
from portico_server.db.database import Database


@pytest.fixture
async def stocked(tmp_path: Path) -> Any:
    stocked = await StoreFixture(tmp_path).open()
    yield stocked
    await stocked.close()


def log(connection: Connection) -> list[LogEntry]:
    return changes.list_after(connection, STORE, 0, 100)


def new(*texts: str) -> list[NewChunk]:
    return [NewChunk(text, Place()) for text in texts]


async def test_the_chunks_of_a_file_and_its_log_entry_are_written_together(stocked: StoreFixture) -> None:
    seq = await stocked.put("f1", "one", "two")
    assert await stocked.database.read(log) == [LogEntry(seq, "put", "f1", 1, 2)]
    assert await stocked.database.read(changes.last, STORE) == seq == 1
    assert [row.text for row in await stocked.database.read(chunks.of_file, STORE, "f1")] == ["one", "two"]
    assert await stocked.database.read(chunk_vectors.read_vectors, stocked.model, [1, 2]) == [
        (1, vector("one")),
        (2, vector("two")),
    ]


async def test_replacing_a_file_logs_the_deletion_before_the_new_chunks(stocked: StoreFixture) -> None:
    await stocked.put("f1", "one", "two")
    await stocked.put("f1", "three")
    assert (await stocked.database.read(log))[1:] == [
        LogEntry(2, "delete", "f1", 1, 2),
        LogEntry(3, "put", "f1", 3, 3),
    ]
    assert await stocked.database.read(chunks.count, STORE) == 1
    assert await stocked.database.read(chunk_vectors.read_vectors, stocked.model, [1, 2, 3]) == [
        (3, vector("three"))
    ]


async def test_ids_are_never_used_again(stocked: StoreFixture) -> None:
    await stocked.put("f1", "one")
    await stocked.remove("f1")
    await stocked.put("f2", "two")
    assert list(await stocked.database.read(chunks.ids, STORE)) == [2]


async def test_removing_a_file_without_chunks_changes_nothing(stocked: StoreFixture) -> None:
    assert await stocked.remove("nothing") == 0
    assert await stocked.put("f1") == 0


async def test_a_file_written_in_several_parts_is_removed_at_once(stocked: StoreFixture) -> None:
    await stocked.put("f1", "one", "two")
    await stocked.put("f2", "between")
    further = chunks.FileChunks("f1", new("three"), [vector("three")], first=False)
    await stocked.database.write(chunks.put, STORE, [further], stocked.model)
    rows = await stocked.database.read(chunks.of_file, STORE, "f1")
    assert [(row.ordinal, row.text) for row in rows] == [(0, "one"), (1, "two"), (2, "three")]
    assert await stocked.database.read(hits.ranges_of_files, STORE, ["f1"]) == [(1, 2), (4, 4)]
    await stocked.remove("f1")
    assert (await stocked.database.read(log))[3:] == [
        LogEntry(4, "delete", "f1", 1, 2),
        LogEntry(5, "delete", "f1", 4, 4),
    ]


async def test_writing_chunks_to_a_deleted_store_is_refused(stocked: StoreFixture) -> None:
    with pytest.raises(NotFound):
        await stocked.database.write(chunks.put, "vs_gone", [chunks.FileChunks("f1", new("one"))])
    assert await stocked.database.read(chunks.count, "vs_gone") == 0


async def test_fewer_vectors_than_chunks_write_nothing(stocked: StoreFixture) -> None:
    with pytest.raises(ValueError, match="zip"):
        await stocked.database.write(
            chunks.put, STORE, [chunks.FileChunks("f1", new("one", "two"), [vector("one")])], stocked.model
        )
    assert await stocked.database.read(chunks.count, STORE) == 0
    assert await stocked.database.read(changes.last, STORE) == 0


async def test_chunk_places_survive_a_round_trip_through_the_database(stocked: StoreFixture) -> None:
    place = Place(page=3, line=12, heading=("Install", "安装"), row=4, start=10, end=20)
    await stocked.database.write(
        chunks.put, STORE, [chunks.FileChunks("f1", [NewChunk("one", place), NewChunk("two", Place())])]
    )
    rows = await stocked.database.read(chunks.of_file, STORE, "f1")
    assert [row.place for row in rows] == [place, Place()]


async def test_hits_carry_the_name_and_the_attributes_of_their_file(stocked: StoreFixture) -> None:
    await stocked.put("f1", "one", attributes={"lang": "en"})
    await stocked.put("f2", "two")
    hits_by_number = await stocked.database.read(hits.get, STORE, [1, 2, 99])
    assert {number: (hit.filename, dict(hit.attributes)) for number, hit in hits_by_number.items()} == {
        1: ("f1.txt", {"lang": "en"}),
        2: ("f2.txt", {}),
    }


async def test_removing_a_store_deletes_its_chunks_and_vectors(stocked: StoreFixture) -> None:
    await stocked.put("f1", "one", "two")
    await stocked.database.write(chunks.remove_store, STORE)
    assert await stocked.database.read(chunks.count, STORE) == 0
    assert await stocked.database.read(chunk_vectors.read_vectors, stocked.model, [1, 2]) == []


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.at(tmp_path / "empty.db")
    database.prepare()
    yield database
    database.close()


async def test_an_unknown_store_has_an_empty_log(database: Database) -> None:
    assert await database.read(changes.last, "vs_unknown") == 0
    assert await database.read(changes.newest, "vs_unknown") is None
