"""Grants: the access that a person has given to an OAuth client, with the hashes of its code and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import oauth_clients
from portico_server.db.oauth_clients import ClientRow
from portico_server.db.rows import Rows, database_time
from portico_server.db.schema import grants

CODE_LIFE_S: Final = 60.0
"""Seconds within which a client must exchange its code for tokens."""

ACCESS_LIFE_S: Final = 3_600.0
"""Seconds for which an access token is valid."""

GRANT_LIFE_S: Final = 30 * 86_400.0
"""Seconds for which a refresh token is valid. A grant ends if the client does not refresh within this time."""

MAX_PER_OWNER: Final = 50
"""Maximum number of grants of one person; a further grant replaces the grant that was refreshed longest ago."""


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant. ``name`` is that of the client; ``owner`` is the key of the person. ``audience`` is the address of the
    resource at which the access token is valid. Times are in seconds since 1970.

    The hashes of the tokens are ``None`` until the client has exchanged its code. All refresh tokens of a grant share
    the part with the ``family_hash``; only the newest of them has the ``refresh_hash``.
    """

    id: str
    name: str
    client_id: str
    owner: str
    scopes: Sequence[str]
    audience: str
    redirect_uri: str
    challenge: str
    code_hash: str
    created_at: float
    issued_at: float
    access_hash: str | None = None
    expires_at: float | None = None
    family_hash: str | None = None
    refresh_hash: str | None = None


@dataclass(frozen=True, slots=True)
class TokenHashes:
    """The hashes of newly issued tokens."""

    access: str
    family: str
    refresh: str


_GRANTS = Rows(grants, GrantRow)


def add(connection: Connection, row: GrantRow, client: ClientRow) -> Sequence[str]:
    """Store a new grant whose code waits to be exchanged. Return the ids of the grants that have
    expired, and of the grants that it replaces.
    """
    current_time = database_time(connection)
    is_expired = or_(
        grants.c.issued_at < current_time - GRANT_LIFE_S,
        grants.c.access_hash.is_(None) & (grants.c.issued_at < current_time - CODE_LIFE_S),
    )
    newest = select(grants.c.id).where(grants.c.owner == row.owner).order_by(grants.c.issued_at.desc())
    ended_ids = [
        *connection.execute(select(grants.c.id).where(is_expired)).scalars(),
        *connection.execute(newest.offset(MAX_PER_OWNER - 1)).scalars(),
    ]
    connection.execute(delete(grants).where(grants.c.id.in_(ended_ids)))
    oauth_clients.grant(connection, client)
    _GRANTS.add(connection, row)
    return ended_ids


def living(connection: Connection) -> Sequence[GrantRow]:
    """Return all grants that have tokens, oldest first."""
    since = database_time(connection) - GRANT_LIFE_S
    query = _GRANTS.select.where(grants.c.access_hash.is_not(None), grants.c.issued_at > since)
    return _GRANTS.every(connection, query.order_by(grants.c.created_at, grants.c.id))


def get(connection: Connection, grant_id: str) -> GrantRow | None:
    """Return the grant with this id, or ``None``."""
    return _GRANTS.get(connection, grant_id)


def by_code(connection: Connection, code_hash: str) -> GrantRow | None:
    """Return the grant whose code has this hash, even if the code was exchanged or has expired."""
    return _GRANTS.first(connection, _GRANTS.select.where(grants.c.code_hash == code_hash))


def by_access(connection: Connection, access_hash: str) -> GrantRow | None:
    """Return the grant whose access token has this hash, or ``None``."""
    return _GRANTS.first(connection, _GRANTS.select.where(grants.c.access_hash == access_hash))


def by_family(connection: Connection, family_hash: str) -> GrantRow | None:
    """Return the grant whose refresh tokens share the part with this hash, or ``None``."""
    return _GRANTS.first(connection, _GRANTS.select.where(grants.c.family_hash == family_hash))


def issue(
    connection: Connection, row: GrantRow, hashes: TokenHashes, scopes: Sequence[str]
) -> GrantRow | None:
    """Store new tokens of a grant, in place of the tokens in ``row``, and return its new row. Return ``None`` if other
    tokens were issued in the meantime, or if the grant has ended.
    """
    current_time = database_time(connection)
    is_unchanged = (
        grants.c.refresh_hash.is_(None)
        if row.refresh_hash is None
        else grants.c.refresh_hash == row.refresh_hash
    )
    values = {
        "access_hash": hashes.access,
        "expires_at": current_time + ACCESS_LIFE_S,
        "family_hash": hashes.family,
        "refresh_hash": hashes.refresh,
        "issued_at": current_time,
        "scopes": list(scopes),
    }
    statement = update(grants).where(grants.c.id == row.id, is_unchanged).values(**values)
    return get(connection, row.id) if connection.execute(statement).rowcount else None


def end(connection: Connection, grant_id: str) -> bool:
    """Delete a grant; return whether it existed."""
    return connection.execute(delete(grants).where(grants.c.id == grant_id)).rowcount > 0


def end_all(connection: Connection, owner: str) -> None:
    """Delete all grants of a person."""
    connection.execute(delete(grants).where(grants.c.owner == owner))
