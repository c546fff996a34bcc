"""Writes for indexing: the chunks of several files together, files that could not be parsed, and the size of files."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import chunks as chunk_rows
from portico_server.db.chunks import FileChunks, NewChunk
from portico_server.db.indexed_bytes import bytes_in_groups
from portico_server.db.schema import store_files
from portico_server.db.stores import StoreFileRow


@dataclass(frozen=True, slots=True)
class IndexedChunks:
    """A run of a file's chunks. If it is the ``first``, it replaces all earlier chunks; if it is the last, the file is
    ``finished``.

    ``data`` contains a vector for each chunk. ``used`` is the size in bytes of this run and of all runs before it.
    """

    row: StoreFileRow
    chunks: Sequence[NewChunk]
    data: Sequence[bytes] | None
    first: bool
    finished: bool
    used: int


def put(connection: Connection, store_id: str, batch: Sequence[IndexedChunks], model: str | None) -> set[str]:
    """Write runs of chunks of a store's files, in order; return the ids of the files whose chunks were written.

    Files that were removed, cancelled or given a different chunking in the meantime are skipped. Raises `NotFound` if
    the store no longer exists.
    """
    file_rows = {item.row.file_id: item.row for item in batch}
    result = connection.execute(
        select(store_files.c.file_id, store_files.c.chunking).where(
            store_files.c.store_id == store_id,
            store_files.c.file_id.in_(list(file_rows)),
            store_files.c.status == "in_progress",
        )
    )
    current_ids = {row.file_id for row in result if row.chunking == file_rows[row.file_id].chunking}
    indexed_chunks = [item for item in batch if item.row.file_id in current_ids]
    pieces = [FileChunks(item.row.file_id, item.chunks, item.data, item.first) for item in indexed_chunks]
    chunk_rows.put(connection, store_id, pieces, model)
    group_bytes = bytes_in_groups(
        connection, store_id, [item.row.file_id for item in indexed_chunks if item.finished]
    )
    finished_rows = [
        {
            "b_file_id": item.row.file_id,
            "status": "completed",
            "usage_bytes": item.used + group_bytes.get(item.row.file_id, 0),
        }
        for item in indexed_chunks
        if item.finished
    ]
    if finished_rows:
        condition = and_(store_files.c.store_id == store_id, store_files.c.file_id == bindparam("b_file_id"))
        connection.execute(
            update(store_files)
            .where(condition)
            .values(status=bindparam("status"), usage_bytes=bindparam("usage_bytes")),
            finished_rows,
        )
    return current_ids


def fail_file(
    connection: Connection, row: StoreFileRow, code: str, message: str, *, keep: bool = False
) -> None:
    """Mark a file that could not be indexed as failed, which removes it from searches, and delete its chunks. With
    ``keep``, the chunks remain, so that another attempt can continue after them.
    """
    condition = and_(store_files.c.store_id == row.store_id, store_files.c.file_id == row.file_id)
    now = connection.execute(select(store_files.c.status, store_files.c.chunking).where(condition)).first()
    if now is None or now.status != "in_progress" or now.chunking != row.chunking:
        return
    if not keep:
        chunk_rows.remove_file(connection, row.store_id, row.file_id)
    connection.execute(
        update(store_files)
        .where(condition)
        .values(status="failed", error_code=code, error_message=message, usage_bytes=0)
    )
