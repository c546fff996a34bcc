"""Multipart uploads and their received parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, delete, func, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import files
from portico_server.db.files import FileRow
from portico_server.db.rows import Rows
from portico_server.db.schema import upload_parts, uploads

UploadStatus: TypeAlias = Literal["pending", "completed", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload. ``bytes`` is the announced size; ``file_id`` is the id of the file after the upload is completed."""

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    media_type: str
    status: UploadStatus
    file_keep_s: int | None
    file_id: str | None
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class PartRow:
    """A received part; its bytes are stored under their digest."""

    id: str
    upload_id: str
    bytes: int
    sha256: str
    created_at: float


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """Limits on an owner's uploads in progress: their number, and their total announced bytes."""

    uploads: int
    bytes: int


_UPLOADS = Rows(uploads, UploadRow)
_PARTS = Rows(upload_parts, PartRow)


def get(connection: Connection, upload_id: str) -> UploadRow | None:
    """Return an upload, or ``None``. An upload that is still pending after its expiry time is returned as expired."""
    row = _UPLOADS.get(connection, upload_id)
    if row is not None and row.status == "pending" and row.expires_at <= time.time():
        return replace(row, status="expired")
    return row


def add(connection: Connection, row: UploadRow, bounds: UploadBounds) -> bool:
    """Store a new upload, if the owner's limits allow it; return whether it was stored."""
    open_ones = (uploads.c.owner == row.owner) & _is_pending()
    count, announced_bytes = connection.execute(
        select(func.count(), func.coalesce(func.sum(uploads.c.bytes), 0)).where(open_ones)
    ).one()
    if count >= bounds.uploads or announced_bytes + row.bytes > bounds.bytes:
        return False
    _UPLOADS.add(connection, row)
    return True


def parts(connection: Connection, upload_id: str) -> list[PartRow]:
    """Return the received parts of an upload, in order of arrival."""
    return _PARTS.every(
        connection, _PARTS.select.where(upload_parts.c.upload_id == upload_id).order_by(upload_parts.c.id)
    )


def add_part(connection: Connection, row: PartRow, max_parts: int, max_bytes: int) -> bool:
    """Store a part of an upload, if the upload is pending and within its limits; return whether it was stored."""
    # Parts arrive in parallel; the lock makes counting them atomic.
    connection.execute(select(uploads.c.id).where(uploads.c.id == row.upload_id).with_for_update())
    upload_row = get(connection, row.upload_id)
    condition = upload_parts.c.upload_id == row.upload_id
    count, total = connection.execute(
        select(func.count(), func.coalesce(func.sum(upload_parts.c.bytes), 0)).where(condition)
    ).one()
    if (
        upload_row is None
        or upload_row.status != "pending"
        or count >= max_parts
        or total + row.bytes > max_bytes
    ):
        return False
    _PARTS.add(connection, row)
    return True


def complete(connection: Connection, upload_id: str, row: FileRow) -> list[str] | None:
    """Complete a pending upload with ``row`` as its file, and delete its parts. Return the parts' digests, or ``None``
    if the upload is not pending.
    """
    if not _end(connection, upload_id, "completed", row.id):
        return None
    files.add(connection, row)
    return _forget_parts(connection, [upload_id])


def cancel(connection: Connection, upload_id: str) -> list[str] | None:
    """Cancel a pending upload and delete its parts. Return the parts' digests, or ``None`` if the upload is not
    pending.
    """
    if not _end(connection, upload_id, "cancelled", None):
        return None
    return _forget_parts(connection, [upload_id])


def count_expired(connection: Connection) -> int:
    """Return the number of expired uploads that are still marked as pending."""
    late = (uploads.c.status == "pending") & (uploads.c.expires_at <= time.time())
    return connection.execute(select(func.count()).select_from(uploads).where(late)).scalar_one()


def expire(connection: Connection, limit: int) -> tuple[int, list[str]]:
    """Mark up to ``limit`` expired uploads as expired and delete their parts. Return the number of uploads, and the
    digests of the parts.
    """
    late = (uploads.c.status == "pending") & (uploads.c.expires_at <= time.time())
    ids = list(connection.execute(select(uploads.c.id).where(late).limit(limit)).scalars())
    if not ids:
        return 0, []
    connection.execute(update(uploads).where(uploads.c.id.in_(ids)).values(status="expired"))
    return len(ids), _forget_parts(connection, ids)


def forget_ended(connection: Connection, before: float, limit: int) -> int:
    """Delete up to ``limit`` ended uploads that expired before a time; return the number deleted."""
    old = (uploads.c.status != "pending") & (uploads.c.expires_at < before)
    ids = list(connection.execute(select(uploads.c.id).where(old).limit(limit)).scalars())
    if ids:
        connection.execute(delete(uploads).where(uploads.c.id.in_(ids)))
    return len(ids)


def _is_pending() -> Any:
    return (uploads.c.status == "pending") & (uploads.c.expires_at > time.time())


def _end(connection: Connection, upload_id: str, status: UploadStatus, file_id: str | None) -> bool:
    result = connection.execute(
        update(uploads).where(uploads.c.id == upload_id, _is_pending()).values(status=status, file_id=file_id)
    )
    return result.rowcount == 1


def _forget_parts(connection: Connection, upload_ids: Sequence[str]) -> list[str]:
    binary_expression = upload_parts.c.upload_id.in_(upload_ids)
    digests = list(connection.execute(select(upload_parts.c.sha256).where(binary_expression)).scalars())
    connection.execute(delete(upload_parts).where(binary_expression))
    return digests
