"""Copies of all rows between a SQLite file and a PostgreSQL database, in batches recorded in a ledger in the target.

Until the copy is complete, the target has the schema `MIGRATING`, which every daemon refuses to open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    MetaData,
    Select,
    String,
    Table,
    Text,
    TypeDecorator,
    column,
    func,
    insert,
    literal,
    select,
    table,
    text,
    tuple_,
    union,
    update,
)

from portico_server.core.dataclass import dataclass
from portico_server.db.migrate import MIGRATING, bring_up
from portico_server.db.revision import revision, set_revision
from portico_server.db.schema import HEAD, artifacts, batches, files, metadata, upload_parts

Key = tuple[Any, ...]
"""The values of a row's primary key."""

Row = tuple[Any, ...]

MAX_BATCH_ROWS: Final = 4_000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Approximate size of a batch, which determines how many rows the next batch has."""

FIRST_BATCH_ROWS: Final = 100

FOLDERS: Final[Mapping[str, Sequence[Select[Any]]]] = {
    "blobs/": (
        select(files.c.sha256),
        select(upload_parts.c.sha256),
        select(batches.c.input_sha256.label("sha256")).where(batches.c.finished_at.is_(None)),
    ),
    "artifacts/": (select(artifacts.c.sha256),),
}
"""The folders of files that are stored outside the database, and the queries of the digests that rows refer to."""

ledger = Table(
    "migration",
    MetaData(),
    # The name of a table, or of a folder of files.
    Column("part", String, primary_key=True),
    Column("source", String, nullable=False),
    # The primary key of the last row that was copied, as JSON.
    Column("last_key", Text),
    Column("rows", BigInteger, nullable=False),
    Column("is_complete", Boolean, nullable=False),
)
"""The progress of a migration, in its target. The last transaction of the migration drops the table."""


class JsonText(TypeDecorator[str]):
    """JSON as the text that is stored, so that a copy equals its original in every character."""

    impl = JSON
    cache_ok = True

    def bind_processor(self, dialect: Any) -> None:
        return None

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class TableDigest:
    """The number of rows of a table, and the sum of the SHA-256 of all rows, which does not depend on their order."""

    count: int = 0
    total: int = 0

    def add(self, rows: Sequence[Row]) -> TableDigest:
        """Return the digest of these rows and those before."""
        total = self.total
        for row in rows:
            total += int.from_bytes(sha256(repr(row).encode()).digest(), "big")
        return TableDigest(self.count + len(rows), total % 2**256)

    @property
    def text(self) -> str:
        return f"{self.total:064x}"


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How much of a part has been copied."""

    last_key: Key | None = None
    count: int = 0
    is_complete: bool = False


