"""The database: migrations, damage, a single writer."""

import asyncio
import math
import sqlite3
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection

from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.db import address, kept_connections, migrate, steps
from portico_server.db import database as db
from portico_server.db.database import Database
from portico_server.db.row_groups import MAX_DIRECT_CHARS
from portico_server.db.schema import HEAD, metadata


def test_the_head_revision_in_code_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(migrate.config()).get_current_head() == HEAD


async def test_a_migrated_database_matches_the_schema_in_code(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await database.read(differences) == []
    database.close()


async def test_a_completed_write_is_visible_to_every_reader(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()

    def insert(connection: Connection, number: int) -> None:
        connection.execute(text("insert into aliases values (:n, 'x')"), {"n": str(number)})

    def count(connection: Connection) -> int:
        return int(connection.execute(text("select count(*) from aliases")).scalar_one())

    await asyncio.gather(*(database.write(insert, number) for number in range(50)))
    assert await database.read(count) == 50
    database.close()


async def test_a_direct_write_on_the_event_loop_never_waits_for_a_lock(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    put = "insert into aliases values (?, 'x')"
    count = partial(_scalar, "select count(*) from aliases")
    assert not database.try_write_now(put, [("first",)])  # its connection opens in the writer's thread
    await database.write(_nothing)
    assert database.try_write_now(put, [("second",)])
    assert await database.read(count) == 1
    with sqlite3.connect(tmp_path / "portico.db") as second_connection:
        second_connection.execute("begin immediate")
        assert not database.try_write_now(put, [("third",)])
        waits = database.rows(put, [("third",)], full=False)
        assert waits is not None
        assert not waits.done()
    await waits
    assert await database.read(count) == 2
    assert not database.try_write_now("insert into nowhere values (?)", [("fourth",)])
    database.close()


async def test_rows_of_one_loop_turn_share_a_transaction_with_separate_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    database = Database.at(path)
    database.prepare()
    groups = database.row_groups
    assert groups is not None
    put = "insert into aliases values (?, 'x')"
    names_query = "select group_concat(name, ' ') from (select name from aliases order by name)"

    async def tried(*names: Any, chars: int = 1) -> list[Any]:
        rows = (groups.write(put, (name,), chars) for name in names)
        return await asyncio.gather(*rows, return_exceptions=True)

    assert await tried("a", "b") == [
        None,
        None,
    ]  # runs in the writer's thread: the event loop has no connection yet
    assert await tried("c", "d") == [None, None]
    assert await tried("e", chars=MAX_DIRECT_CHARS) == [None]
    with sqlite3.connect(path) as second_connection:
        second_connection.execute("begin immediate")
        leaves, stays = (asyncio.create_task(groups.write(put, (name,), 1)) for name in ("left", "f"))
        await asyncio.sleep(0)  # both are in the group
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        second_connection.execute("insert into aliases values ('g', 'x')")
        assert not stays.done()
    await stays
    good, twice, bad, also = await tried("h", "a", "\ud800", "i")
    assert (good, also) == (None, None)
    assert isinstance(twice, PorticoError) and isinstance(bad, UnicodeEncodeError)
    assert await database.read(partial(_text, names_query)) == "a b c d e f g h i"
    database.close()
    assert isinstance((await tried("j"))[0], RuntimeError)


async def test_after_a_slow_disk_the_event_loop_leaves_writing_to_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    put = "insert into aliases values (?, 'x')"
    database.try_write_now(put, [("first",)])
    await database.write(_nothing)
    monkeypatch.setattr(db, "SLOW_DISK_S", 0.0)  # so every disk counts as slow
    assert database.try_write_now(put, [("second",)])
    assert not database.try_write_now(put, [("third",)])
    database.close()


async def test_few_rows_are_read_without_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    put = partial(_put, "first")
    monkeypatch.setattr(db, "SLOW_DISK_S", math.inf)  # however busy the machine is

    def count(driver: sqlite3.Connection) -> int:
        return int(driver.execute("select count(*) from aliases").fetchone()[0])

    def fail(driver: sqlite3.Connection) -> None:
        driver.execute("select * from nowhere")

    assert database.read_now(count) is None  # its connection opens in the writer's thread
    await database.write(put)
    assert database.read_now(count) == 1
    assert database.read_now(fail) is None  # a caller of a reader learns the reason
    assert database.read_now(count) is None
    await database.write(_nothing)
    assert database.read_now(count) == 1
    monkeypatch.setattr(db, "SLOW_DISK_S", 0.0)  # so every disk counts as slow
    assert database.read_now(count) == 1
    assert database.read_now(count) is None
    database.close()


def _put(name: str, connection: Connection) -> None:
    connection.execute(text("insert into aliases values (:name, 'x')"), {"name": name})


def _nothing(_connection: Connection) -> None: ...


def _text(query: str, connection: Connection) -> str:
    return str(connection.execute(text(query)).scalar_one())


def _scalar(query: str, connection: Connection) -> int:
    return int(connection.execute(text(query)).scalar_one())


async def test_the_write_ahead_log_shrinks_after_a_large_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_connections, "MAX_WAL_BYTES", 100_000)
    database = Database.at(tmp_path / "portico.db")
    database.prepare()

    def insert(connection: Connection, name: str, size: int) -> None:
        connection.execute(text("insert into aliases values (:n, :v)"), {"n": name, "v": "x" * size})

    log = tmp_path / "portico.db-wal"
    await database.write(insert, "large", 10_000_000)
    assert log.stat().st_size > 10_000_000
    await database.write(insert, "small", 1)  # restarts the log, since the database contains all of it
    await database.write(insert, "smaller", 1)
    assert log.stat().st_size <= 100_000
    database.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_database_file_is_not_memory_mapped_when_read(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    barrier = threading.Barrier(db.MAX_READERS)

    def insert(connection: Connection) -> None:
        rows = [{"n": str(number), "v": "x" * 4_000} for number in range(1_000)]
        connection.execute(text("insert into aliases values (:n, :v)"), rows)

    def read_all(connection: Connection) -> int:
        barrier.wait(60)  # on every connection at once
        return len(connection.execute(text("select * from aliases")).all())

    await database.write(insert)
    assert (
        await asyncio.gather(*(database.read(read_all) for _ in range(db.MAX_READERS)))
        == [1_000] * db.MAX_READERS
    )
    assert _mapped(tmp_path / "portico.db") == []
    database.close()


def _mapped(path: Path) -> list[str]:
    """Return where this process has a file mapped into memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if line.endswith(str(path))]


async def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()

    def half(connection: Connection) -> None:
        connection.execute(text("insert into aliases values ('a', 'x')"))
        connection.execute(text("insert into nowhere values (1)"))

    with pytest.raises(PorticoError):
        await database.write(half)
    rows = await database.read(lambda c: c.execute(text("select count(*) from aliases")).scalar_one())
    assert rows == 0
    database.close()


async def test_the_writer_continues_after_every_kind_of_failure(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    invalid_step = steps.StepRow("p", 1, "code", None, 1, None, "1", None, 0.0, 0.0)  # type: ignore[arg-type]

    def careless(connection: Connection) -> None:
        steps.record(connection, "run_1", [invalid_step._replace(status="completed")])
        raise ValueError("not the database's fault")

    for write in (database.write, database.write_soon):
        with pytest.raises(PorticoError, match=r"steps\.status"):
            await write(steps.record, "run_1", [invalid_step])
        with pytest.raises(ValueError, match="not the database's fault"):
            await write(careless)
        assert await database.read(steps.of_run, "run_1") == []
    await database.write_soon(steps.record, "run_1", [invalid_step._replace(status="completed")])
    assert [row.path for row in await database.read(steps.of_run, "run_1")] == ["p"]
    database.close()


async def test_a_cancelled_write_is_completed_or_not_started(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    begin_event, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection, number: int) -> None:
        begin_event.set()
        go_on.wait(60)
        connection.execute(text("insert into aliases values (:n, 'x')"), {"n": str(number)})

    first, second = (asyncio.create_task(database.write(slow, number)) for number in (1, 2))
    await asyncio.to_thread(begin_event.wait, 20)
    for task in (first, second):
        task.cancel()
    await asyncio.wait([first, second])
    go_on.set()
    alias_names = await database.write(lambda c: c.execute(text("select name from aliases")).scalars().all())
    assert alias_names == ["1"], "what has begun is finished, what has not is not begun"
    database.close()


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("mysql+nothing://me:secret@host/name", "invalid_value", "postgresql://USER@HOST/NAME"),
        ("no address: secret", "invalid_value", "postgresql://USER@HOST/NAME"),
        ("postgresql+psycopg://me:secret@host/name", "invalid_value", "postgresql://USER@HOST/NAME"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(
    url: str, code: str, told: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Database(url)
    assert (caught.value.code, caught.value.param) == (code, "database")
    assert told in caught.value.message
    assert "secret" not in caught.value.message


def test_a_missing_postgresql_driver_is_refused_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address, "find_spec", lambda name: None if name == "asyncpg" else name)
    with pytest.raises(InvalidRequest, match="pip install asyncpg greenlet") as caught:
        Database("postgresql://me:secret@host/name")
    assert (caught.value.code, caught.value.param) == ("missing_package", "database")


def test_a_damaged_database_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    path.write_bytes(b"this is not a database at all, whatever its name says" * 100)
    database = Database.at(path)
    with pytest.raises(Unavailable, match="Move it to another place") as caught:
        database.prepare()
    assert caught.value.code == "database_damaged"
    database.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    database = Database.at(path)
    database.prepare()
    asyncio.run(
        database.write(lambda c: c.execute(text("update alembic_version set version_num = '9999'")) and None)
    )
    database.close()
    again = Database.at(path)
    with pytest.raises(Unavailable, match="newer version"):
        again.prepare()
    again.close()
