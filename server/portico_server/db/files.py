"""Rows of uploaded and mirrored files. The bytes are stored outside the database, under their SHA-256."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, Text, cast, func, or_, select, union_all
from sqlalchemy import delete as sql_delete

from portico_server.core.dataclass import dataclass
from portico_server.db import chunks
from portico_server.db.rows import Order, RowPage, Rows
from portico_server.db.schema import (
    app_versions,
    apps,
    artifacts,
    batches,
    containers,
    conversations,
    eval_runs,
    eval_searches,
    evals,
    fact_versions,
    files,
    guard_questions,
    prompts,
    public_links,
    responses,
    sessions,
    skill_versions,
    skills,
    store_files,
    stores,
    tuning_jobs,
    upload_parts,
    uploads,
)

MAX_EXPIRED_ROWS = 10_000

MIRRORED_OWNER = "store:"
"""Prefix of the owner of a file that a store mirrors from a folder; the id of the store follows."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file. ``owner`` is the key that created it, ``None`` if it is shared, or the store that mirrors it."""

    id: str
    owner: str | None
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created_at: float
    expires_at: float | None = None


_FILES = Rows(files, FileRow)

add, get = _FILES.add, _FILES.get


def page(
    connection: Connection,
    owner: str | None,
    *,
    after: FileRow | None = None,
    limit: int = 10_000,
    order: Order = "desc",
    purpose: str | None = None,
) -> RowPage[FileRow]:
    """Return uploaded files by creation time: all, or only those of ``owner`` and shared ones."""
    query = _FILES.select.where(
        or_(files.c.owner.is_(None), files.c.owner.not_like(f"{MIRRORED_OWNER}%")),
        or_(files.c.expires_at.is_(None), files.c.expires_at > time.time()),
    )
    if owner is not None:
        query = query.where(or_(files.c.owner.is_(None), files.c.owner == owner))
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    # Ids begin with the creation time, so they sort like created_at, and no two are equal.
    if after is not None:
        query = query.where(files.c.id > after.id if order == "asc" else files.c.id < after.id)
    query = query.order_by(files.c.id.asc() if order == "asc" else files.c.id.desc())
    return _FILES.page(connection, query, limit)


def delete(connection: Connection, file_id: str) -> bool:
    """Remove a file from every store, then delete it. Return whether its bytes are no longer needed by another row."""
    row = get(connection, file_id)
    if row is None:
        return False
    holders = connection.execute(select(store_files.c.store_id).where(store_files.c.file_id == file_id))
    for store_id in [holder.store_id for holder in holders]:
        chunks.remove_file(connection, store_id, file_id)
    connection.execute(sql_delete(files).where(files.c.id == file_id))
    return not is_held(connection, row.sha256)


def delete_all(connection: Connection, file_ids: Sequence[str]) -> list[str]:
    """Delete files as `delete` does. Return the digests of the bytes that no other row needs."""
    unneeded_digests = []
    for file_id in file_ids:
        row = get(connection, file_id)
        if row is not None and delete(connection, file_id):
            unneeded_digests.append(row.sha256)
    return unneeded_digests


def is_held(connection: Connection, sha256: str) -> bool:
    """Return whether these bytes are in use: any row refers to them, including a part of an upload, or an active batch
    reads them.
    """
    for holder in (
        select(files.c.id).where(files.c.sha256 == sha256),
        select(upload_parts.c.id).where(upload_parts.c.sha256 == sha256),
        select(batches.c.id).where(batches.c.input_sha256 == sha256, batches.c.finished_at.is_(None)),
    ):
        if connection.execute(holder.limit(1)).first() is not None:
            return True
    return False


_MIRRORED = (
    select(stores.c.owner.label("owner"), files.c.bytes.label("bytes"))
    .join(stores, files.c.owner == MIRRORED_OWNER + stores.c.id)
    .where(stores.c.owner.is_not(None))
)
_INDEXED = (
    select(stores.c.owner.label("owner"), store_files.c.usage_bytes.label("bytes"))
    .join(stores, store_files.c.store_id == stores.c.id)
    .where(stores.c.owner.is_not(None))
)
_GUARD_QUESTIONS = (
    select(
        stores.c.owner.label("owner"),
        (
            func.length(guard_questions.c.question)
            + func.length(guard_questions.c.passage)
            + func.length(cast(guard_questions.c.facts, Text))
        ).label("bytes"),
    )
    .join(stores, guard_questions.c.store_id == stores.c.id)
    .where(stores.c.owner.is_not(None))
)
_FACT_VERSIONS = select(
    files.c.owner.label("owner"),
    (func.length(fact_versions.c.text) + func.length(cast(fact_versions.c.attributes, Text))).label("bytes"),
).join(files, fact_versions.c.file_id == files.c.id)
_PARTS = select(uploads.c.owner.label("owner"), upload_parts.c.bytes.label("bytes")).join(
    uploads, upload_parts.c.upload_id == uploads.c.id
)
_STORED = union_all(
    select(files.c.owner.label("owner"), files.c.bytes.label("bytes")).where(
        files.c.owner.is_not(None), files.c.owner.not_like(f"{MIRRORED_OWNER}%")
    ),
    _MIRRORED,
    _INDEXED,
    _GUARD_QUESTIONS,
    _FACT_VERSIONS,
    _PARTS,
    select(artifacts.c.owner.label("owner"), artifacts.c.bytes.label("bytes")).where(
        artifacts.c.owner.is_not(None)
    ),
    select(skills.c.owner.label("owner"), skill_versions.c.bytes.label("bytes"))
    .join(skills, skill_versions.c.skill_id == skills.c.id)
    .where(skills.c.owner.is_not(None)),
    select(apps.c.owner.label("owner"), app_versions.c.bytes.label("bytes"))
    .join(apps, app_versions.c.app_id == apps.c.id)
    .where(apps.c.owner.is_not(None)),
    *(
        select(table.c.owner, table.c.bytes)
        for table in (sessions, public_links, conversations, responses, containers)
    ),
    *(
        select(table.c.owner, table.c.bytes).where(table.c.owner.is_not(None))
        for table in (prompts, evals, eval_runs, eval_searches, tuning_jobs)
    ),
).subquery()
"""The data on disk that count against keys: files, mirrored data of their stores, chunks with their vectors, guard
questions, former versions of facts, parts of uploads, files that their runs created, skills, containers, sessions with
their public links, conversations, responses, apps and prompts with their versions, evaluations and training jobs.
"""


def stored_by_owner(connection: Connection, owners: Sequence[str] | None = None) -> dict[str, int]:
    """Return the number of bytes that each key stores on disk, keyed by the key's id; ``owners``: only of these
    keys.
    """
    query = select(_STORED.c.owner, func.sum(_STORED.c.bytes)).group_by(_STORED.c.owner)
    if owners is not None:
        query = query.where(_STORED.c.owner.in_(owners))
    return {owner: int(size) for owner, size in connection.execute(query)}


def stored_bytes(connection: Connection, owner: str) -> int:
    """Return the number of bytes that a key stores on disk."""
    result = connection.execute(select(func.sum(_STORED.c.bytes)).where(_STORED.c.owner == owner))
    return int(result.scalar_one() or 0)


def expired_files(connection: Connection) -> list[FileRow]:
    """Return a limited number of expired files."""
    query = _FILES.select.where(files.c.expires_at <= time.time())
    return _FILES.every(connection, query.limit(MAX_EXPIRED_ROWS))
