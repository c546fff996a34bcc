"""Copies of a database in use, and space that returns to the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from portico_server.db import snapshot
from portico_server.db.database import Database


def fill(connection: Connection) -> None:
    rows = [{"n": str(number), "v": "x" * 4_000} for number in range(2_000)]
    connection.execute(text("insert into aliases values (:n, :v)"), rows)


def empty(connection: Connection) -> None:
    connection.execute(text("delete from aliases"))


@pytest.mark.slow
async def test_a_new_database_is_vacuumed_in_small_steps_between_other_writes(
    tmp_path: Path,
) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    await database.vacuum()
    size_before = (tmp_path / "portico.db").stat().st_size
    row = "insert into aliases values ('some', :v)"
    await database.write(lambda c: c.execute(text(row), {"v": "x" * 800_000}) and None)
    assert await database.vacuum() is None, "nothing is free"
    assert (tmp_path / "portico.db").stat().st_size > size_before + 700_000, "as large as what is in it"
    await database.write(fill)
    await database.write(empty)
    assert await database.vacuum(worth_bytes=100_000_000) is None, "not worth it"
    going = asyncio.create_task(database.vacuum(convert=False))
    for number in range(10):
        await database.write(
            lambda c, n=number: c.execute(text(f"insert into aliases values ('{n}', 'x')")) and None
        )
    done = await going
    assert done is not None and not done.converted
    assert done.freed > 7_000_000
    assert (tmp_path / "portico.db").stat().st_size == done.after
    assert len(await database.read(lambda c: c.execute(text("select name from aliases")).all())) == 10
    assert await database.vacuum() is None, "there is nothing left to give back"
    database.close()


@pytest.mark.slow
async def test_an_old_database_is_converted_once_and_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    with sqlite3.connect(path) as old:
        old.execute("pragma journal_mode=wal")  # as older databases were created
    old.close()
    database = Database.at(path)
    database.prepare()
    await database.write(fill)
    await database.write(empty)
    assert await database.vacuum(convert=False) is None, "by itself nothing is written anew"
    done = await database.vacuum()
    assert done is not None and done.converted and done.freed > 7_000_000
    await database.write(fill)
    await database.write(empty)
    again = await database.vacuum(convert=False)
    assert again is not None and not again.converted and again.freed > 7_000_000
    database.close()


async def test_a_copy_is_consistent_despite_concurrent_writes(tmp_path: Path) -> None:
    path, copied = tmp_path / "portico.db", tmp_path / "copy.db"
    database = Database.at(path)
    database.prepare()
    loop = asyncio.get_running_loop()
    # One transaction writes each pair: a copy with only one half is torn.
    pair = [text(f"insert into aliases values ('{half}' || :n, :v)") for half in "ab"]

    def put(connection: Connection, number: int) -> None:
        for statement in pair:
            connection.execute(statement, {"n": number, "v": "x" * 40_000})

    for number in range(200):
        await database.write(put, number)
    progress: list[tuple[int, int]] = []

    def write_meanwhile(done: int, total: int) -> None:
        progress.append((done, total))
        asyncio.run_coroutine_threadsafe(database.write(put, 1000 + len(progress)), loop).result(60)

    await asyncio.to_thread(snapshot.copy, path, copied, write_meanwhile)
    assert len(progress) > 1, "it was copied in steps"
    assert snapshot.problems(copied) == []
    with sqlite3.connect(copied) as connection:
        halves = {row[0] for row in connection.execute("select name from aliases")}
    connection.close()
    assert halves == {f"{half}{number}" for number in range(200) for half in "ab"}
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("copy.db")) == ["copy.db"]
    database.close()


def test_a_file_that_is_not_a_database_is_reported_as_a_problem(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"nothing of the kind" * 300)
    assert snapshot.problems(tmp_path / "x.db")
