"""Files of stores: those mirrored from a source, facts of agents, batches that were attached together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import chunks, stores
from portico_server.db import files as file_rows
from portico_server.db.files import MIRRORED_OWNER, FileRow
from portico_server.db.rows import Rows
from portico_server.db.schema import file_batches, files, store_files
from portico_server.db.stores import StoreFileCounts, StoreFileRow


@dataclass(frozen=True, slots=True)
class MirroredFile:
    """A file of a source, to be put into its store. ``replaces``: the id of what it was before it changed."""

    file: FileRow
    attributes: Mapping[str, str | float | bool]
    chunking: Mapping[str, Any]
    mtime_ns: int | None
    size: int
    replaces: str | None = None


def mirror(
    connection: Connection, store_id: str, only: Sequence[str] | None = None
) -> dict[str, StoreFileRow]:
    """The files that a store mirrors from its source, by their name in it.

    ``only``: those of these names, and those that lie below one of them.
    """
    query = (
        select(*stores.file_columns())
        .select_from(store_files.join(files, files.c.id == store_files.c.file_id))
        .where(store_files.c.store_id == store_id, files.c.owner == f"{MIRRORED_OWNER}{store_id}")
    )
    if only is not None:
        name = files.c.filename
        below = (and_(name > f"{one}/", name < f"{one}0") for one in only)  # 0 comes behind the slash
        query = query.where(or_(name.in_(only), *below))
    return {row.filename: StoreFileRow(*row) for row in connection.execute(query)}


def remirror(
    connection: Connection, store_id: str, came: Sequence[MirroredFile], gone: Sequence[str] = ()
) -> list[str]:
    """Put files that came into a store and remove those that went; the digests that nobody needs now."""
    now = time.time()
    if came:
        file_rows.add(connection, *(item.file for item in came))
        connection.execute(
            insert(store_files),
            [
                {
                    "store_id": store_id,
                    "file_id": item.file.id,
                    "status": "in_progress",
                    "attributes": dict(item.attributes),
                    "chunking": dict(item.chunking),
                    "usage_bytes": 0,
                    "created_at": now,
                    "source_mtime_ns": item.mtime_ns,
                    "source_size": item.size,
                }
                for item in came
            ],
        )
        stores.touch(connection, store_id)
    unneeded = []
    for file_id in [*gone, *(item.replaces for item in came if item.replaces)]:
        old = file_rows.get(connection, file_id)
        if old is not None and file_rows.delete(connection, file_id):
            unneeded.append(old.sha256)
    return unneeded


def move_files(
    connection: Connection,
    store_id: str,
    moved: Sequence[tuple[str, str, int | None, int]],
    renamed: Sequence[str],
) -> None:
    """Give mirrored files (id, name, time in nanoseconds, size) the names that they have now.

    ``renamed``: those that are found by other words from now on.
    """
    for file_id, name, mtime_ns, size in moved:
        connection.execute(update(files).where(files.c.id == file_id).values(filename=name))
        stores.set_file(connection, store_id, file_id, {"source_mtime_ns": mtime_ns, "source_size": size})
    chunks.rename_files(connection, store_id, renamed)


# Facts as they are kept: files of stores with the attribute ``fact``, found by whose they are.


FACT_PREFIX = "fact-"
"""What the names of their files begin with."""


@dataclass(frozen=True, slots=True)
class FactRow:
    """The file that a fact is, in one store. ``id`` is the fact's own, which other files had before it."""

    id: str
    file_id: str
    store_id: str
    sha256: str
    attributes: Mapping[str, Any]
    created_at: float


def newest_facts(
    connection: Connection,
    owner: str,
    limit: int,
    *,
    store_id: str | None = None,
    fact_id: str | None = None,
    where: Mapping[str, str] | None = None,
) -> list[FactRow]:
    """The facts of ``owner``, the newest first; in a store, of an id, with these attributes."""
    kept = store_files.c.attributes
    known = func.coalesce(kept["id"].as_string(), files.c.id)
    query = (
        select(known, files.c.id, store_files.c.store_id, files.c.sha256, kept, files.c.created_at)
        .join(store_files, store_files.c.file_id == files.c.id)
        .where(files.c.owner == owner, files.c.filename.startswith(FACT_PREFIX, autoescape=True))
        .where(kept["fact"].as_boolean(), kept["owner"].as_string() == owner)
        .order_by(files.c.created_at.desc(), files.c.id.desc())
        .limit(limit)
    )
    if store_id is not None:
        query = query.where(store_files.c.store_id == store_id)
    if fact_id is not None:
        query = query.where(known == fact_id)
    for name, value in (where or {}).items():
        query = query.where(kept[name].as_string() == value)
    return [FactRow(*row) for row in connection.execute(query)]


# Files that were attached to a store together: OpenAI's file batches.


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


def batch_counts(connection: Connection, row: FileBatchRow) -> StoreFileCounts:
    """How many files of a batch are in which state."""
    query = (
        select(store_files.c.status, func.count().label("files"))
        .where(store_files.c.store_id == row.store_id, store_files.c.file_id.in_(row.file_ids))
        .group_by(store_files.c.status)
    )
    return StoreFileCounts(**{found.status: found.files for found in connection.execute(query)})


def cancel_batch(connection: Connection, row: FileBatchRow) -> None:
    """Give up the files of a batch that still wait, with what is indexed of a long one already."""
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
