"""Chunks, vectors and the change log: written together, in order, all or nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.server.knowledge.store_fixture import STORE, StoreFixture, vector

from portico.wire import Place
from portico_server.core.errors import NotFound
from portico_server.db import changes, chunks, hits
from portico_server.db.changes import LogEntry
from portico_server.db.chunks import NewChunk
from portico_server.db.database import Database


@pytest.fixture
async def shelf(tmp_path: Path) -> Any:
    shelf = await StoreFixture(tmp_path).open()
    yield shelf
    await shelf.close()


def log(connection: Connection) -> list[LogEntry]:
    return changes.after(connection, STORE, 0, 100)


def new(*texts: str) -> list[NewChunk]:
    return [NewChunk(text, Place()) for text in texts]


async def test_a_file_and_its_change_are_written_together(shelf: StoreFixture) -> None:
    seq = await shelf.put("f1", "one", "two")
    assert await shelf.database.read(log) == [LogEntry(seq, "put", "f1", 1, 2)]
    assert await shelf.database.read(changes.last, STORE) == seq == 1
    assert [row.text for row in await shelf.database.read(chunks.of_file, STORE, "f1")] == ["one", "two"]
    assert await shelf.database.read(chunks.read_vectors, shelf.model, [1, 2]) == [
        (1, vector("one")),
        (2, vector("two")),
    ]


async def test_replacing_a_file_logs_what_went_before_what_came(shelf: StoreFixture) -> None:
    await shelf.put("f1", "one", "two")
    await shelf.put("f1", "three")
    assert (await shelf.database.read(log))[1:] == [
        LogEntry(2, "delete", "f1", 1, 2),
        LogEntry(3, "put", "f1", 3, 3),
    ]
    assert await shelf.database.read(chunks.count, STORE) == 1
    assert await shelf.database.read(chunks.read_vectors, shelf.model, [1, 2, 3]) == [(3, vector("three"))]


async def test_ids_are_never_used_again(shelf: StoreFixture) -> None:
    await shelf.put("f1", "one")
    await shelf.remove("f1")
    await shelf.put("f2", "two")
    assert list(await shelf.database.read(chunks.ids, STORE)) == [2]


async def test_removing_a_file_without_chunks_changes_nothing(shelf: StoreFixture) -> None:
    assert await shelf.remove("nothing") == 0
    assert await shelf.put("f1") == 0


async def test_a_huge_file_comes_in_pieces_and_goes_at_once(shelf: StoreFixture) -> None:
    await shelf.put("f1", "one", "two")
    await shelf.put("f2", "between")
    further = chunks.FileChunks("f1", new("three"), [vector("three")], first=False)
    await shelf.database.write(chunks.put, STORE, [further], shelf.model)
    rows = await shelf.database.read(chunks.of_file, STORE, "f1")
    assert [(row.ordinal, row.text) for row in rows] == [(0, "one"), (1, "two"), (2, "three")]
    assert await shelf.database.read(hits.ranges_of_files, STORE, ["f1"]) == [(1, 2), (4, 4)]
    await shelf.remove("f1")
    assert (await shelf.database.read(log))[3:] == [
        LogEntry(4, "delete", "f1", 1, 2),
        LogEntry(5, "delete", "f1", 4, 4),
    ]


async def test_nothing_is_written_to_a_store_that_is_gone(shelf: StoreFixture) -> None:
    with pytest.raises(NotFound):
        await shelf.database.write(chunks.replace_file, "vs_gone", "f1", new("one"))
    assert await shelf.database.read(chunks.count, "vs_gone") == 0


async def test_fewer_vectors_than_chunks_write_nothing(shelf: StoreFixture) -> None:
    with pytest.raises(ValueError, match="zip"):
        await shelf.database.write(
            chunks.replace_file, STORE, "f1", new("one", "two"), shelf.model, [vector("one")]
        )
    assert await shelf.database.read(chunks.count, STORE) == 0
    assert await shelf.database.read(changes.last, STORE) == 0


async def test_places_come_back_as_they_were(shelf: StoreFixture) -> None:
    place = Place(page=3, line=12, heading=("Install", "安装"), row=4, start=10, end=20)
    await shelf.database.write(
        chunks.replace_file, STORE, "f1", [NewChunk("one", place), NewChunk("two", Place())]
    )
    rows = await shelf.database.read(chunks.of_file, STORE, "f1")
    assert [row.place for row in rows] == [place, Place()]


async def test_hits_carry_the_name_and_the_attributes_of_their_file(shelf: StoreFixture) -> None:
    await shelf.put("f1", "one", attributes={"lang": "en"})
    await shelf.put("f2", "two")
    found = await shelf.database.read(hits.get, STORE, [1, 2, 99])
    assert {number: (hit.filename, dict(hit.attributes)) for number, hit in found.items()} == {
        1: ("f1.txt", {"lang": "en"}),
        2: ("f2.txt", {}),
    }


async def test_a_store_is_emptied(shelf: StoreFixture) -> None:
    await shelf.put("f1", "one", "two")
    await shelf.database.write(chunks.remove_store, STORE)
    assert await shelf.database.read(chunks.count, STORE) == 0
    assert await shelf.database.read(chunks.read_vectors, shelf.model, [1, 2]) == []


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.at(tmp_path / "empty.db")
    database.prepare()
    yield database
    database.close()


async def test_an_unknown_store_has_an_empty_log(database: Database) -> None:
    assert await database.read(changes.last, "vs_unknown") == 0
    assert await database.read(changes.newest, "vs_unknown") is None
