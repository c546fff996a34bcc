"""Rows of chunk groups, and of the files whose chunks they contain."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, exists, func, insert, select, update
from sqlalchemy import delete as sql_delete

from portico.wire import Place
from portico_server.core.dataclass import dataclass
from portico_server.db import chunks, hits, indexed_bytes
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.chunks import FileChunks
from portico_server.db.hits import HitRow
from portico_server.db.indexed import IndexedChunks
from portico_server.db.rows import Rows, portions
from portico_server.db.schema import chunks as chunk_table
from portico_server.db.schema import files, group_files, groups, store_files
from portico_server.db.stores import StoreFileRow, StoreRow, file_columns, in_turns


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A chunk group: how its files are split into chunks, the parent group, and the model of the vectors.

    An ``embedding_model`` of ``None`` means the store's model; ``""`` means no model.
    """

    store_id: str
    name: str
    parent: str
    chunking: Mapping[str, Any]
    embedding_model: str | None
    created_at: float

    def model(self, of_store: str) -> str:
        """Return the embedding model that the group uses, ``""`` for none; ``of_store`` is the store's model."""
        return of_store if self.embedding_model is None else self.embedding_model


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """The number of files that a group has completed and failed, and the number of its chunks."""

    completed: int = 0
    failed: int = 0
    chunks: int = 0


_GROUPS = Rows(groups, GroupRow)


def add(connection: Connection, row: GroupRow) -> bool:
    """Add a group. Return false, without adding it, if the store already has a group with that name."""
    if get(connection, row.store_id, row.name) is not None:
        return False
    _GROUPS.add(connection, row)
    return True


def get(connection: Connection, store_id: str, name: str) -> GroupRow | None:
    """Return the group ``name``, or ``None``."""
    query = _GROUPS.select.where(groups.c.store_id == store_id, groups.c.name == name)
    return _GROUPS.first(connection, query)


def of_store(connection: Connection, store_id: str) -> list[GroupRow]:
    """Return the additional groups of a store, oldest first."""
    query = _GROUPS.select.where(groups.c.store_id == store_id)
    return _GROUPS.every(connection, query.order_by(groups.c.created_at, groups.c.name))


def remove(connection: Connection, store_id: str, name: str) -> None:
    """Remove a group with its chunks."""
    query = select(chunk_table.c.file_id).where(
        chunk_table.c.store_id == store_id, chunk_table.c.group_name == name
    )
    inside = connection.execute(query.distinct()).scalars().all()
    indexed_bytes.add_bytes(
        connection, store_id, indexed_bytes.bytes_in_group(connection, store_id, inside, name), {}
    )
    connection.execute(sql_delete(groups).where(groups.c.store_id == store_id, groups.c.name == name))
    chunks.remove_group(connection, store_id, name)


def models(connection: Connection, store: StoreRow) -> dict[str, str]:
    """Return the embedding model of each group of a store, the default group included; ``""`` for none."""
    model = store.embedding_model
    return {DEFAULT_GROUP: model} | {row.name: row.model(model) for row in of_store(connection, store.id)}


def counts(
    connection: Connection, store_id: str, among: Collection[str] | None = None
) -> dict[str, GroupCounts]:
    """Return the progress of each group of a store, keyed by group name; with ``among``, only counting these files."""
    completed_counts: Counter[str] = Counter()
    failed_counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for portion in (None,) if among is None else portions(sorted(among)):
        states = select(
            group_files.c.group_name,
            func.count().label("files"),
            func.count(group_files.c.error).label("failed"),
        ).where(group_files.c.store_id == store_id)
        per_group = select(chunk_table.c.group_name, func.count().label("size")).where(
            chunk_table.c.store_id == store_id
        )
        if portion is not None:
            states = states.where(group_files.c.file_id.in_(portion))
            per_group = per_group.where(chunk_table.c.file_id.in_(portion))
        for row in connection.execute(states.group_by(group_files.c.group_name)):
            completed_counts[row.group_name] += row.files - row.failed
            failed_counts[row.group_name] += row.failed
        for row in connection.execute(per_group.group_by(chunk_table.c.group_name)):
            sizes[row.group_name] += row.size
    # While a group's first file is being processed, the group has chunks but no completed file.
    names = {DEFAULT_GROUP, *sizes, *completed_counts}
    return {name: GroupCounts(completed_counts[name], failed_counts[name], sizes[name]) for name in names}


