"""Rows of files that runs created. The bytes are stored in a separate folder, under their SHA-256."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select

from portico_server.core.dataclass import dataclass
from portico_server.db.retention import kept_run_ids
from portico_server.db.rows import Rows
from portico_server.db.schema import artifacts, container_files


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """An artifact. ``owner`` is the id of the key whose run created it, or ``None`` for a shared artifact."""

    id: str
    owner: str | None
    run_id: str
    name: str
    media_type: str
    bytes: int
    sha256: str
    created_at: float


_ARTIFACTS = Rows(artifacts, ArtifactRow)

add, get = _ARTIFACTS.add, _ARTIFACTS.get


def newest(
    connection: Connection, owner: str | None, *, run_id: str | None = None, limit: int = 100
) -> list[ArtifactRow]:
    """Return artifacts, newest first: all, or only those of ``owner`` and shared artifacts; with ``run_id``, only
    those of that run.
    """
    query = _ARTIFACTS.select.order_by(artifacts.c.id.desc()).limit(limit)
    if owner is not None:
        query = query.where(or_(artifacts.c.owner.is_(None), artifacts.c.owner == owner))
    if run_id is not None:
        query = query.where(artifacts.c.run_id == run_id)
    return _ARTIFACTS.every(connection, query)


def _orphaned(before: float) -> ColumnElement[bool]:
    condition = artifacts.c.run_id.in_(kept_run_ids(before)) | artifacts.c.id.in_(
        select(container_files.c.id)
    )
    return (artifacts.c.created_at < before) & ~condition


def orphaned(connection: Connection, before: float, limit: int) -> list[ArtifactRow]:
    """Return artifacts created before a time, in seconds since 1970, whose runs are no longer stored and that no
    container contains.
    """
    return _ARTIFACTS.every(connection, _ARTIFACTS.select.where(_orphaned(before)).limit(limit))


def count_orphaned(connection: Connection, before: float) -> int:
    """Return the number of artifacts that `orphaned` would return without a limit."""
    result = connection.execute(select(func.count()).select_from(artifacts).where(_orphaned(before)))
    return result.scalar_one()


def remove(connection: Connection, artifact_id: str) -> str | None:
    """Delete an artifact; return the SHA-256 of its bytes if no other row refers to them."""
    row = get(connection, artifact_id)
    if row is None:
        return None
    connection.execute(delete(artifacts).where(artifacts.c.id == artifact_id))
    return None if is_held(connection, row.sha256) else row.sha256


def is_held(connection: Connection, sha256: str) -> bool:
    """Return whether any row refers to these bytes."""
    row = connection.execute(select(artifacts.c.id).where(artifacts.c.sha256 == sha256).limit(1)).first()
    return row is not None
