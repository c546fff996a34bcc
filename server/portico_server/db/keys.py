"""API keys: rows with the hash of a secret, never the secret. Users who sign in through an issuer have rows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from importlib import import_module
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import grants, sign_ins
from portico_server.db.enforcement import require_enforced
from portico_server.db.schema import keys


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key. ``hash`` is the secret's SHA-256 in hexadecimal, ``hint`` the last four characters of the secret.

    ``limits`` have the form that `portico_server.core.limits.UsageLimits` writes; ``filters`` maps stores, by name or
    id, to filters on file attributes, in the form that requests use. ``groups`` are the groups of the key at the
    sources of stores. The row of an identity has an ``issuer`` and a ``subject``, and a ``hash`` that no secret can
    have; ``signed_in_at`` is when its newest token was issued, and ``blocked_at`` is when it was blocked.
    """

    id: str
    name: str
    hash: str
    hint: str
    scopes: tuple[str, ...]
    created_at: float
    limits: Mapping[str, int] = field(default_factory=dict)
    filters: Mapping[str, Any] = field(default_factory=dict)
    issuer: str = ""
    subject: str = ""
    signed_in_at: float | None = None
    blocked_at: float | None = None
    groups: tuple[str, ...] = ()


def add(connection: Connection, row: KeyRow) -> None:
    """Insert a new key. Raise `Conflict` if an older daemon ignores its filters."""
    if row.filters:
        require_enforced(connection, "filters")
    connection.execute(insert(keys).values(_values(row)))


def sign_in(connection: Connection, row: KeyRow) -> bool:
    """Store the permissions from an identity's token, unless a newer token was used. Return false if the identity was
    revoked.

    An older daemon does not prevent a sign-in: it takes the filters of a role from its own configuration file.
    """
    new: Any = (
        import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(keys).values(_values(row))
    )
    new_values = {
        name: new.excluded[name] for name in ("name", "scopes", "limits", "filters", "groups", "signed_in_at")
    }
    newer = keys.c.revoked_at.is_(None) & (keys.c.signed_in_at <= new.excluded.signed_in_at)
    connection.execute(new.on_conflict_do_update(index_elements=[keys.c.id], set_=new_values, where=newer))
    return connection.execute(select(keys.c.revoked_at).where(keys.c.id == row.id)).scalar() is None


def _values(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "hash": row.hash,
        "hint": row.hint,
        "scopes": list(row.scopes),
        "created_at": row.created_at,
        "limits": dict(row.limits) or None,
        "filters": dict(row.filters) or None,
        "groups": list(row.groups) or None,
        "issuer": row.issuer or None,
        "subject": row.subject or None,
        "signed_in_at": row.signed_in_at,
    }


def living(connection: Connection) -> Sequence[KeyRow]:
    """Return all keys that are not revoked, oldest first."""
    return _rows(connection, keys.c.revoked_at.is_(None))


def blocked_identities(connection: Connection) -> Sequence[KeyRow]:
    """Return the blocked identities, whose tokens are all rejected."""
    return _rows(connection, _is_blocked())


def _is_blocked() -> ColumnElement[bool]:
    return keys.c.revoked_at.is_not(None) & keys.c.issuer.is_not(None)


def _rows(connection: Connection, condition: ColumnElement[bool]) -> Sequence[KeyRow]:
    rows = connection.execute(select(keys).where(condition).order_by(keys.c.created_at))
    return [
        KeyRow(
            row.id,
            row.name,
            row.hash,
            row.hint,
            tuple(row.scopes),
            row.created_at,
            row.limits or {},
            row.filters or {},
            row.issuer or "",
            row.subject or "",
            row.signed_in_at,
            row.revoked_at,
            tuple(row.groups or ()),
        )
        for row in rows
    ]


def change(
    connection: Connection,
    key_id: str,
    scopes: Sequence[str] | None = None,
    filters: Mapping[str, Any] | None = None,
    limits: Mapping[str, int] | None = None,
    groups: Sequence[str] | None = None,
) -> bool:
    """Change those of the scopes, filters, limits and groups of a key that are not ``None``; return whether an active
    key was changed. Raise `Conflict` if an older daemon ignores the new filters.
    """
    if filters:
        require_enforced(connection, "filters")
    values: dict[str, Any] = {} if scopes is None else {"scopes": list(scopes)}
    if filters is not None:
        values["filters"] = dict(filters) or None
    if limits is not None:
        values["limits"] = dict(limits) or None
    if groups is not None:
        values["groups"] = list(groups) or None
    living = (keys.c.id == key_id, keys.c.revoked_at.is_(None))
    return connection.execute(update(keys).where(*living).values(values)).rowcount > 0


def revoke(connection: Connection, key_id: str, now: float) -> bool:
    """Revoke a key; return whether it was active. The row remains, so that the key's objects keep their owner."""
    result = connection.execute(
        update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now)
    )
    sign_ins.end_all(connection, key_id)
    grants.end_all(connection, key_id)
    return result.rowcount > 0


def unblock(connection: Connection, key_id: str) -> bool:
    """Unblock an identity, which has no permissions until it signs in again. Return whether it was blocked."""
    values: dict[str, Any] = {"revoked_at": None, "scopes": []}
    result = connection.execute(update(keys).where(keys.c.id == key_id, _is_blocked()).values(values))
    sign_ins.end_all(connection, key_id)  # ends sign-ins that date from before the unblocking
    return result.rowcount > 0
