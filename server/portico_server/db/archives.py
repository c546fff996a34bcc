"""Reads and writes for store archives: many rows at a time, in an order from which the caller can resume."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import changes, chunks, stores
from portico_server.db import files as file_rows
from portico_server.db import groups as group_rows
from portico_server.db.files import FileRow
from portico_server.db.groups import GroupRow
from portico_server.db.schema import chunks as chunk_table
from portico_server.db.schema import files, group_files, store_files, vectors
from portico_server.db.schema import stores as store_table
from portico_server.db.stores import StoreFileRow, StoreRow


@dataclass(frozen=True, slots=True)
class ArchivedChunk:
    """A chunk in an archive; ``data`` is its vector from the requested model, if it has one."""

    id: int
    file_id: str
    group: str
    ordinal: int
    text: str
    place: Mapping[str, Any]
    data: bytes | None = None


def file_page(connection: Connection, store_id: str, after: str, limit: int) -> list[StoreFileRow]:
    """Return files of a store with an id above ``after``, sorted by id."""
    rows = connection.execute(
        select(*stores.file_columns())
        .select_from(store_files.join(files, files.c.id == store_files.c.file_id))
        .where(
            store_files.c.store_id == store_id,
            store_files.c.file_id > after,
            store_files.c.review != "new",
        )
        .order_by(store_files.c.file_id)
        .limit(limit)
    )
    return [StoreFileRow(*row) for row in rows]


def chunk_page(
    connection: Connection, chunk_ids: Sequence[int], models: Mapping[str, str]
) -> list[ArchivedChunk]:
    """Return the chunks ``chunk_ids``, sorted by id, with their vectors. ``models`` maps groups to the models of the
    vectors.
    """
    rows = connection.execute(
        select(
            chunk_table.c.id,
            chunk_table.c.file_id,
            chunk_table.c.group_name,
            chunk_table.c.ordinal,
            chunk_table.c.text,
            chunk_table.c.place,
        )
        .where(chunk_table.c.id.in_(list(chunk_ids)))
        .order_by(chunk_table.c.id)
    ).all()
    vector_data: dict[tuple[int, str], bytes] = {}
    if any(models.values()):
        query = select(vectors.c.chunk_id, vectors.c.model, vectors.c.data).where(
            vectors.c.chunk_id.in_(list(chunk_ids)), vectors.c.model.in_(sorted(set(models.values())))
        )
        vector_data = {(row.chunk_id, row.model): row.data for row in connection.execute(query)}
    return [
        ArchivedChunk(*row, data=vector_data.get((row.id, models.get(row.group_name, "")))) for row in rows
    ]


def count_blobs(connection: Connection, store_id: str) -> int:
    """Return the number of distinct file contents in a store."""
    query = select(func.count(func.distinct(files.c.sha256))).join(
        store_files, store_files.c.file_id == files.c.id
    )
    return int(connection.execute(query.where(store_files.c.store_id == store_id)).scalar_one())


def group_states(connection: Connection, store_id: str) -> list[tuple[str, str, str | None]]:
    """Return (group, file, error) for each file from which an additional group of a store was built."""
    rows = connection.execute(
        select(group_files.c.group_name, group_files.c.file_id, group_files.c.error).where(
            group_files.c.store_id == store_id
        )
    )
    return [(row.group_name, row.file_id, row.error) for row in rows]


def put_chunks(
    connection: Connection, store_id: str, batch: Sequence[ArchivedChunk], models: Mapping[str, str]
) -> list[tuple[str, str, int]]:
    """Write chunks, with vectors, of a store that does not exist yet; return (group, file, id) of each chunk, in
    order.

    The chunks are invisible until `finish` is called. The ids are new, and ascend in the order of ``batch``.
    """
    query = insert(chunk_table).returning(
        chunk_table.c.group_name, chunk_table.c.file_id, chunk_table.c.ordinal, chunk_table.c.id
    )
    rows = [
        {
            "store_id": store_id,
            "file_id": item.file_id,
            "group_name": item.group,
            "ordinal": item.ordinal,
            "text": item.text,
            "place": dict(item.place),
        }
        for item in batch
    ]
    ids = {(group, file, ordinal): chunk for group, file, ordinal, chunk in connection.execute(query, rows)}
    chunk_keys = [(item.group, item.file_id, ids[item.group, item.file_id, item.ordinal]) for item in batch]
    data = [
        {"chunk_id": chunk, "model": models[group], "data": item.data}
        for item, (group, _, chunk) in zip(batch, chunk_keys, strict=True)
        if item.data is not None and models.get(group)
    ]
    if data:
        connection.execute(insert(vectors), data)
    return chunk_keys


def finish(
    connection: Connection,
    store: StoreRow,
    came: Sequence[tuple[FileRow, StoreFileRow]],
    more: Sequence[GroupRow],
    states: Sequence[tuple[str, str, str | None]],
    runs: Sequence[tuple[str, str, int, int]],
) -> bool:
    """Make a complete store visible; ``runs`` are the chunks that `put_chunks` wrote, as (group, file, first, last).

    Returns false and writes nothing if the store's name is already in use.
    """
    if not stores.add(connection, store):
        return False
    now = time.time()
    if came:
        file_rows.add(connection, *(file for file, _ in came))
        names = ("file_id", "status", "error_code", "error_message", "attributes", "chunking", "usage_bytes")
        connection.execute(
            insert(store_files),
            [
                {"store_id": store.id, "created_at": now, **{name: getattr(row, name) for name in names}}
                for _, row in came
            ],
        )
    for group in more:
        group_rows.add(connection, group)
    if states:
        columns = ("group_name", "file_id", "error")
        connection.execute(
            insert(group_files),
            [{"store_id": store.id, **dict(zip(columns, state, strict=True))} for state in states],
        )
    for name in dict.fromkeys(group for group, _, _, _ in runs):
        entries: list[tuple[changes.Op, str, range]] = [
            ("put", file, range(first, last + 1)) for group, file, first, last in runs if group == name
        ]
        changes.append(connection, store.id, entries, name)
    connection.execute(update(store_table).where(store_table.c.id == store.id).values(last_active_at=now))
    return True


def give_up(connection: Connection, store_id: str) -> None:
    """Delete the chunks of a store that never became visible."""
    chunks.remove_store(connection, store_id)
