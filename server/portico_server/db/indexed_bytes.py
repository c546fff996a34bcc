"""The size of files' chunks in all groups: their texts and their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.schema import chunks, store_files, vectors

_BATCH_FILES = 500
"""Maximum number of files in one ``IN`` list."""


def bytes_in_groups(connection: Connection, store_id: str, file_ids: Sequence[str]) -> dict[str, int]:
    """Return the size in bytes of each file's chunks in groups other than the default group."""
    return _count_bytes(connection, store_id, file_ids, chunks.c.group_name != DEFAULT_GROUP)


def bytes_in_group(
    connection: Connection, store_id: str, file_ids: Sequence[str], group: str
) -> dict[str, int]:
    """Return the size in bytes of each file's chunks in one group."""
    return _count_bytes(connection, store_id, file_ids, chunks.c.group_name == group)


def _count_bytes(
    connection: Connection, store_id: str, file_ids: Sequence[str], which: ColumnElement[bool]
) -> dict[str, int]:
    bytes_by_file: dict[str, int] = {}
    for i in range(0, len(file_ids), _BATCH_FILES):
        condition = and_(
            chunks.c.store_id == store_id, chunks.c.file_id.in_(file_ids[i : i + _BATCH_FILES]), which
        )
        for file_id, text in connection.execute(select(chunks.c.file_id, chunks.c.text).where(condition)):
            bytes_by_file[file_id] = bytes_by_file.get(file_id, 0) + len(text.encode())
        sizes = (
            select(chunks.c.file_id, func.sum(func.length(vectors.c.data)))
            .join(vectors, vectors.c.chunk_id == chunks.c.id)
            .where(condition)
            .group_by(chunks.c.file_id)
        )
        for file_id, size in connection.execute(sizes):
            bytes_by_file[file_id] = bytes_by_file.get(file_id, 0) + int(size)
    return bytes_by_file


def add_bytes(
    connection: Connection, store_id: str, before: Mapping[str, int], after: Mapping[str, int]
) -> None:
    """Record the change in the size of files' chunks in an additional group, from ``before`` to ``after``."""
    for file_id in before.keys() | after.keys():
        change = after.get(file_id, 0) - before.get(file_id, 0)
        if change:
            connection.execute(
                update(store_files)
                .where(store_files.c.store_id == store_id, store_files.c.file_id == file_id)
                .values(usage_bytes=store_files.c.usage_bytes + change)
            )
