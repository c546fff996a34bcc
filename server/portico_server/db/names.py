"""What makes a name unique: one owner has it once, and what is shared has no owner.

Deployed apps, the chat apps of stores, and models with their adapters and aliases are one namespace over several
tables, which no unique index spans. Whoever writes a name into one of them looks into the others in the same
transaction: SQLite has one writer at a time, and PostgreSQL a lock on the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection, func, or_, select

from portico_server.core.errors import Conflict
from portico_server.db.schema import adapters, aliases, apps, models, stores

Kind: TypeAlias = Literal["app", "store", "model"]

T = TypeVar("T")
Reader = TypeVar("Reader")
"""What reads the database: a connection, or its driver for `Database.read_now`."""


class Owned(Protocol):
    """A row with a name. ``owner`` is the key whose name it is, ``None``: shared."""

    @property
    def name(self) -> str: ...
    @property
    def owner(self) -> str | None: ...


R = TypeVar("R", bound=Owned)


def claim_of(owner: str | None, name: str) -> str:
    """Owner and name as one value of a unique column. Null there holds no name, as in every database."""
    return f"{owner or ''}/{name}"


def own_or_shared(
    reader: Reader, find_by_name: Callable[[Reader, str, str | None], T | None], name: str, owner: str
) -> T | None:
    """What a key means by a name: its own thing, then the shared one. ``find_by_name`` finds that of one owner."""
    return find_by_name(reader, name, owner) or find_by_name(reader, name, None)


def as_meant(rs: Iterable[R], owner: str) -> list[R]:
    """The rows of a key and the shared ones, without those before which the key has its own of the same name."""
    rows = list(rs)
    own_names = {row.name for row in rows if row.owner == owner}
    return [row for row in rows if row.owner == owner or row.name not in own_names]


def lock(connection: Connection, name: str) -> None:
    """Let nobody else, in whatever process, give this name until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


def holder(connection: Connection, owner: str | None, name: str, kind: Kind) -> str | None:
    """What else than a ``kind`` has the name already, of this owner or shared; ``None`` if it is free.

    A key's own thing may not stand before a shared one of any kind, its own included.
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
    """Raise `Conflict` if `holder` finds something."""
    holder_kind = holder(connection, owner, name, kind)
    if holder_kind is not None:
        raise Conflict(
            f"The name '{name}' belongs to {'an' if holder_kind[0] == 'a' else 'a'} {holder_kind} here. "
            "Choose another name.",
            code="name_taken",
            param="name",
        )
