"""The plans of hot statements on PostgreSQL after the sixth execution on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Connection, event, insert, text
from tests import postgres

from portico_server.db import archives, hits, reviewed_files, stores
from portico_server.db import store_files as mirrored_files
from portico_server.db.database import Database
from portico_server.db.rows import DriverQuery
from portico_server.db.schema import chunks, files, store_files
from portico_server.db.schema import stores as stores_table

Executed: TypeAlias = tuple[str, tuple[str, ...]]
"""A statement and its values, as SQL."""

_NUMBERS = count()

FILES = 430
CHUNKS_PER_FILE = 40
WANTED = 30

MAX_BUFFERS = 5 * FILES
"""Pages of 8 KiB that a statement may read: a few for each file."""

MAX_BUFFERS_OF_HITS = 400
"""Pages of 8 KiB that reading the hits may take: a few for each hit."""


def fill(connection: Connection) -> None:
    """Add a store in which each file is completed and needs no review."""
    connection.execute(insert(stores_table).values(_values(stores_table, id="vs_1", name="s")))
    names = [f"file-{number:04}" for number in range(FILES)]
    connection.execute(insert(files), [_values(files, id=name, filename=f"{name}.md") for name in names])
    connection.execute(
        insert(store_files),
        [
            _values(store_files, store_id="vs_1", file_id=name, status="completed", review="")
            for name in names
        ],
    )
    connection.execute(
        insert(chunks),
        [
            _values(
                chunks, id=at * CHUNKS_PER_FILE + number + 1, store_id="vs_1", file_id=name, ordinal=number
            )
            for at, name in enumerate(names)
            for number in range(CHUNKS_PER_FILE)
        ],
    )
    connection.execute(text("analyze"))


def _values(table: Any, **values: Any) -> dict[str, Any]:
    """Return ``values`` and a plain value for each further column that needs one."""
    empty = {"object": {}, "str": "", "int": 0, "float": 0.0, "bool": False, "dict": {}, "bytes": b""}
    return {
        column.name: values[column.name] if column.name in values else empty[column.type.python_type.__name__]
        for column in table.columns
        if column.name in values or not (column.nullable or column.default or column.autoincrement is True)
    }


def buffers_of_sixth_execution(connection: Connection, statement: str, *arguments: str) -> int:
    """Return the pages that the sixth execution of a prepared statement reads."""
    name = f"hot_{next(_NUMBERS)}"
    connection.exec_driver_sql(f"prepare {name} as {statement}")
    call = f"execute {name}({', '.join(arguments)})" if arguments else f"execute {name}"
    for _ in range(5):
        connection.exec_driver_sql(call).all()
    plan = connection.exec_driver_sql(f"explain (analyze, buffers, format json) {call}").scalar_one()[0][
        "Plan"
    ]
    connection.exec_driver_sql(f"deallocate {name}")
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def statements_of(connection: Connection, function: Callable[..., Any], *arguments: Any) -> list[Executed]:
    """Return the statements that a function executes, and their values."""
    executed: list[Executed] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_context: Any) -> None:
        executed.append((statement, tuple(map(_literal, values))))

    event.listen(connection, "before_cursor_execute", note)
    try:
        function(connection, *arguments)
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return executed


def _literal(value: Any) -> str:
    if isinstance(value, int | float):
        return str(value)
    return f"'{{{','.join(map(str, value))}}}'" if isinstance(value, list | tuple | range) else f"'{value}'"


@pytest.fixture(scope="module")
def filled(server: postgres.Server) -> Iterator[Database]:
    database = Database(server.new())
    database.prepare()
    asyncio.run(_fill(database))
    yield database
    database.close()


async def _fill(database: Database) -> None:
    await database.write(fill)


def _hits(connection: Connection) -> object:
    return hits.get(connection, "vs_1", range(1, FILES * CHUNKS_PER_FILE, FILES * CHUNKS_PER_FILE // WANTED))


@pytest.mark.parametrize(
    "function",
    [
        _hits,
        partial(hits.labels, store_id="vs_1"),
        partial(stores.waiting, store_id="vs_1", limit=100),
        partial(stores.files_ending, store_id="vs_1", endings=[".csv", ".xlsx"], limit=20),
        partial(stores.changed_files, store_id="vs_1", since=0.0),
        partial(stores.file_page, store_id="vs_1", status="completed"),
        partial(stores.counts, store_ids=["vs_1"]),
        partial(stores.problems, store_ids=["vs_1"]),
        stores.unfinished,
        stores.waiting_files,
        partial(mirrored_files.mirror, store_id="vs_1"),
        partial(archives.file_page, store_id="vs_1", after="", limit=1_000),
        partial(reviewed_files.reviewed_files, store_id="vs_1"),
    ],
    ids=lambda function: getattr(function, "func", function).__name__.strip("_"),
)
async def test_a_hot_statement_reads_few_pages_of_a_small_healthy_store(
    filled: Database, function: Callable[[Connection], Any]
) -> None:
    def measure(connection: Connection) -> list[int]:
        return [
            buffers_of_sixth_execution(connection, statement, *values)
            for statement, values in statements_of(connection, function)
        ]

    buffers = await filled.read(measure)
    limit = MAX_BUFFERS_OF_HITS if function is _hits else MAX_BUFFERS
    assert buffers and max(buffers) < limit, buffers


class Recorder:
    """Records the single statements that functions fetch, and their values."""

    def __init__(self) -> None:
        self.statements: list[Executed] = []

    async def fetch(self, query: DriverQuery, *, in_thread: bool = False, **values: Any) -> list[list[Any]]:
        async def record(statement: str, positional: Sequence[Any]) -> list[list[Any]]:
            self.statements.append((statement, tuple(map(_literal, positional))))
            return []

        return await query.rows_of(record, **values)


async def test_single_statements_read_few_pages_of_a_small_healthy_store(filled: Database) -> None:
    recorder: Any = Recorder()
    await hits.fetch(recorder, "vs_1", range(1, FILES * CHUNKS_PER_FILE, FILES * CHUNKS_PER_FILE // WANTED))
    await hits.distinct_attributes(recorder, "vs_1")
    await stores.fetch(recorder, "vs_1")
    await stores.fetch_named(recorder, "s", "key_1")
    await stores.has_waiting(recorder, "vs_1")

    def measure(connection: Connection) -> list[int]:
        return [
            buffers_of_sixth_execution(connection, statement, *values)
            for statement, values in recorder.statements
        ]

    buffers = await filled.read(measure)
    assert len(buffers) == 5 and max(buffers) < MAX_BUFFERS_OF_HITS, buffers


async def test_all_hits_are_read(filled: Database) -> None:
    wanted_ids = list(range(1, FILES * CHUNKS_PER_FILE, FILES * CHUNKS_PER_FILE // WANTED))
    assert sorted(await filled.read(hits.get, "vs_1", wanted_ids)) == wanted_ids
    assert sorted(await hits.fetch(filled, "vs_1", wanted_ids)) == wanted_ids