def waiting_files(connection: Connection, row: GroupRow, limit: int) -> list[StoreFileRow]:
    """Return files that are in the store's default group but not yet in this group, `in_turns`."""
    is_embedded = exists().where(
        group_files.c.store_id == store_files.c.store_id,
        group_files.c.group_name == row.name,
        group_files.c.file_id == store_files.c.file_id,
    )
    query = (
        select(*file_columns())
        .select_from(store_files.join(files, files.c.id == store_files.c.file_id))
        .where(store_files.c.store_id == row.store_id, store_files.c.status == "completed", ~is_embedded)
    )
    return [
        StoreFileRow(**found_row._mapping) for found_row in connection.execute(in_turns(query).limit(limit))
    ]


def unfinished(connection: Connection) -> list[str]:
    """Return the ids of the stores with a group that does not contain all files yet."""
    is_written = exists().where(
        group_files.c.store_id == groups.c.store_id,
        group_files.c.group_name == groups.c.name,
        group_files.c.file_id == store_files.c.file_id,
    )
    rows = connection.execute(
        select(groups.c.store_id)
        .select_from(groups.join(store_files, store_files.c.store_id == groups.c.store_id))
        .where(store_files.c.status == "completed", ~is_written)
        .distinct()
    )
    return [row.store_id for row in rows]


def put(
    connection: Connection, group: GroupRow, batch: Sequence[IndexedChunks], model: str | None
) -> set[str]:
    """Write runs of chunks of files in this group, in order; return the ids of the files whose chunks were written.

    If the group was deleted or changed in the meantime, writes nothing and returns an empty set. Deleted files are
    skipped.
    """
    if get(connection, group.store_id, group.name) != group:
        return set()
    query = select(store_files.c.file_id).where(
        store_files.c.store_id == group.store_id,
        store_files.c.file_id.in_([item.row.file_id for item in batch]),
    )
    existing_ids = set(connection.execute(query).scalars())
    indexed_chunks = [item for item in batch if item.row.file_id in existing_ids]
    pieces = [FileChunks(item.row.file_id, item.chunks, item.data, item.first) for item in indexed_chunks]
    fresh = [piece.file_id for piece in pieces if piece.first]
    before = indexed_bytes.bytes_in_group(connection, group.store_id, fresh, group.name)
    chunks.put(connection, group.store_id, pieces, model, group=group.name)
    after: dict[str, int] = {}
    for piece in pieces:
        size = sum(len(chunk.text.encode()) for chunk in piece.chunks) + sum(map(len, piece.data or ()))
        after[piece.file_id] = after.get(piece.file_id, 0) + size
    indexed_bytes.add_bytes(connection, group.store_id, before, after)
    for item in indexed_chunks:
        if item.finished:
            _note(connection, group, item.row.file_id, None)
    return existing_ids


def fail_file(connection: Connection, group: GroupRow, row: StoreFileRow, error: str) -> None:
    """Delete a file's chunks in this group, and record the reason why the file cannot be in it."""
    indexed_chunks = IndexedChunks(row, (), None, first=True, finished=False, used=0)
    if put(connection, group, [indexed_chunks], None):
        _note(connection, group, row.file_id, error)


