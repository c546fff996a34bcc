"""Browsers in which a user is signed in: the hash of the browser's secret, and the tokens, which can be decrypted only
with that secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import sign_ins


@dataclass(frozen=True, slots=True)
class SignInRow:
    """A sign-in. ``hash`` is the SHA-256 of the browser's secret in hexadecimal. ``sealed`` contains the tokens,
    encrypted with a key derived from that secret. ``renewals`` counts how often the tokens were renewed. Times are
    in seconds since 1970.
    """

    hash: str
    owner: str
    issuer: str
    sealed: str = field(repr=False)
    renewals: int
    used_at: float


def add(connection: Connection, row: SignInRow, idle_s: float, limit: int) -> Sequence[str]:
    """Store a new sign-in, and delete sign-ins that have been idle for ``idle_s`` seconds.

    If the owner has more than ``limit`` sign-ins, deletes the ones unused for the longest time, and returns their
    hashes.
    """
    now = clock(connection)
    connection.execute(delete(sign_ins).where(sign_ins.c.used_at < now - idle_s))
    query = select(sign_ins.c.hash).where(sign_ins.c.owner == row.owner).order_by(sign_ins.c.used_at.desc())
    over = connection.execute(query.offset(limit - 1)).scalars().all()
    if over:
        connection.execute(delete(sign_ins).where(sign_ins.c.hash.in_(over)))
    values = {"hash": row.hash, "owner": row.owner, "issuer": row.issuer, "sealed": row.sealed}
    times = {"created_at": now, "used_at": now, "renewing_until": 0.0}
    connection.execute(insert(sign_ins).values(**values, **times, renewals=0))
    return over


def get(connection: Connection, row_hash: str, idle_s: float) -> SignInRow | None:
    """Return the sign-in with this hash, or ``None`` if it does not exist or has been idle for ``idle_s`` seconds."""
    row = connection.execute(select(sign_ins).where(sign_ins.c.hash == row_hash)).first()
    if row is None or row.used_at < clock(connection) - idle_s:
        return None
    return SignInRow(row.hash, row.owner, row.issuer, row.sealed, row.renewals, row.used_at)


def use(connection: Connection, row_hash: str) -> bool:
    """Record the use of a sign-in; return whether it exists."""
    now = clock(connection)
    result = connection.execute(update(sign_ins).where(sign_ins.c.hash == row_hash).values(used_at=now))
    return result.rowcount > 0


def begin_renewal(connection: Connection, row_hash: str, renewals: int, seconds: float) -> bool:
    """Claim the renewal of a sign-in's tokens for a number of seconds; return whether the claim succeeded."""
    now = clock(connection)
    conditions = (
        sign_ins.c.hash == row_hash,
        sign_ins.c.renewals == renewals,
        sign_ins.c.renewing_until <= now,
    )
    result = connection.execute(update(sign_ins).where(*conditions).values(renewing_until=now + seconds))
    return result.rowcount > 0


def end_renewal(connection: Connection, row_hash: str, sealed_tokens: str | None) -> bool:
    """End a renewal. Without new tokens, another daemon may try again. Returns false if the sign-in does not exist."""
    values: dict[str, Any] = {"renewing_until": 0.0}
    if sealed_tokens is not None:
        values |= {"sealed": sealed_tokens, "renewals": sign_ins.c.renewals + 1}
    return (
        connection.execute(update(sign_ins).where(sign_ins.c.hash == row_hash).values(**values)).rowcount > 0
    )


def end(connection: Connection, row_hash: str) -> bool:
    """Delete a sign-in; return whether it existed."""
    return connection.execute(delete(sign_ins).where(sign_ins.c.hash == row_hash)).rowcount > 0


def end_all(connection: Connection, owner: str) -> None:
    """Delete all sign-ins of a user."""
    connection.execute(delete(sign_ins).where(sign_ins.c.owner == owner))
