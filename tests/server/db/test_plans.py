"""The plans of hot statements on PostgreSQL after the sixth execution on one connection."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, text
from sqlalchemy.dialects.postgresql import asyncpg
from tests import postgres

from portico_server.db import hits
from portico_server.db.database import Database
from portico_server.db.schema import chunks, files, store_files, stores

FILES = 430
CHUNKS_PER_FILE = 40
WANTED = 30

MAX_BUFFERS = 400
"""Pages of 8 KiB that a statement may read: a few for each hit."""


def fill(connection: Connection) -> None:
    """Add a store in which each file is completed and needs no review."""
    connection.execute(insert(stores).values(_values(stores, id="vs_1", name="s")))
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


def buffers_of_sixth_execution(connection: Connection, statement: Any, *arguments: str) -> int:
    """Return the pages that the sixth execution of a prepared statement reads."""
    sql = str(statement.compile(dialect=asyncpg.dialect()))
    connection.exec_driver_sql(f"prepare hot as {sql}")
    call = f"execute hot({', '.join(arguments)})"
    for _ in range(5):
        connection.exec_driver_sql(call).all()
    plan = connection.exec_driver_sql(f"explain (analyze, buffers, format json) {call}").scalar_one()[0][
        "Plan"
    ]
    connection.exec_driver_sql("deallocate hot")
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_a_search_of_a_small_healthy_store_reads_few_pages(server: postgres.Server) -> None:
    database = Database(server.new())
    try:
        database.prepare()
        await database.write(fill)
        wanted_ids = list(range(1, FILES * CHUNKS_PER_FILE, FILES * CHUNKS_PER_FILE // WANTED))

        def measure(connection: Connection) -> int:
            array = f"'{{{','.join(map(str, wanted_ids))}}}'"
            return buffers_of_sixth_execution(
                connection, hits.HITS_POSTGRES, array, "'vs_1'", "'failed'", "'new'"
            )

        assert await database.read(measure) < MAX_BUFFERS
        assert sorted(await database.read(hits.get, "vs_1", wanted_ids)) == wanted_ids
    finally:
        database.close()
