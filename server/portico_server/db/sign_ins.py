"""Browsers in which somebody is signed in: the hash of what a browser holds, and the tokens, which that alone opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import now as clock
from portico_server.db.schema import sign_ins


@dataclass(frozen=True, slots=True)
class SignInRow:
    """One sign-in. ``hash`` is SHA-256 of the browser's secret in hexadecimal; ``sealed`` holds the tokens, encrypted
    with a key made of that secret. ``renewals`` counts how often they were renewed. Times are in seconds since 1970.
    """

    hash: str
    owner: str
    issuer: str
    sealed: str = field(repr=False)
    renewals: int
    used_at: float


def add(connection: Connection, row: SignInRow, idle_s: float, most: int) -> Sequence[str]:
    """Write a new one, and forget those that nobody has used for so long; the hashes of the owner's that make way, the
    longest unused first, so that ``most`` remain.
    """
    now = clock(connection)
    connection.execute(delete(sign_ins).where(sign_ins.c.used_at < now - idle_s))
    theirs = select(sign_ins.c.hash).where(sign_ins.c.owner == row.owner).order_by(sign_ins.c.used_at.desc())
    over = connection.execute(theirs.offset(most - 1)).scalars().all()
    if over:
        connection.execute(delete(sign_ins).where(sign_ins.c.hash.in_(over)))
    values = {"hash": row.hash, "owner": row.owner, "issuer": row.issuer, "sealed": row.sealed}
    times = {"created_at": now, "used_at": now, "renewing_until": 0.0}
    connection.execute(insert(sign_ins).values(**values, **times, renewals=0))
    return over


def get(connection: Connection, hashed: str, idle_s: float) -> SignInRow | None:
    """The one with this hash, unless nobody has used it for so long."""
    row = connection.execute(select(sign_ins).where(sign_ins.c.hash == hashed)).first()
    if row is None or row.used_at < clock(connection) - idle_s:
        return None
    return SignInRow(row.hash, row.owner, row.issuer, row.sealed, row.renewals, row.used_at)


def use(connection: Connection, hashed: str) -> bool:
    """Note that one is used now; whether it is there."""
    now = clock(connection)
    changed = connection.execute(update(sign_ins).where(sign_ins.c.hash == hashed).values(used_at=now))
    return changed.rowcount > 0


def begin_renewal(connection: Connection, hashed: str, renewals: int, seconds: float) -> bool:
    """Whether the caller is the one daemon that renews the tokens now, for so long."""
    now = clock(connection)
    mine = (
        sign_ins.c.hash == hashed,
        sign_ins.c.renewals == renewals,
        sign_ins.c.renewing_until <= now,
    )
    changed = connection.execute(update(sign_ins).where(*mine).values(renewing_until=now + seconds))
    return changed.rowcount > 0


def renewed(connection: Connection, hashed: str, sealed: str | None) -> bool:
    """End a renewal: with new tokens, or with none, and then another daemon may try. False if there is none."""
    values: dict[str, Any] = {"renewing_until": 0.0}
    if sealed is not None:
        values |= {"sealed": sealed, "renewals": sign_ins.c.renewals + 1}
    return connection.execute(update(sign_ins).where(sign_ins.c.hash == hashed).values(**values)).rowcount > 0


def end(connection: Connection, hashed: str) -> bool:
    """Forget one; whether it was there."""
    return connection.execute(delete(sign_ins).where(sign_ins.c.hash == hashed)).rowcount > 0


def end_all(connection: Connection, owner: str) -> None:
    """Forget all of somebody."""
    connection.execute(delete(sign_ins).where(sign_ins.c.owner == owner))
