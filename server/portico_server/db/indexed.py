"""What indexing writes: the chunks of several files at once, files that could not be read, and the bytes that files
take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import chunks as chunk_rows
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.chunks import FileChunks, NewChunk
from portico_server.db.schema import chunks, store_files, vectors
from portico_server.db.stores import StoreFileRow

# How many bytes the chunks of files take, in all groups: their texts and their vectors.


_BATCH_FILES = 500
"""Files in one ``IN`` list."""


def bytes_in_groups(connection: Connection, store_id: str, file_ids: Sequence[str]) -> dict[str, int]:
    """For each file with chunks in further groups than the one that every store has: the bytes that they take."""
    return _count_bytes(connection, store_id, file_ids, chunks.c.group_name != DEFAULT_GROUP)


def bytes_in_group(
    connection: Connection, store_id: str, file_ids: Sequence[str], group: str
) -> dict[str, int]:
    """The same for one group."""
    return _count_bytes(connection, store_id, file_ids, chunks.c.group_name == group)


def _count_bytes(
    connection: Connection, store_id: str, file_ids: Sequence[str], which: ColumnElement[bool]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for i in range(0, len(file_ids), _BATCH_FILES):
        ours = and_(
            chunks.c.store_id == store_id, chunks.c.file_id.in_(file_ids[i : i + _BATCH_FILES]), which
        )
        for file_id, text in connection.execute(select(chunks.c.file_id, chunks.c.text).where(ours)):
            found[file_id] = found.get(file_id, 0) + len(text.encode())
        sizes = (
            select(chunks.c.file_id, func.sum(func.length(vectors.c.data)))
            .join(vectors, vectors.c.chunk_id == chunks.c.id)
            .where(ours)
            .group_by(chunks.c.file_id)
        )
        for file_id, size in connection.execute(sizes):
            found[file_id] = found.get(file_id, 0) + int(size)
    return found


def add_bytes(
    connection: Connection, store_id: str, before: Mapping[str, int], after: Mapping[str, int]
) -> None:
    """Note that the chunks of files in further groups take other bytes than before."""
    for file_id in before.keys() | after.keys():
        change = after.get(file_id, 0) - before.get(file_id, 0)
        if change:
            connection.execute(
                update(store_files)
                .where(store_files.c.store_id == store_id, store_files.c.file_id == file_id)
                .values(usage_bytes=store_files.c.usage_bytes + change)
            )


@dataclass(frozen=True, slots=True)
class IndexedChunks:
    """A run of a file's chunks: the ``first`` takes the place of all it had, with the last the file is ``finished``.

    ``data``: a vector for each. ``used``: the bytes of this run and of those before it.
    """

    row: StoreFileRow
    chunks: Sequence[NewChunk]
    data: Sequence[bytes] | None
    first: bool
    finished: bool
    used: int


def put(connection: Connection, store_id: str, batch: Sequence[IndexedChunks], model: str | None) -> set[str]:
    """Write runs of chunks of files of a store, in order; the ids of those files that they were written for.

    Left out are files that were taken out, cancelled or changed in the meantime. Raises `NotFound` if the store is
    gone.
    """
    wanted = {item.row.file_id: item.row for item in batch}
    found = connection.execute(
        select(store_files.c.file_id, store_files.c.chunking).where(
            store_files.c.store_id == store_id,
            store_files.c.file_id.in_(list(wanted)),
            store_files.c.status == "in_progress",
        )
    )
    kept = {row.file_id for row in found if row.chunking == wanted[row.file_id].chunking}
    ours = [item for item in batch if item.row.file_id in kept]
    pieces = [FileChunks(item.row.file_id, item.chunks, item.data, item.first) for item in ours]
    chunk_rows.put(connection, store_id, pieces, model)
    more = bytes_in_groups(connection, store_id, [item.row.file_id for item in ours if item.finished])
    finished = [
        {
            "b_file_id": item.row.file_id,
            "status": "completed",
            "usage_bytes": item.used + more.get(item.row.file_id, 0),
        }
        for item in ours
        if item.finished
    ]
    if finished:
        this = and_(store_files.c.store_id == store_id, store_files.c.file_id == bindparam("b_file_id"))
        connection.execute(
            update(store_files)
            .where(this)
            .values(status=bindparam("status"), usage_bytes=bindparam("usage_bytes")),
            finished,
        )
    return kept


def fail_file(
    connection: Connection, row: StoreFileRow, code: str, message: str, *, keep: bool = False
) -> None:
    """Mark a file that could not be indexed, and take what there was of it out of searches. ``keep`` its chunks, for an
    attempt that continues behind them.
    """
    this = and_(store_files.c.store_id == row.store_id, store_files.c.file_id == row.file_id)
    now = connection.execute(select(store_files.c.status, store_files.c.chunking).where(this)).first()
    if now is None or now.status != "in_progress" or now.chunking != row.chunking:
        return
    if not keep:
        chunk_rows.remove_file(connection, row.store_id, row.file_id)
    connection.execute(
        update(store_files)
        .where(this)
        .values(status="failed", error_code=code, error_message=message, usage_bytes=0)
    )
