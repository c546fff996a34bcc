"""Files attached to a store together: OpenAI's file batches."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, func, select, update

from portico.schemas.stores import FileCounts
from portico_server.core.dataclass import dataclass
from portico_server.db import chunks
from portico_server.db.rows import Rows
from portico_server.db.schema import file_batches, store_files
from portico_server.db.stores import file_counts


@dataclass(frozen=True, slots=True)
class FileBatchRow:
    """Files that were attached together."""

    id: str
    store_id: str
    file_ids: Sequence[str]
    created_at: float
    cancelled_at: float | None = None


_BATCHES = Rows(file_batches, FileBatchRow)

add_batch, get_batch = _BATCHES.add, _BATCHES.get


def batch_counts(connection: Connection, row: FileBatchRow) -> FileCounts:
    """Return how many of a batch's files are in each state."""
    query = (
        select(store_files.c.status, func.count().label("files"))
        .where(store_files.c.store_id == row.store_id, store_files.c.file_id.in_(row.file_ids))
        .group_by(store_files.c.status)
    )
    return file_counts({found_row.status: found_row.files for found_row in connection.execute(query)})


def cancel_batch(connection: Connection, row: FileBatchRow) -> None:
    """Cancel the waiting files of a batch, and delete the chunks of long files that were partly indexed."""
    given_up = (
        connection.execute(
            update(store_files)
            .where(
                store_files.c.store_id == row.store_id,
                store_files.c.file_id.in_(row.file_ids),
                store_files.c.status == "in_progress",
            )
            .values(status="cancelled", usage_bytes=0)
            .returning(store_files.c.file_id)
        )
        .scalars()
        .all()
    )
    for file_id in given_up:
        chunks.remove_file(connection, row.store_id, file_id)
    connection.execute(
        update(file_batches).where(file_batches.c.id == row.id).values(cancelled_at=time.time())
    )
