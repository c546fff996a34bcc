"""Marks in the database for bytes in a bucket that have been announced but have no row yet, or that are being removed.

The bucket is never accessed inside a transaction. Between two transactions, a mark prevents other daemons from adding
or removing the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import blob_marks

REMOVING: Final = ""
"""The holder of a mark for bytes that are being removed."""


@dataclass(frozen=True, slots=True)
class BlobKind:
    """A kind of stored bytes. ``folder`` is where they are stored; ``is_held`` returns whether a row refers to bytes
    with a digest.
    """

    folder: str
    is_held: Callable[[Connection, str], bool]
    whole: bool
    """True if a file name is the whole digest, including the two digits that name the file's folder."""

    def path(self, sha256: str) -> str:
        """Return the path of a file within the folder of its kind."""
        return f"{sha256[:2]}/{sha256 if self.whole else sha256[2:]}"

    def name(self, sha256: str) -> str:
        """Return the path of a file, including the folder of its kind."""
        return f"{self.folder}/{self.path(sha256)}"


def announce(
    connection: Connection, kind: BlobKind, digests: Sequence[str], holder: str, seconds: float
) -> bool:
    """Prevent the removal of bytes that ``holder`` is about to store. If any of the bytes are being removed, return
    false and write nothing.
    """
    now = clock(connection)
    condition = (blob_marks.c.kind == kind.folder) & blob_marks.c.sha256.in_(digests)
    removing = select(blob_marks.c.sha256).where(
        condition, blob_marks.c.holder == REMOVING, blob_marks.c.expires_at > now
    )
    if connection.execute(removing.limit(1)).first() is not None:
        return False
    marks = [
        {"kind": kind.folder, "sha256": digest, "holder": holder, "expires_at": now + seconds}
        for digest in digests
    ]
    connection.execute(insert(blob_marks), marks)
    return True


def withdraw(connection: Connection, kind: BlobKind, digests: Sequence[str], holder: str) -> None:
    """Delete the marks of ``holder`` after its bytes have rows or were removed."""
    connection.execute(
        delete(blob_marks).where(
            blob_marks.c.kind == kind.folder,
            blob_marks.c.sha256.in_(digests),
            blob_marks.c.holder == holder,
        )
    )


def begin_removal(
    connection: Connection, kind: BlobKind, digests: Sequence[str], seconds: float
) -> list[str]:
    """Mark as being removed, and return, those of ``digests`` that no row refers to and that no daemon is adding or
    removing.
    """
    now = clock(connection)
    condition = (blob_marks.c.kind == kind.folder) & blob_marks.c.sha256.in_(digests)
    connection.execute(delete(blob_marks).where(condition, blob_marks.c.expires_at <= now))
    marked_digests = {row.sha256 for row in connection.execute(select(blob_marks.c.sha256).where(condition))}
    going = [
        digest for digest in digests if digest not in marked_digests and not kind.is_held(connection, digest)
    ]
    if going:
        marks = [
            {"kind": kind.folder, "sha256": digest, "holder": REMOVING, "expires_at": now + seconds}
            for digest in going
        ]
        connection.execute(insert(blob_marks), marks)
    return going


def expired_digests(connection: Connection, kind: BlobKind, limit: int) -> list[str]:
    """Return digests whose marks have expired, because a daemon was killed or could not remove the bytes."""
    query = (
        select(blob_marks.c.sha256)
        .where(blob_marks.c.kind == kind.folder, blob_marks.c.expires_at <= clock(connection))
        .distinct()
        .limit(limit)
    )
    return [row.sha256 for row in connection.execute(query)]
