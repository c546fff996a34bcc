"""Files of stores: files mirrored from a source, and renames of these files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import chunks, reviewed_files, stores
from portico_server.db import files as file_rows
from portico_server.db.files import MIRRORED_OWNER, FileRow
from portico_server.db.schema import files, guard_questions, store_files
from portico_server.db.schema import stores as store_rows
from portico_server.db.stores import StoreFileRow


@dataclass(frozen=True, slots=True)
class MirroredFile:
    """A new file from a source, to be added to its store. ``replaces`` is the id of the file's previous version."""

    file: FileRow
    attributes: Mapping[str, str | float | bool]
    chunking: Mapping[str, Any]
    mtime_ns: int | None
    size: int
    replaces: str | None = None
    readers: Sequence[Sequence[str]] | None = None


def mirror(
    connection: Connection, store_id: str, only: Sequence[str] | None = None
) -> dict[str, StoreFileRow]:
    """Return the files that a store mirrors from its source, keyed by their names in the source. Old files under
    review are left out, because the source no longer contains them.

    ``only`` limits them to files with these names, and to files in folders with these names.
    """
    query = (
        select(*stores.file_columns())
        .select_from(store_files.join(files, files.c.id == store_files.c.file_id))
        .where(
            store_files.c.store_id == store_id,
            store_files.c.review != "old",
            files.c.owner == f"{MIRRORED_OWNER}{store_id}",
        )
    )
    if only is not None:
        name = files.c.filename
        below = (
            and_(name > f"{folder}/", name < f"{folder}0") for folder in only
        )  # in ASCII, 0 follows the slash
        query = query.where(or_(name.in_(only), *below))
    return {row.filename: StoreFileRow(*row) for row in connection.execute(query)}


def remirror(
    connection: Connection,
    store_id: str,
    files: Sequence[MirroredFile],
    removed_ids: Sequence[str] = (),
    rights: Any = None,
) -> list[str]:
    """Add new files to a store and remove files; return the digests that no row needs any more.

    ``rights`` are those of the store from which the files' readers were determined. If they have changed since,
    nobody may read the files. In a guarded store, the new files and the removed files wait for a review, see
    `reviewed_files`.
    """
    now = time.time()
    is_current = _has_rights(connection, store_id, rights)
    is_guarded = reviewed_files.begin_if_guarded(connection, store_id)
    if files:
        file_rows.add(connection, *(item.file for item in files))
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
                    "review": "new" if is_guarded else "",
                    "readers": item.readers if is_current else None,
                }
                for item in files
            ],
        )
        stores.touch(connection, store_id)
    old_ids = [*removed_ids, *(item.replaces for item in files if item.replaces)]
    if is_guarded:
        old_ids = reviewed_files.retain(connection, store_id, old_ids)
    return file_rows.delete_all(connection, old_ids)


def move_files(
    connection: Connection,
    store_id: str,
    moved_files: Sequence[tuple[str, str, Mapping[str, Any]]],
    renamed_ids: Sequence[str],
    rights: Any = None,
) -> None:
    """Rename mirrored files, each given as (id, new name, new values of other columns).

    ``renamed_ids`` are the files whose searchable words have changed. Guard questions follow their files. ``rights``
    as in `remirror`.
    """
    withheld = {} if _has_rights(connection, store_id, rights) else {"readers": None}
    for file_id, name, values in moved_files:
        old_name = select(files.c.filename).where(files.c.id == file_id).scalar_subquery()
        connection.execute(
            update(guard_questions)
            .where(guard_questions.c.store_id == store_id, guard_questions.c.file == old_name)
            .values(file=name)
        )
        connection.execute(update(files).where(files.c.id == file_id).values(filename=name))
        stores.set_file(connection, store_id, file_id, {**values, **withheld})
    chunks.rename_files(connection, store_id, renamed_ids)


def readers(connection: Connection, store_id: str) -> list[tuple[str, str, Sequence[Sequence[str]] | None]]:
    """Return (file id, name, readers) of every mirrored file of a store, and of its versions under review."""
    query = (
        select(store_files.c.file_id, files.c.filename, store_files.c.readers)
        .join(files, files.c.id == store_files.c.file_id)
        .where(store_files.c.store_id == store_id, files.c.owner == f"{MIRRORED_OWNER}{store_id}")
    )
    return [(file_id, name, sets) for file_id, name, sets in connection.execute(query)]


def set_readers(
    connection: Connection, store_id: str, changes: Mapping[str, Sequence[Sequence[str]] | None], rights: Any
) -> None:
    """Set the readers of files, given by id, unless the store no longer has ``rights``."""
    if _has_rights(connection, store_id, rights):
        for file_id, sets in changes.items():
            stores.set_file(connection, store_id, file_id, {"readers": sets})


def _has_rights(connection: Connection, store_id: str, rights: Any) -> bool:
    """Return whether a store has these rights, and lock its row, so that they stay the same until the transaction
    ends.
    """
    query = select(store_rows.c.rights).where(store_rows.c.id == store_id).with_for_update(key_share=True)
    return bool(connection.scalar(query) == rights)