def counts(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    return {
        name: connection.scalar(select(func.count()).select_from(table(name))) or 0
        for name in metadata.tables
    }


def begin(connection: Connection, source: str) -> None:
    """Create the tables and the ledger in an empty target. From now on, no daemon opens the target."""
    if revision(connection) is None:
        bring_up(connection)
    ledger.create(connection)
    parts = [*metadata.tables, *FOLDERS]
    connection.execute(
        insert(ledger),
        [{"part": part, "source": source, "rows": 0, "is_complete": False} for part in parts],
    )
    set_revision(connection, MIGRATING)


def source_of(connection: Connection) -> str | None:
    """Return the name of the source of a migration that has begun."""
    return connection.scalar(select(ledger.c.source).limit(1))


def read_progress(connection: Connection, part: str) -> CopyProgress:
    """Return how much of a part has been copied."""
    row = connection.execute(select(ledger).where(ledger.c.part == part)).one()
    return CopyProgress(
        None if row.last_key is None else tuple(json.loads(row.last_key)), row.rows, row.is_complete
    )


def record_progress(connection: Connection, part: str, progress: CopyProgress) -> None:
    """Write how much of a part has been copied."""
    connection.execute(
        update(ledger)
        .where(ledger.c.part == part)
        .values(
            last_key=None if progress.last_key is None else json.dumps(progress.last_key),
            rows=progress.count,
            is_complete=progress.is_complete,
        )
    )


def finish(connection: Connection, last_ids: Mapping[str, int]) -> None:
    """Set the numbers from which ids continue, drop the ledger, and let daemons open the target."""
    for name, last_id in last_ids.items():
        if connection.dialect.name == "postgresql":
            connection.execute(
                text("select setval(pg_get_serial_sequence(:table, 'id'), :last)"),
                {"table": name, "last": last_id},
            )
        elif metadata.tables[name].dialect_options["sqlite"]["autoincrement"]:
            connection.execute(text("delete from sqlite_sequence where name = :table"), {"table": name})
            connection.execute(
                text("insert into sqlite_sequence values (:table, :last)"), {"table": name, "last": last_id}
            )
    ledger.drop(connection)
    set_revision(connection, HEAD)


def last_ids(connection: Connection) -> dict[str, int]:
    """Return the last id of each table whose ids the database counts, including the ids of deleted rows."""
    result = {}
    for name, its_table in metadata.tables.items():
        if its_table.autoincrement_column is None:
            continue
        last_id = connection.scalar(select(func.max(its_table.c.id))) or 0
        sequence_id = 0
        if connection.dialect.name == "postgresql":
            sequence = connection.scalar(text("select pg_get_serial_sequence(:table, 'id')"), {"table": name})
            sequence_id = connection.scalar(text(f"select last_value from {sequence} where is_called")) or 0  # noqa: S608
        elif its_table.dialect_options["sqlite"]["autoincrement"]:
            sequence_id = (
                connection.scalar(
                    text("select seq from sqlite_sequence where name = :table"), {"table": name}
                )
                or 0
            )
        if last_id := max(last_id, sequence_id):
            result[name] = last_id
    return result


def tables() -> Sequence[str]:
    """Return the names of all tables, each after the tables to which it refers."""
    return [its_table.name for its_table in metadata.sorted_tables]


def read_rows(connection: Connection, name: str, last_key: Key | None, limit: int) -> list[Row]:
    """Return the rows that follow a key, in the order of the primary key."""
    raw = _raw(name)
    keys = [raw.c[key.name] for key in metadata.tables[name].primary_key.columns]
    query = select(raw).order_by(*keys).limit(limit)
    if last_key is not None:
        values = [literal(value, key.type) for value, key in zip(last_key, keys, strict=True)]
        query = query.where(tuple_(*keys) > tuple_(*values))
    return [tuple(row) for row in connection.execute(query)]


def key_of(name: str, row: Row) -> Key:
    """Return the primary key of a row."""
    names = list(metadata.tables[name].columns.keys())
    return tuple(row[names.index(key.name)] for key in metadata.tables[name].primary_key.columns)


def write_rows(connection: Connection, name: str, rows: Sequence[Row], progress: CopyProgress) -> None:
    """Write rows, and the progress that they make."""
    if rows:
        raw = _raw(name)
        names = raw.c.keys()
        connection.execute(insert(raw), [dict(zip(names, row, strict=True)) for row in rows])
    record_progress(connection, name, progress)


def next_limit(limit: int, rows: Sequence[Row]) -> int:
    """Return the number of rows to read next, given those read with ``limit``."""
    size = sum(len(value) for row in rows for value in row if isinstance(value, str | bytes))
    return max(1, min(MAX_BATCH_ROWS, limit * 4, limit * BATCH_BYTES // max(1, size)))


def digests(connection: Connection, folder: str, last_key: Key | None, limit: int) -> list[str]:
    """Return the digests of a folder's files that follow ``last_key``, in order."""
    held_digests = union(*FOLDERS[folder]).subquery()
    query = select(held_digests.c.sha256).order_by(held_digests.c.sha256).limit(limit)
    if last_key is not None:
        query = query.where(held_digests.c.sha256 > last_key[0])
    return list(connection.execute(query).scalars())


def count_digests(connection: Connection, folder: str) -> int:
    """Return the number of a folder's files."""
    return connection.scalar(select(func.count()).select_from(union(*FOLDERS[folder]).subquery())) or 0


def _raw(name: str) -> Any:
    """Return a table whose JSON columns contain text."""
    columns = metadata.tables[name].columns
    return table(
        name,
        *(column(item.name, JsonText() if isinstance(item.type, JSON) else item.type) for item in columns),
    )