def give_up_file(connection: Connection, group: GroupRow, row: StoreFileRow, error: str) -> None:
    """Record a failure like `fail_file`, but keep the file's chunks in this group: after `retry`, the work continues
    after them.
    """
    indexed_chunks = IndexedChunks(row, (), None, first=False, finished=False, used=0)
    if put(connection, group, [indexed_chunks], None):
        _note(connection, group, row.file_id, error)


def last_place(connection: Connection, group: GroupRow, file_id: str) -> Place | None:
    """Return the place of a file's last chunk in this group, or ``None``."""
    return chunks.last_place(connection, group.store_id, file_id, group.name)


def failures(
    connection: Connection, store_id: str, limit: int, among: Collection[str] | None = None
) -> list[tuple[str, str, str]]:
    """Return the files that failed in a group, with ``among`` only these, as (group, file name, reason), sorted by
    group and file name.
    """
    query = (
        select(group_files.c.group_name, files.c.filename, group_files.c.error, files.c.id)
        .select_from(group_files.join(files, files.c.id == group_files.c.file_id))
        .where(group_files.c.store_id == store_id, group_files.c.error.is_not(None))
        .order_by(group_files.c.group_name, files.c.filename)
    )
    if among is None:
        query = query.limit(limit)
    found_failures = [
        (row.group_name, row.filename, row.error)
        for row in connection.execute(query)
        if among is None or row.id in among
    ]
    return found_failures[:limit]


def retry(connection: Connection, store_id: str) -> None:
    """Reset the files that failed in a group, so that they are tried again."""
    condition = and_(group_files.c.store_id == store_id, group_files.c.error.is_not(None))
    connection.execute(sql_delete(group_files).where(condition))


def _note(connection: Connection, row: GroupRow, file_id: str, error: str | None) -> None:
    key_values = {"store_id": row.store_id, "group_name": row.name, "file_id": file_id}
    condition = and_(*(group_files.c[name] == value for name, value in key_values.items()))
    if connection.execute(update(group_files).where(condition).values(error=error)).rowcount == 0:
        connection.execute(insert(group_files).values(**key_values, error=error))


def parents(
    connection: Connection, store_id: str, group: str, hit_rows: Sequence[HitRow]
) -> dict[int, HitRow]:
    """Return the parents of ``hit_rows``, keyed by hit id: the last chunk of ``group`` that begins at or before
    the hit.
    """
    start = chunk_table.c.place["start"].as_integer()
    parent_of: dict[int, int] = {}
    for hit in hit_rows:
        parent_id = connection.execute(
            select(chunk_table.c.id)
            .where(
                chunk_table.c.store_id == store_id,
                chunk_table.c.file_id == hit.file_id,
                chunk_table.c.group_name == group,
                func.coalesce(start, 0) <= hit.place.start,
            )
            .order_by(chunk_table.c.ordinal.desc())
            .limit(1)
        ).scalar()
        if parent_id is not None:
            parent_of[hit.id] = parent_id
    rows = hits.get(connection, store_id, sorted(set(parent_of.values())))
    return {hit_id: rows[chunk] for hit_id, chunk in parent_of.items() if chunk in rows}


def around(connection: Connection, store_id: str, hit: HitRow, reach: int) -> list[HitRow]:
    """Return a chunk with up to ``reach`` chunks before and after it in the same file and group, in order."""
    ids = connection.execute(
        select(chunk_table.c.id)
        .where(
            chunk_table.c.store_id == store_id,
            chunk_table.c.file_id == hit.file_id,
            chunk_table.c.group_name == hit.group,
            chunk_table.c.ordinal.between(hit.ordinal - reach, hit.ordinal + reach),
        )
        .order_by(chunk_table.c.ordinal)
    ).scalars()
    rows = hits.get(connection, store_id, list(ids))
    return sorted(rows.values(), key=lambda row: row.ordinal)


def new(store_id: str, name: str, parent: str, chunking: Mapping[str, Any], model: str | None) -> GroupRow:
    """Return the row of a new group."""
    return GroupRow(store_id, name, parent, chunking, model, time.time())
