"""Marks of bytes in a bucket: they are coming and have no row yet, or they are being removed.

Nothing is asked of the bucket within a transaction: a mark keeps other daemons from what is between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import now as clock
from portico_server.db.schema import blob_marks

REMOVING: Final = ""
"""The holder of the mark of bytes that are being removed."""


@dataclass(frozen=True, slots=True)
class BlobKind:
    """What bytes are kept for. ``folder`` names their place, ``is_held`` says whether a row stands for them."""

    folder: str
    is_held: Callable[[Connection, str], bool]
    whole: bool
    """Whether their name repeats the two digits that name the folder they are in."""

    def path(self, sha256: str) -> str:
        """Where bytes lie in the folder."""
        return f"{sha256[:2]}/{sha256 if self.whole else sha256[2:]}"

    def name(self, sha256: str) -> str:
        """Where bytes lie, with the name of the folder."""
        return f"{self.folder}/{self.path(sha256)}"


def announce(
    connection: Connection, kind: BlobKind, digests: Sequence[str], holder: str, seconds: float
) -> bool:
    """Keep everybody from removing what ``holder`` is about to bring. False, and nothing is noted, if some of it is
    being removed just now.
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
    """Forget the marks of ``holder``: what it brought has rows, or is removed."""
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
    """Mark those of ``digests`` as being removed for which no row stands, which nobody brings and nobody removes."""
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


def expired(connection: Connection, kind: BlobKind, limit: int) -> list[str]:
    """Digests with a mark of a daemon that was killed, or that could not remove them."""
    query = (
        select(blob_marks.c.sha256)
        .where(blob_marks.c.kind == kind.folder, blob_marks.c.expires_at <= clock(connection))
        .distinct()
        .limit(limit)
    )
    return [row.sha256 for row in connection.execute(query)]
