"""Public links: copies of sessions, and the hashes of the secrets with which anyone can read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete
from sqlalchemy.exc import IntegrityError

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.db.rows import Rows, database_time, json_bytes, may_have_another, text_bytes
from portico_server.db.schema import public_links


@dataclass(frozen=True, slots=True)
class PublicLinkRow:
    """A public link. ``owner`` is the key that created it. Times are in seconds since 1970."""

    id: str
    session_id: str
    owner: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class PublicSessionRow(PublicLinkRow):
    """A public link with the copy of its session."""

    title: str
    messages: Sequence[Mapping[str, Any]]


_LINKS = Rows(public_links, PublicLinkRow)
_COPIES = Rows(public_links, PublicSessionRow)


def add(connection: Connection, row: PublicSessionRow, secret_hash: str, limit: int) -> bool:
    """Store a new link, and delete all expired links. Return false if the owner already has ``limit`` links. Raises
    `NotFound` if the session no longer exists.
    """
    connection.execute(delete(public_links).where(public_links.c.expires_at <= database_time(connection)))
    if not may_have_another(connection, limit, public_links.c.owner == row.owner):
        return False
    size = json_bytes(row.messages) + text_bytes(row.title)
    try:
        _COPIES.add(connection, row, hash=secret_hash, bytes=size)
    except IntegrityError as error:
        raise NotFound(
            f"The session '{row.session_id}' does not exist.", code="session_not_found", param="id"
        ) from error
    return True


def of_session(connection: Connection, session_id: str) -> Sequence[PublicLinkRow]:
    """Return the valid links of a session, oldest first."""
    query = _LINKS.select.where(
        public_links.c.session_id == session_id, public_links.c.expires_at > database_time(connection)
    )
    return _LINKS.every(connection, query.order_by(public_links.c.created_at, public_links.c.id))


def by_hash(connection: Connection, secret_hash: str) -> PublicSessionRow | None:
    """Return the valid link whose secret has this hash, or ``None``."""
    query = _COPIES.select.where(
        public_links.c.hash == secret_hash, public_links.c.expires_at > database_time(connection)
    )
    return _COPIES.first(connection, query)


def remove(connection: Connection, session_id: str, link_id: str) -> bool:
    """Delete a link of a session; return whether it existed."""
    statement = delete(public_links).where(
        public_links.c.session_id == session_id, public_links.c.id == link_id
    )
    return connection.execute(statement).rowcount > 0
