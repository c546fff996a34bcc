"""Uniqueness of names: each owner can use a name once. A shared object has no owner.

Deployed apps, the chat apps of stores, and models with their adapters and aliases share one namespace, which spans
several tables and which no unique index can cover. Code that writes a name into one table checks the others in the
same transaction: SQLite has one writer at a time, and PostgreSQL locks the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection, func, or_, select

from portico_server.core.errors import Conflict
from portico_server.db.schema import adapters, aliases, apps, models, stores

Kind: TypeAlias = Literal["app", "store", "model"]

T = TypeVar("T")


class Owned(Protocol):
    """A row with a name. ``owner`` is the key that owns the object; ``None`` means shared."""

    @property
    def name(self) -> str: ...
    @property
    def owner(self) -> str | None: ...


R = TypeVar("R", bound=Owned)


def claim_of(owner: str | None, name: str) -> str:
    """Return owner and name as one value for a unique column. An object without a name has null in this column, which
    is never a duplicate.
    """
    return f"{owner or ''}/{name}"


def own_or_shared(
    connection: Connection,
    find_by_name: Callable[[Connection, str, str | None], T | None],
    name: str,
    owner: str,
) -> T | None:
    """Return the object to which a key refers by a name: its own or, if none exists, the shared one. ``find_by_name``
    finds the object of one owner.
    """
    return find_by_name(connection, name, owner) or find_by_name(connection, name, None)


def as_meant(rs: Iterable[R], owner: str) -> list[R]:
    """Return a key's own rows and the shared rows, except shared rows with the name of one of the key's own rows."""
    rows = list(rs)
    own_names = {row.name for row in rows if row.owner == owner}
    return [row for row in rows if row.owner == owner or row.name not in own_names]


def lock(connection: Connection, name: str) -> None:
    """Lock a name against every other process until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


def holder(connection: Connection, owner: str | None, name: str, kind: Kind) -> str | None:
    """Return the kind of the object that already has the name for this owner or as a shared object, ignoring objects
    that a unique column already prevents; ``None`` if the name is free.

    A key's own object must not hide a shared object of any kind, including ``kind``.
    """
    lock(connection, name)
    claims = {claim_of(owner, name), claim_of(None, name)}
    own_claims = claims if owner is None else claims - {claim_of(owner, name)}
    in_apps = select(apps.c.id).where(apps.c.claim.in_(claims if kind != "app" else own_claims))
    in_stores = select(stores.c.id).where(
        stores.c.claim.in_(claims if kind != "store" else own_claims), stores.c.app.is_(True)
    )
    if (kind != "app" or owner is not None) and connection.execute(in_apps.limit(1)).first() is not None:
        return "app"
    if (kind != "store" or owner is not None) and connection.execute(in_stores.limit(1)).first() is not None:
        return "app"
    if kind == "model":
        return None
    for table, noun in ((models, "model"), (adapters, "model"), (aliases, "alias")):
        mine_too = table.c.name == name
        if table is not aliases:
            mine_too &= or_(table.c.owner.is_(None), table.c.owner == (owner or ""))
        if connection.execute(select(table.c.name).where(mine_too).limit(1)).first() is not None:
            return noun
    return None


def require_free(connection: Connection, owner: str | None, name: str, kind: Kind) -> None:
    """Raise `Conflict` if another object already has the name, see `holder`."""
    holder_kind = holder(connection, owner, name, kind)
    if holder_kind is not None:
        raise Conflict(
            f"The name '{name}' already belongs to {'an' if holder_kind[0] == 'a' else 'a'} {holder_kind}. "
            "Choose another name.",
            code="name_taken",
            param="name",
        )
