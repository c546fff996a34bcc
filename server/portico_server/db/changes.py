"""The ordered log of changes to each store, which all derived indexes follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.db import pgvector
from portico_server.db.rows import Rows
from portico_server.db.schema import changes, stores

Op = Literal["put", "delete", "name"]
"""The kind of change: chunks were added, chunks were deleted, or the file of the chunks was renamed."""

DEFAULT_GROUP = "chunk"
"""The chunk group that every store has."""

MAX_LOG_ENTRIES = 10_000
"""Minimum number of changes that the log of a store keeps. An index that lacks more changes is rebuilt from the
database.
"""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Change number ``seq`` of a store. It affects the chunks ``first_chunk`` to ``last_chunk`` of one file and
    group.
    """

    seq: int
    op: Op
    file_id: str
    first_chunk: int
    last_chunk: int
    group_name: str = DEFAULT_GROUP


_ENTRIES = Rows(changes, LogEntry)


def append(
    connection: Connection,
    store_id: str,
    entries: Sequence[tuple[Op, str, range]],
    group: str = DEFAULT_GROUP,
) -> int:
    """Log changes of one group in order, each as (op, file id, chunk ids); return the number of the store's last
    change.

    Call it in the transaction that changes the chunks, so that the log and the chunks become visible together. The
    tables of pgvector change in the same transaction. Raises `NotFound` if the store no longer exists.
    """
    row = connection.execute(
        update(stores)
        .where(stores.c.id == store_id)
        .values(last_change=stores.c.last_change + len(entries))
        .returning(stores.c.last_change, stores.c.index, stores.c.next_index)
    ).first()
    if row is None:
        raise NotFound(
            f"The store '{store_id}' has been deleted; nothing was written to it.", code="store_not_found"
        )
    last = int(row.last_change)
    if entries:
        connection.execute(
            insert(changes),
            [
                {
                    "store_id": store_id,
                    "seq": last - len(entries) + number,
                    "op": op,
                    "file_id": file_id,
                    "first_chunk": ids[0],
                    "last_chunk": ids[-1],
                    "group_name": group,
                }
                for number, (op, file_id, ids) in enumerate(entries, start=1)
            ],
        )
    if pgvector.PGVECTOR in (row.index, row.next_index):
        for op, _, ids in entries:
            if op == "put":
                pgvector.put(connection, ids)
            elif op == "delete":
                pgvector.remove(connection, store_id, group, ids)
    return last


def list_after(connection: Connection, store_id: str, seq: int, limit: int) -> list[LogEntry]:
    """Return at most ``limit`` changes with a number above ``seq``, in order."""
    query = _ENTRIES.select.where(changes.c.store_id == store_id, changes.c.seq > seq)
    return _ENTRIES.every(connection, query.order_by(changes.c.seq).limit(limit))


def at(connection: Connection, store_id: str, seq: int) -> LogEntry | None:
    """Return the change with the number ``seq``, or ``None``."""
    return next(
        (change for change in list_after(connection, store_id, seq - 1, 1) if change.seq == seq), None
    )


def newest(connection: Connection, store_id: str) -> LogEntry | None:
    """Return the last change in the log, or ``None``."""
    return at(connection, store_id, last(connection, store_id))


def last(connection: Connection, store_id: str) -> int:
    """Return the number of the store's last change, or 0 if it has no changes or does not exist."""
    change_number = connection.execute(select(stores.c.last_change).where(stores.c.id == store_id)).scalar()
    return int(change_number or 0)


def compact(connection: Connection, store_id: str) -> int:
    """If the log has at least twice `MAX_LOG_ENTRIES` changes, delete all but the last `MAX_LOG_ENTRIES`; return the
    number deleted.

    An index that lacks deleted changes detects the gap and is rebuilt.
    """
    newest = last(connection, store_id)
    oldest = connection.execute(
        select(func.min(changes.c.seq)).where(changes.c.store_id == store_id)
    ).scalar()
    if oldest is None or newest - int(oldest) < 2 * MAX_LOG_ENTRIES:
        return 0
    old = (changes.c.store_id == store_id) & (changes.c.seq <= newest - MAX_LOG_ENTRIES)
    return connection.execute(delete(changes).where(old)).rowcount
