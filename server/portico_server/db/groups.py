"""Rows of chunk groups, and of the files that they have been made of."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, exists, func, insert, select, update
from sqlalchemy import delete as sql_delete

from portico_server.db import chunks
from portico_server.db.changes import GROUP
from portico_server.db.chunks import HitRow, NewChunk
from portico_server.db.schema import chunks as chunk_table
from portico_server.db.schema import files, group_files, groups, store_files
from portico_server.db.stores import StoreFileRow, file_columns


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group: how its chunks are cut, what they lie in, and whose vectors they have.

    ``embedding_model`` ``None`` is the store's own model, ``""`` none.
    """

    store_id: str
    name: str
    parent: str
    chunking: Mapping[str, Any]
    embedding_model: str | None
    created_at: float

    def model(self, of_store: str) -> str:
        """The embedding model in use, ``""`` for none."""
        return of_store if self.embedding_model is None else self.embedding_model


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """How far a group is, in files, and how many chunks it has."""

    completed: int = 0
    failed: int = 0
    chunks: int = 0


_COLUMNS = [groups.c[name] for name in GroupRow.__dataclass_fields__]


def add(connection: Connection, row: GroupRow) -> bool:
    """Add a group. Whether there was none of that name in the store."""
    if get(connection, row.store_id, row.name) is not None:
        return False
    connection.execute(
        insert(groups).values(**{name: getattr(row, name) for name in GroupRow.__dataclass_fields__})
    )
    return True


def get(connection: Connection, store_id: str, name: str) -> GroupRow | None:
    """The group of that name."""
    row = connection.execute(
        select(*_COLUMNS).where(groups.c.store_id == store_id, groups.c.name == name)
    ).first()
    return GroupRow(**row._mapping) if row else None


def of_store(connection: Connection, store_id: str) -> list[GroupRow]:
    """The further groups of a store, oldest first."""
    query = select(*_COLUMNS).where(groups.c.store_id == store_id)
    rows = connection.execute(query.order_by(groups.c.created_at, groups.c.name))
    return [GroupRow(**row._mapping) for row in rows]


def remove(connection: Connection, store_id: str, name: str) -> None:
    """Remove a group with its chunks."""
    connection.execute(sql_delete(groups).where(groups.c.store_id == store_id, groups.c.name == name))
    chunks.remove_group(connection, store_id, name)


def counts(connection: Connection, store_id: str) -> dict[str, GroupCounts]:
    """For each further group of a store how far it is."""
    states = connection.execute(
        select(
            group_files.c.group_name,
            func.count().label("files"),
            func.count(group_files.c.error).label("failed"),
        )
        .where(group_files.c.store_id == store_id)
        .group_by(group_files.c.group_name)
    )
    per_group = (
        select(chunk_table.c.group_name, func.count().label("size"))
        .where(chunk_table.c.store_id == store_id)
        .group_by(chunk_table.c.group_name)
    )
    sizes = {row.group_name: int(row.size) for row in connection.execute(per_group)}
    found = {
        row.group_name: GroupCounts(row.files - row.failed, row.failed, sizes.get(row.group_name, 0))
        for row in states
    }
    found[GROUP] = GroupCounts(chunks=sizes.get(GROUP, 0))
    return found


def waiting(connection: Connection, row: GroupRow, limit: int) -> list[StoreFileRow]:
    """Files that are in the store's own group and not yet in this one, oldest first."""
    done = exists().where(
        group_files.c.store_id == store_files.c.store_id,
        group_files.c.group_name == row.name,
        group_files.c.file_id == store_files.c.file_id,
    )
    rows = connection.execute(
        select(*file_columns())
        .select_from(store_files.join(files, files.c.id == store_files.c.file_id))
        .where(store_files.c.store_id == row.store_id, store_files.c.status == "completed", ~done)
        .order_by(store_files.c.created_at, store_files.c.file_id)
        .limit(limit)
    )
    return [StoreFileRow(**found._mapping) for found in rows]


def unfinished(connection: Connection) -> list[str]:
    """Stores with a group that lacks files."""
    done = exists().where(
        group_files.c.store_id == groups.c.store_id,
        group_files.c.group_name == groups.c.name,
        group_files.c.file_id == store_files.c.file_id,
    )
    rows = connection.execute(
        select(groups.c.store_id)
        .select_from(groups.join(store_files, store_files.c.store_id == groups.c.store_id))
        .where(store_files.c.status == "completed", ~done)
        .distinct()
    )
    return [row.store_id for row in rows]


def put_chunks(
    connection: Connection,
    row: GroupRow,
    file_id: str,
    batch: Sequence[NewChunk],
    model: str | None,
    data: Sequence[bytes] | None,
    *,
    first: bool,
    finished: bool,
) -> bool:
    """Write a run of a file's chunks in this group, the ``first`` in place of all it had there.

    False, and nothing is written, if the group or the file has gone or changed in the meantime.
    """
    here = select(store_files.c.file_id).where(
        store_files.c.store_id == row.store_id, store_files.c.file_id == file_id
    )
    if get(connection, row.store_id, row.name) != row or connection.execute(here).first() is None:
        return False
    write = chunks.replace_file if first else chunks.append_file
    write(connection, row.store_id, file_id, batch, model, data, group=row.name)
    if finished:
        _note(connection, row, file_id, None)
    return True


def fail_file(connection: Connection, row: GroupRow, file_id: str, error: str) -> None:
    """Note that a file cannot be in this group, and why."""
    if put_chunks(connection, row, file_id, (), None, None, first=True, finished=False):
        _note(connection, row, file_id, error)


def retry(connection: Connection, store_id: str) -> None:
    """Let the files that failed in a group be tried again."""
    failed = and_(group_files.c.store_id == store_id, group_files.c.error.is_not(None))
    connection.execute(sql_delete(group_files).where(failed))


def _note(connection: Connection, row: GroupRow, file_id: str, error: str | None) -> None:
    this = {"store_id": row.store_id, "group_name": row.name, "file_id": file_id}
    where = and_(*(group_files.c[name] == value for name, value in this.items()))
    if connection.execute(update(group_files).where(where).values(error=error)).rowcount == 0:
        connection.execute(insert(group_files).values(**this, error=error))


def parents(connection: Connection, store_id: str, group: str, hits: Sequence[HitRow]) -> dict[int, HitRow]:
    """For each of ``hits`` the chunk of ``group`` in which it begins, the last one of several; by the hit's id."""
    start = chunk_table.c.place["start"].as_integer()
    found: dict[int, int] = {}
    for hit in hits:
        wanted = connection.execute(
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
        if wanted is not None:
            found[hit.id] = wanted
    rows = chunks.hits(connection, store_id, sorted(set(found.values())))
    return {hit_id: rows[chunk] for hit_id, chunk in found.items() if chunk in rows}


def around(connection: Connection, store_id: str, hit: HitRow, reach: int) -> list[HitRow]:
    """A chunk with up to ``reach`` chunks before and behind it in the same file and group, in their order."""
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
    rows = chunks.hits(connection, store_id, list(ids))
    return sorted(rows.values(), key=lambda row: row.ordinal)


def new(store_id: str, name: str, parent: str, chunking: Mapping[str, Any], model: str | None) -> GroupRow:
    """A row for a group that begins now."""
    return GroupRow(store_id, name, parent, chunking, model, time.time())
