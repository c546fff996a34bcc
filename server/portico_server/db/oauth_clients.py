"""OAuth clients: programs that registered themselves, and programs with a metadata document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import Rows, database_time, may_have_another
from portico_server.db.schema import oauth_clients

HOUR_S: Final = 3_600.0

REGISTRATION_LIFE_S: Final = 86_400.0
"""Seconds for which a registered client exists before a person grants it access."""

CLIENT_LIFE_S: Final = 90 * 86_400.0
"""Seconds for which a client exists after a person last granted it access."""

MAX_REGISTRATIONS: Final = 60
"""Maximum number of clients that one network address can register in an hour."""

MAX_CLIENTS: Final = 10_000
"""Maximum number of clients."""


@dataclass(frozen=True, slots=True)
class ClientRow:
    """An OAuth client. The ``id`` of a client with a metadata document is the address of the document."""

    id: str
    name: str
    redirect_uris: Sequence[str]
    address: str
    created_at: float


_CLIENTS = Rows(oauth_clients, ClientRow)


def register(connection: Connection, row: ClientRow) -> bool:
    """Store a new client, and delete expired clients. Return false if its address, or the daemon, has too many."""
    current_time = database_time(connection)
    is_unused = oauth_clients.c.granted_at.is_(None) & (
        oauth_clients.c.created_at < current_time - REGISTRATION_LIFE_S
    )
    connection.execute(
        delete(oauth_clients).where(is_unused | (oauth_clients.c.granted_at < current_time - CLIENT_LIFE_S))
    )
    recent = (oauth_clients.c.address == row.address, oauth_clients.c.created_at > current_time - HOUR_S)
    if not may_have_another(connection, MAX_REGISTRATIONS, *recent):
        return False
    if not may_have_another(connection, MAX_CLIENTS, oauth_clients.c.id.is_not(None)):
        return False
    _CLIENTS.add(connection, row)
    return True


def get(connection: Connection, client_id: str) -> ClientRow | None:
    """Return the client with this id, or ``None``."""
    return _CLIENTS.get(connection, client_id)


def grant(connection: Connection, row: ClientRow) -> None:
    """Record that a person grants access to a client. A client with a metadata document is stored now."""
    values = {
        "name": row.name,
        "redirect_uris": list(row.redirect_uris),
        "granted_at": database_time(connection),
    }
    statement = update(oauth_clients).where(oauth_clients.c.id == row.id).values(**values)
    if connection.execute(statement).rowcount == 0:
        _CLIENTS.add(connection, row, granted_at=values["granted_at"])
